"""``benchmarks/peers.py`` without what must be fetched: its peers run by this Python, and what cannot be installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def contest(monkeypatch):
    """The module, its environments being this Python."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import contest

    monkeypatch.setattr(contest, "ready", lambda environment, folder: Path(sys.executable))
    monkeypatch.setattr(contest, "size_mb", lambda python: 1.0)
    return contest


@pytest.fixture
def make_peer(contest):
    """Make a peer."""
    from environments import Environment

    return lambda name, *command, **more: contest.Peer(name, "of a test", Environment(name, ()), command, **more)


def test_peers_are_scored_and_timed_by_one_code(contest, make_peer, tiny_dataset, model_path, tmp_path):
    from cellseg_device.model.interpreter import Model
    from cellseg_host.evaluation import evaluate

    peers = [make_peer("cellseg", "run_cellseg.py", str(model_path)), make_peer("Otsu", "run_otsu.py")]
    peers += [make_peer("broken", "run_cellseg.py", str(tmp_path / "none.tflite"))]
    entries = tiny_dataset.split("val")
    found = contest.Contest(peers, tmp_path, tmp_path / "work")
    found.score(tiny_dataset, entries, 1)
    found.time(tiny_dataset.root / "images" / f"{entries[0].id}.png", 1, 2)

    assert list(found.reached) == ["cellseg", "Otsu"]
    assert list(found.left_out) == ["broken"]
    assert "none.tflite" in found.left_out["broken"]
    as_evaluated = evaluate.by_group(list(evaluate.evaluate(Model(model_path), tiny_dataset, entries)))
    assert found.reached["cellseg"]["accuracy"] == {group: vars(s) for group, s in as_evaluated.items()}
    assert 0 < found.reached["Otsu"]["accuracy"]["all"]["mean_iou"] < 1
    ours, otsu = (found.reached[name]["threads"]["1"] for name in ("cellseg", "Otsu"))
    assert ours["times_first"] == 1
    assert 0 < ours["network_seconds"] < ours["seconds"]
    assert "network_seconds" not in otsu
    assert 20 < otsu["peak_rss_mb"] < 500


def test_otsu_finds_bright_and_dark_squares(monkeypatch, draw_labels):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from contest import numbered
    from runners.otsu import otsu_labels

    from cellseg_host.evaluation import metrics

    apart = np.where(draw_labels(step=28) > 0, 200, 20).astype(np.uint8)
    for grey in (apart, 255 - apart):
        labels = numbered(otsu_labels(np.repeat(grey[..., None], 3, axis=2)))
        assert metrics.two_class_iou(apart > 100, labels > 0) > 0.8
        assert labels.max() > 1


def test_numbered_closes_gaps(contest):
    labels = np.array([[0, 7, 7], [3, 0, 60000]], np.uint16)
    assert contest.numbered(labels).tolist() == [[0, 2, 2], [1, 0, 3]]
    assert contest.numbered(np.zeros((0, 4), np.uint16)).shape == (0, 4)


def test_timed_takes_the_ratio_of_each_round(contest):
    def answers(*ms):
        return [{"ms": m, "network_ms": m / 2, "cells": 3, "peak_rss_mb": m} for m in ms]

    timing = contest.timed(answers(1000, 8000, 3000), answers(100, 400, 1000))
    assert timing == {"seconds": 3.0, "network_seconds": 1.5, "times_first": 10.0, "peak_rss_mb": 8000.0}
    alone = [{"ms": 500.0, "network_ms": 400.0, "peak_rss_mb": 9.0}]
    assert contest.timed(alone, None) == {"seconds": 0.4, "network_seconds": 0.4, "peak_rss_mb": 9.0}


