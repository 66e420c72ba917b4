"""Synthetic fields: exact labels, the settings kept, and light where the cells are."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellseg_device.errors import InputError
from cellseg_device.image.decode import decode
from cellseg_host.commands.synth import synth
from cellseg_host.data.dataset import load
from cellseg_host.synth import SynthSettings, empties, make_field, write_fields
from cellseg_host.synth.settings import KINDS, STAINS

SMALL = {"height": 96, "width": 128, "diameter_px": 14.0}


def touching(labels):
    """Numbers of the cells with a pixel beside another cell's."""
    found = set()
    for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        found |= set(a[meet].tolist()) | set(b[meet].tolist())
    return found


def check_labels(labels):
    count = int(labels.max())
    inside = np.flatnonzero(labels)
    numbers, first = np.unique(labels.ravel()[inside], return_index=True)
    assert numbers.tolist() == list(range(1, count + 1))
    assert np.all(np.diff(inside[first]) > 0), "not in raster order"
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        assert ndimage.label(labels[box] == number)[1] == 1


@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    bits=st.sampled_from([8, 16]),
    cells=st.one_of(st.none(), st.integers(0, 60)),
    diameter=st.one_of(st.none(), st.floats(3, 60)),
    touch=st.one_of(st.none(), st.floats(0, 1)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_any_field_is_well_formed(kind, height, width, bits, cells, diameter, touch, seed):
    image, labels = make_field(SynthSettings(kind, height, width, bits, cells, diameter, touch), seed)
    assert image.shape == ((height, width, 3) if kind == "histology" else (height, width))
    assert image.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert labels.shape == (height, width)
    assert labels.dtype == np.uint16
    assert cells is None or labels.max() <= cells
    check_labels(labels)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (17, 31)])
def test_smallest_images(kind, size):
    image, labels = make_field(SynthSettings(kind, *size, cells=2, diameter_px=8), 1)
    assert image.shape[:2] == size
    assert labels.max() >= 1
    check_labels(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_field(kind):
    wanted = SynthSettings(kind, **SMALL)
    image, labels = make_field(wanted, (3, 1))
    again, labels_again = make_field(wanted, (3, 1))
    other, labels_other = make_field(wanted, (3, 2))
    assert np.array_equal(image, again)
    assert np.array_equal(labels, labels_again)
    assert not np.array_equal(image, other)
    assert not np.array_equal(labels, labels_other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.7, 1.0])
