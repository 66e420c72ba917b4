"""``cellseg-host evaluate`` as a user runs it."""

import csv
import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from pages import check_page, needs_browser, shown_in_browser

from cellseg_host.cli import main
from cellseg_host.commands.evaluate import evaluate
from cellseg_host.data.dataset import Entry, load, write_manifest


def run(*arguments):
    result = CliRunner().invoke(evaluate, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def cells_of(line):
    return [cell.strip() for cell in line.strip("│").split("│")]


@pytest.fixture
def empty_dataset(tmp_path):
    """One image that shows no cell."""
    for folder, image in (("images", np.full((64, 96), 20, np.uint8)), ("labels", np.zeros((64, 96), np.uint16))):
        (tmp_path / "data" / folder).mkdir(parents=True)
        assert cv2.imwrite(str(tmp_path / "data" / folder / "i.png"), image)
    write_manifest(tmp_path / "data", [Entry("i", "s", "test", "m", "m", 64, 96, 0, 0.0)])
    return tmp_path / "data"


def test_text_json_and_files_say_the_same(model_path, tiny_dataset, tmp_path):
    out = tmp_path / "evaluation"
    document = json.loads(run(model_path, tiny_dataset.root, "--out", out, "--json"))
    assert document == json.loads((out / "summary.json").read_text())
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:6] == ["id", "set", "modality", "cells_true", "cells_counted", "cells_matched"]
    summary = document["summary"]["all"]
    true, counted, matched = (summary[f"cells_{key}"] for key in ("true", "counted", "matched"))
    assert (true, counted, matched) == tuple(
        sum(int(r[f"cells_{key}"]) for r in rows) for key in ("true", "counted", "matched")
    )
    assert 0 < matched <= counted
    assert (summary["precision"], summary["recall"]) == (matched / counted, matched / true)
    errors = [abs(int(r["count_error"])) / int(r["cells_true"]) for r in rows]
    assert summary["mean_count_error"] == pytest.approx(np.mean(errors))
    table = run(model_path, tiny_dataset.root).splitlines()
    head = next(line for line in table if "counted" in line and "matched" in line and "F1" in line)
    assert "count error" in head
    assert "count error per image" in head
    shown = [cells_of(line) for line in table if line.startswith("│ all ")]
    assert len(shown) == 2
    rates = [f"{summary[key]:.3f}" for key in ("precision", "recall", "f1")]
    both = [f"{summary[key]:.1%}" for key in ("total_count_error", "mean_count_error")]
    assert shown[1] == ["all", str(true), str(counted), str(matched), *rates, *both]


def test_without_a_cell_shares_are_undefined_and_not_zero(model_path, empty_dataset, tmp_path):
    summary = json.loads(run(model_path, empty_dataset, "--out", tmp_path / "out", "--json"))["summary"]["all"]
    assert summary["ap50"] == 1
    assert summary["cells_counted"] == 0
    for key in ("precision", "recall", "f1", "mean_count_error"):
        assert summary[key] is None
    rows = [cells_of(line) for line in run(model_path, empty_dataset).splitlines() if line.startswith("│ all ")]
    assert rows[1] == ["all", "0", "0", "0", "–", "–", "–", "0.0%", "–"]
    assert (tmp_path / "out" / "scores.csv").read_text().splitlines()[1].startswith("i,s,m,0,0,0,")


@pytest.fixture(scope="module")
def folder(model_path, tiny_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "evaluation"
    assert f"report: {out / 'index.html'}\n" in run(model_path, tiny_dataset.root, "--out", out)
    return out


def test_the_page_begins_with_a_verdict_and_leads_to_the_files(folder, tiny_dataset):
    assert {p.name for p in folder.iterdir()} == {"index.html", "scores.csv", "summary.json", "gallery.jpg"}
    text = (folder / "index.html").read_text()
    page = check_page(text, ["scores.csv", "summary.json", "gallery.jpg"])
    first = text.split('<p class="verdict">')[1].split("</p>")[0]
    summary = json.loads((folder / "summary.json").read_text())["summary"]["all"]
    assert first.startswith("The int8 model nuclei finds ")
    assert f"AP@0.5 is {summary['ap50']:.2f} (" in first
    assert "orange, every true cell" in text
    for entry in tiny_dataset.split("test"):
        assert f'<th scope="row" title="{entry.id}">' in text
    assert len(page.images) == 3 * len(tiny_dataset.split("test")) + 1


def test_the_verdict_is_printed_but_not_into_json(model_path, tiny_dataset, folder, tmp_path):
    text = run(model_path, tiny_dataset.root, "--out", tmp_path)
    first = (folder / "index.html").read_text().split('<p class="verdict">')[1].split("</p>")[0]
    assert f"\n{first}\n" in text
    json.loads(run(model_path, tiny_dataset.root, "--out", tmp_path, "--json"))


def test_a_page_without_a_cell(model_path, empty_dataset, tmp_path):
    run(model_path, empty_dataset, "--out", tmp_path / "out")
    assert "rightly counts none in images without a cell" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_the_page(folder, tmp_path, width):
    """It is not wider than a telephone, where tables are moved by the finger, and every picture loads."""
    shown, cut, broken = shown_in_browser(folder / "index.html", tmp_path, width)
    assert shown <= width
    assert broken == 0
    assert cut == 0 or width < 1000


@pytest.fixture
def two_sets(tiny_dataset, tmp_path):
    """The tiny dataset with its last test image in a set of its own, and its first without labels: its root."""
    root = shutil.copytree(tiny_dataset.root, tmp_path / "two")
    first, *_, last = tiny_dataset.split("test")
    changed = {
        first.id: dataclasses.replace(first, cells=None),
        last.id: dataclasses.replace(last, set="other-lab"),
    }
    (root / "labels" / f"{first.id}.png").unlink()
    write_manifest(root, [changed.get(entry.id, entry) for entry in tiny_dataset.entries])
    return root


def test_scores_are_given_by_set_and_of_labelled_images_alone(model_path, two_sets, tmp_path):
    out = tmp_path / "evaluation"
    document = json.loads(run(model_path, two_sets, "--out", out, "--json"))
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["set"] for row in rows) == ["other-lab", "synthetic"]
    for row in rows:
        of_set = document["summary"][row["set"]]
        assert (of_set["images"], of_set["cells_true"]) == (1, int(row["cells_true"]))
        assert of_set["mean_ap"] == pytest.approx(float(row["mean_ap"]), abs=1e-6)
    assert document["summary"]["all"]["images"] == 2
    page = (out / "index.html").read_text()
    assert '<th scope="row">other-lab</th>' in page
    assert '<th scope="col">set</th>' in page
    assert "<td>synthetic</td>" in page
    text = run(model_path, two_sets)
    shown = [cells_of(line)[0] for line in text.splitlines() if line.startswith("│ ")]
    assert shown == list(document["summary"]) * 2


def test_a_dataset_of_one_set_has_no_groups_by_set(model_path, tiny_dataset, tmp_path):
    out = tmp_path / "evaluation"
    document = json.loads(run(model_path, tiny_dataset.root, "--out", out, "--json"))
    assert set(document["summary"]) == {"all", "fluorescence", "histology"}
    assert '<th scope="col">set</th>' not in (out / "index.html").read_text()


def test_images_without_labels_alone_cannot_be_scored(model_path, two_sets):
    write_manifest(two_sets, [dataclasses.replace(entry, cells=None) for entry in load(two_sets).entries])
    result = CliRunner().invoke(main, ["evaluate", str(model_path), str(two_sets)])
    assert result.exit_code == 2
    assert "no image in the split 'test' has labels" in result.stderr