def _write_wheel(folder: Path, version: str) -> Path:
    """A package of one module."""
    path, info = folder / f"lone-{version}-py3-none-any.whl", f"lone-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("lone.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: lone\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_an_environment_is_made_once_and_anew_for_other_requirements(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from environments import Environment, ready, size_mb

    def version(python: Path) -> str:
        command = [python, "-c", "import lone, numpy; print(lone.version)"]
        assert "No module named 'numpy'" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
        command[2] = "import lone; print(lone.version)"
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    first, second = (_write_wheel(tmp_path, v) for v in ("1.0", "2.0"))
    python = ready(Environment("lone", (str(first),)), tmp_path)
    assert version(python) == "1.0"
    assert 0 < size_mb(python) < 0.1
    left = python.parent / "left-by-this-test"
    left.touch()
    assert ready(Environment("lone", (str(first),)), tmp_path) == python
    assert left.exists()
    assert version(ready(Environment("lone", (str(second),)), tmp_path)) == "2.0"
    assert not left.exists()


def test_a_peer_that_cannot_be_installed_is_left_out_with_its_reason(environment, tiny_dataset, tmp_path):
    nowhere = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": (tmp_path / "no-index").as_uri(),
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
    }
    command = [sys.executable, BENCHMARKS / "peers.py", tiny_dataset.root, "--peer", "otsu", "--peer", "cellpose"]
    command += ["--environments", tmp_path / "environments", "--work", tmp_path / "work", "--out", tmp_path]
    result = subprocess.run(
        list(map(str, command)), env=environment | nowhere, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 2
    assert "Otsu + watershed is left out: not installed: Could not find a version" in result.stdout
    assert "Cellpose 3 is left out: not installed: Could not find a version that satisfies" in result.stdout
    assert result.stderr.strip() == "error: no peer could take part, for the reasons above: nothing is written"
    assert not (tmp_path / "peers.json").exists()


def test_the_page_has_all_and_is_replaced(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peers_page

    accuracy = {
        "images": 3,
        "ap50": 0.81,
        "mean_ap": 0.5,
        "mean_iou": 0.9,
        "total_count_error": 0.034,
        "image_count_error": 0.05,
    }
    quick = {"seconds": 0.05, "network_seconds": 0.04, "times_first": 1.0, "peak_rss_mb": 150.0}
    slow = {"seconds": 48.8, "network_seconds": 48.8, "times_first": 976.0, "peak_rss_mb": 1500.0}
    shared = {"about": "made for this", "versions": {"a": "1.0", "runtime": "b 2"}}
    document = {
        "made": "2026-01-01",
        "command": "python benchmarks/peers.py data",
        "hardware": {"model": "a board", "machine": "aarch64", "cores": 4},
        "accuracy_on": {"dataset": "data", "split": "val", "images": 6, "cells": 1234},
        "field": "a field",
        "threads": [1],
        "rounds": 5,
        "peers": {
            "ours": shared
            | {"install_mb": 300.0, "threads": {"1": quick}, "cells_in_field": 500}
            | {"accuracy": {"all": accuracy, "bright": accuracy, "dark": accuracy | {"ap50": 0.4}}},
            "network": shared | {"install_mb": 1550.2, "threads": {"1": slow}, "cells_in_field": None},
        },
        "left_out": {"absent": "not installed: no such thing"},
    }
    section = peers_page.section(json.loads(json.dumps(document)))
    for line in (
        "| ours | 0.810 | 0.500 | 0.900 | 3.4% | 5.0% | 300 |",
        "| network | – | – | – | – | – | 1,550 |",
        "| AP@0.5 | bright (3) | dark (3) |",
        "| ours | 0.810 | 0.400 |",
        "| ours | 0.05 | 0.04 | 1 | 150 |",
        "| network | network alone | 48.8 | ≥ 976 | 1,500 |",
        "- **network**: made for this (a 1.0, b 2).",
        "- **absent** is left out: not installed: no such thing.",
    ):
        assert line in section.splitlines()
    page = peers_page.placed("# Title\n\nText.\n", section)
    assert page.startswith("# Title\n\nText.\n\n<!--")
    again = peers_page.placed(page + "\nAfter.\n", "new\n")
    assert "absent" not in again
    assert again.endswith("-->\n\nAfter.\n")
    assert peers_page.placed(again, section) == page + "\nAfter.\n"