def test_as_many_cells_and_contacts_as_asked(kind, fraction):
    asked = SynthSettings(kind, 360, 360, cells=40, diameter_px=18, touching=fraction)
    _, labels = make_field(asked, 5)
    assert labels.max() == 40
    assert len(touching(labels)) == pytest.approx(40 * fraction, abs=2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("diameter", [10.0, 20.0, 40.0])
def test_diameter_is_the_median(diameter, seed):
    _, labels = make_field(SynthSettings(height=512, width=512, cells=60, diameter_px=diameter), seed)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    area = np.bincount(labels.ravel())
    whole = [a for number, a in enumerate(area) if number and number not in edge]
    assert np.median(np.sqrt(4 * np.array(whole) / np.pi)) == pytest.approx(diameter, rel=0.15)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("seed", range(6))
def test_fluorescent_nuclei_are_bright(seed, bits):
    image, labels = make_field(SynthSettings(bits=bits, height=256, width=256, cells=20), seed)
    background = image[labels == 0].astype(float)
    cells = ndimage.mean(image, labels, range(1, labels.max() + 1))
    assert np.all(cells > np.median(background))
    assert image[labels > 0].mean() > 2 * np.median(background) or bits == 16
    assert image[labels > 0].mean() > np.median(background) + 4 * background.std()
    assert image.max() <= (255 if bits == 8 else 4095)


@pytest.mark.parametrize("stain", STAINS)
@pytest.mark.parametrize("seed", range(4))
def test_stained_nuclei_are_dark(seed, stain):
    image, labels = make_field(SynthSettings("histology", 256, 256, cells=20, stain=stain), seed)
    grey = image.astype(float).mean(axis=2)
    assert grey[labels > 0].mean() < 0.8 * np.median(grey[labels == 0])
    assert image.reshape(-1, 3).std(axis=0).min() > 1


def test_16_bits_are_the_same_scene():
    wanted = {**SMALL, "cells": 12}
    for kind in KINDS:
        eight, labels = make_field(SynthSettings(kind, bits=8, **wanted), 2)
        sixteen, labels_sixteen = make_field(SynthSettings(kind, bits=16, **wanted), 2)
        assert np.array_equal(labels, labels_sixteen)
        assert np.corrcoef(eight.ravel(), sixteen.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_empty_field_has_no_cell_and_is_no_constant(kind):
    image, labels = make_field(SynthSettings(kind, 128, 128, cells=0), 4)
    assert not labels.any()
    assert image.std() > 0


def test_a_full_field_gives_up_in_time():
    _, labels = make_field(SynthSettings(height=64, width=64, cells=60_000, diameter_px=12), 0)
    assert 8 < labels.max() < 60
    check_labels(labels)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "xray"},
        {"height": 0},
        {"width": 12_001},
        {"bits": 12},
        {"cells": -1},
        {"cells": 65_536},
        {"diameter_px": 2.0},
        {"diameter_px": float("nan")},
        {"touching": 1.1},
        {"touching": float("nan")},
        {"stain": "he"},
        {"kind": "histology", "stain": "blue"},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        SynthSettings(**wrong)


def run(*arguments):
    return CliRunner().invoke(synth, [str(a) for a in arguments])


@pytest.mark.parametrize(("kind", "bits"), [("fluorescence", 16), ("histology", 8)])
def test_command_writes_a_dataset(tmp_path: Path, kind, bits):
    out = tmp_path / "a" / "b"
    result = run(out, "--kind", kind, "-n", 3, "--seed", 9, "--size", "80x64", "--bits", bits, "--cells", 4)
    assert result.exit_code == 0, result.output
    dataset = load(out)
    assert f"3 {kind} fields with {sum(e.cells for e in dataset.entries)} cells" in result.output
    assert len(dataset.split("test")) == 3
    for index, entry in enumerate(dataset.entries):
        wanted = SynthSettings(kind, 64, 80, bits, 4)
        image, labels = make_field(wanted, (9, index))
        assert np.array_equal(decode(dataset.image_bytes(entry)).pixels, image)
        assert np.array_equal(dataset.labels(entry), labels)
        assert cv2.imread(str(out / "labels" / f"{entry.id}.png"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
        assert (entry.modality, entry.height, entry.width) == (kind, 64, 80)
        assert entry.cells == labels.max()
    assert sorted(p.name for p in out.iterdir()) == ["images", "labels", "manifest.csv"]


def test_command_makes_empty_fields(tmp_path: Path):
    assert run(tmp_path / "out", "--cells", 0, "-n", 1, "--size", "40x40").exit_code == 0
    with (tmp_path / "out" / "manifest.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["cells"], row["median_diameter_px"]) == ("0", "0.0")


def test_command_makes_every_kind_of_empty_field(tmp_path: Path):
    made = run(tmp_path, "--kind", "empty", "-n", 12, "--seed", 7, "--size", "50x40", "--split", "train")
    assert made.exit_code == 0, made.output
    dataset = load(tmp_path)
    kinds = list(empties.KINDS)
    for index, entry in enumerate(dataset.split("train")):
        kind = kinds[index % 10]
        assert entry.id == f"empty-7-{index:04d}-{kind.replace(' ', '-')}"
        image = decode(dataset.image_bytes(entry)).pixels
        assert np.array_equal(image, empties.make_empty(kind, (40, 50), (7, 1) if index >= 10 else 7))
        assert (entry.cells, entry.modality) == (0, "fluorescence" if image.ndim == 2 else "histology")
        assert not dataset.labels(entry).any()


def test_empty_fields_of_neighbouring_seeds_are_others(tmp_path: Path):
    """Or those to train on and those to test on would have some in common."""
    for seed, split in ((1, "train"), (2, "test")):
        made = run(
            tmp_path, "--kind", "empty", "-n", 20, "--seed", seed, "--size", "50x40", "--split", split, "--force"
        )
        assert made.exit_code == 0, made.output
    dataset = load(tmp_path)
    seen = [dataset.image_bytes(entry) for entry in dataset.entries if not entry.id.endswith(("black", "saturated"))]
    assert len({*seen}) == len(seen) >= 32


def test_a_full_disk_leaves_the_former_manifest(tmp_path: Path, environment):
    assert run(tmp_path / "d", "-n", 60, "--size", "16x16", "--diameter", 6).exit_code == 0
    before = (tmp_path / "d" / "manifest.csv").read_bytes()
    assert len(before) > 2048
    command = [sys.executable, "-m", "cellseg_host", "synth", str(tmp_path / "d"), "--kind", "empty", "-n", "1"]
    command += ["--size", "16x16", "--force"]
    limited = ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh", *command]
    done = subprocess.run(limited, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert (tmp_path / "d" / "manifest.csv").read_bytes() == before


def test_command_refuses_what_is_there_and_adds_only_when_forced(tmp_path: Path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    result = run(tmp_path, "-n", 1, "--size", "40x40")
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert run(tmp_path, "-n", 2, "--size", "40x40", "--force").exit_code == 0
    assert run(tmp_path, "-n", 1, "--size", "50x40", "--force", "--split", "val").exit_code == 0
    assert run(tmp_path, "-n", 1, "--size", "40x40", "--kind", "histology", "--force").exit_code == 0
    assert notes.read_text() == "mine"
    rows = {e.id: (e.split, e.width) for e in load(tmp_path).entries}
    assert rows == {
        "fluorescence-0-0000": ("val", 50),
        "fluorescence-0-0001": ("test", 40),
        "histology-0-0000": ("test", 40),
    }


def test_command_keeps_its_hands_off_a_foreign_manifest(tmp_path: Path):
    (tmp_path / "manifest.csv").write_text("name\nx\n")
    assert run(tmp_path, "-n", 1, "--force").exit_code == 2
    assert (tmp_path / "manifest.csv").read_text() == "name\nx\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--size", "40"),
        ("--size", "0x40"),
        ("--kind", "empty", "--stain", "he"),
        ("--touching", 2),
        ("--stain", "he"),
    ],
)
def test_command_explains_wrong_options(tmp_path: Path, arguments):
    result = run(tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert "rror: " in result.output
    assert not (tmp_path / "out").exists()


def test_out_may_not_be_a_file(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file").exit_code == 2


def test_write_fields_reports_progress(tmp_path: Path):
    seen = []
    wanted = SynthSettings(height=32, width=32)
    entries = write_fields(tmp_path / "out", wanted, 2, 0, split="train", progress=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]
    assert {e.split for e in entries} == {"train"}


@pytest.mark.parametrize(("n", "seed", "split"), [(0, 0, "test"), (1, -1, "test"), (1, 0, "other")])
def test_write_fields_refuses_wrong_arguments(tmp_path: Path, n, seed, split):
    with pytest.raises(InputError):
        write_fields(tmp_path / "out", SynthSettings(height=32, width=32), n, seed, split=split)


def test_a_full_disk_leaves_no_new_folder(tmp_path: Path, environment):
    command = [sys.executable, "-m", "cellseg_host", "synth", "new/fields", "-n", "1"]
    limited = ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh", *command]
    done = subprocess.run(limited, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the fields cannot be written (File too large): make room, then try again\n"
    assert list(tmp_path.iterdir()) == []


def test_command_says_what_comes_next(tmp_path: Path):
    """Counting, or training once there is what that needs."""
    out = tmp_path / "my fields"
    made = run(out, "-n", 1, "--size", "40x40")
    assert made.output.splitlines()[-1] == f"next: cellseg-device run '{out}/images'"
    assert made.exit_code == 0
    for split in ("train", "val"):
        made = run(out, "-n", 1, "--size", "40x40", "--split", split, "--seed", len(split), "--force")
    assert made.output.splitlines()[-1] == f"next: cellseg-host train '{out}' --out 'runs/my fields'"
