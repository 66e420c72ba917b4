"""A data set's page, and the commands that make it: what is wrong comes first, by the exit code as well."""

import dataclasses
import json
import re

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_host.cli import main
from cellseg_host.data import dataset as datasets
from cellseg_host.data.dataset import Entry, save_png, write_manifest
from cellseg_host.survey import facts, findings
from cellseg_host.survey.survey import survey
from cellseg_host.synth.field import make_field
from cellseg_host.synth.settings import SynthSettings


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def make(root, images, **changes):
    """Write a dataset of (id, split, pixels, labels), and open it."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    entries = []
    for identity, split, pixels, labels in images:
        save_png(root / "images" / f"{identity}.png", pixels)
        if labels is not None:
            save_png(root / "labels" / f"{identity}.png", labels)
        cells = None if labels is None else int(labels.max())
        shape = pixels.shape[:2]
        kind = {"set": "mine", "modality": "fluorescence", "kind": "fluorescence"} | changes
        entries.append(
            Entry(identity, split=split, height=shape[0], width=shape[1], cells=cells, median_diameter_px=0.0, **kind)
        )
    write_manifest(root, entries)
    return datasets.load(root)


@pytest.fixture(scope="module")
def fields():
    settings = SynthSettings(height=96, width=112, cells=25, diameter_px=14.0)
    return [make_field(settings, (3, seed)) for seed in range(6)]


def whole(fields):
    """Three good images: nothing to say of them."""
    return [(f"f{n}", split, *fields[n]) for n, split in enumerate(("train", "train", "train", "val", "test"))]


def texts(dataset):
    return [finding.text for finding in survey(dataset).findings]


def test_a_good_dataset_has_no_findings(tmp_path, fields):
    assert texts(make(tmp_path / "d", whole(fields))) == []
    result = run("data", "check", tmp_path / "d")
    assert (result.exit_code, result.output) == (0, "nothing is wrong with it that can be measured\n")


def test_an_image_in_two_splits_is_a_fault_that_names_both(tmp_path, fields):
    pixels, labels = fields[0]
    dim = (pixels * 0.7).astype(np.uint8)
    make(tmp_path / "d", [*whole(fields), ("again", "test", np.ascontiguousarray(dim[:, ::-1]), labels[:, ::-1])])
    result = run("data", "check", tmp_path / "d")
    assert result.exit_code == 1
    assert result.output.startswith("to mend: 1 image is ")
    assert "another split, so scores" in result.output or "another split as well, so scores" in result.output
    assert "again in test as f0 in train" in result.output or "f0 in train as again in test" in result.output
    found = json.loads(run("data", "check", tmp_path / "d", "--json").output)
    assert found["images"] == 6
    assert sorted(found["findings"][0]["images"]) == ["again", "f0"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda labels: _boxes(labels), "as if drawn for a detector"),
        (lambda labels: np.where(labels % 2 == 1, 1 + labels // 4, labels * 0).astype(np.uint16), "in several places"),
        (lambda labels: _holed(labels), "drawn with a hole"),
        (lambda labels: _specks(labels), "a speck of under 4 pixels"),
    ],
)
def test_faults_of_many_labels_are_faults(tmp_path, fields, spoil, words):
    images = whole(fields)
    every = [(name, split, pixels, spoil(labels)) for name, split, pixels, labels in images]
    [finding] = [one for one in survey(make(tmp_path / "all", every)).findings if words in one.text]
    assert finding.is_fault
    assert finding.images == ("f0", "f1", "f2", "f3", "f4")


def test_a_slip_of_the_hand_is_no_fault(tmp_path, fields):
    images = whole(fields)
    name, split, pixels, labels = images[0]
    largest = np.bincount(labels[labels > 0]).argmax()
    slipped = np.where(labels == largest, _holed(labels), labels)
    [finding] = survey(make(tmp_path / "d", [(name, split, pixels, slipped), *images[1:]])).findings
    assert finding.text.startswith("1 cell of ")
    assert (finding.images, finding.is_fault) == (("f0",), False)


def _boxes(labels):
    boxes = np.zeros_like(labels)
    for number in range(1, int(labels.max()) + 1):
        rows, columns = np.nonzero(labels == number)
        boxes[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = number
    return boxes


def _holed(labels):
    holed = labels.copy()
    for number in range(1, int(labels.max()) + 1):
        inside = cv2.erode((labels == number).astype(np.uint8), np.ones((5, 5)))
        for row, column in np.argwhere(inside)[:1]:
            holed[row, column] = 0
    return holed


def _specks(labels):
    speckled = labels.copy()
    for number, (row, column) in enumerate(np.argwhere(cv2.dilate(labels, np.ones((9, 9))) == 0)[::40], 1):
        speckled[row, column] = labels.max() + number
    return speckled


def test_what_splits_lack_is_said(tmp_path, fields):
    pixels, labels = fields[0]
    nothing = make(tmp_path / "none", [("a", "train", pixels, labels * 0), ("b", "val", *fields[1])])
    found = survey(nothing)
    assert "no image in the split train has a cell: there is nothing to learn" in [one.text for one in found.faults]
    assert any(text.startswith("no image with labels is in the split test: write 'test'") for text in texts(nothing))
    few = make(tmp_path / "few", [("a", "train", pixels, (labels == 1).astype(np.uint16)), ("b", "val", *fields[1])])
    assert "the split train has 1 cell: label more images, a hundred cells at least" in texts(few)


def test_a_kind_of_images_that_was_never_learnt_is_said(tmp_path, fields):
    dataset = make(tmp_path / "d", whole(fields))
    seen = [facts.of_image(entry, dataset.image(entry).pixels, dataset.labels(entry)) for entry in dataset.entries]
    other = [
        dataclasses.replace(one, entry=dataclasses.replace(one.entry, modality="phase"))
        if one.entry.split == "val"
        else one
        for one in seen
    ]
    found = [finding.text for finding in findings.find(other)]
    assert found == ["1 image of mine, phase is in the split val, but none in train"]


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((96, 112), 80, np.uint8), "of one grey"),
        (np.tile(np.arange(8, dtype=np.uint8), (96, 14)), "dark or flat: under 16 levels"),
        (np.where(np.arange(96)[:, None] < 8, 255, np.full((96, 112), 30)).astype(np.uint8), "over-exposed"),
    ],
)
def test_bad_light_is_a_note(tmp_path, fields, pixels, words):
    dataset = make(tmp_path / "d", [*whole(fields), ("bad", "train", pixels, None)])
    [finding] = survey(dataset).findings
    assert words in finding.text
    assert finding.images == ("bad",)
    assert not finding.is_fault


def test_the_page_says_what_to_mend_and_shows_the_extremes(tmp_path, fields):
    name = "<b>" + "x" * 30
    dataset = make(tmp_path / "mine & yours", [*whole(fields), (name, "train", fields[5][0] // 2, fields[5][1])])
    result = run("data", "report", dataset.root)
    assert result.exit_code == 0, result.output
    page = (dataset.root / "report.html").read_text()
    assert "<h1>Data set mine &amp; yours</h1>" in page
    assert "Nothing is wrong with it that can be measured." in page
    assert "<b>xxx" not in page
    for title in ("Darkest", "Brightest", "Least sharp", "Smallest cells", "Largest cells", "Most touching"):
        assert page.count(f"<h3>{title}</h3>") == 1
    assert page.count("data:image/jpeg") == 7 * 6
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "nothing is loaded from elsewhere"


def test_a_dataset_without_labels_has_a_page_too(tmp_path, fields):
    dataset = make(tmp_path / "d", [(f"f{n}", "train", fields[n][0], None) for n in range(3)])
    assert run("data", "report", dataset.root, "--out", tmp_path / "page.html").exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert "How large cells are" not in page
    assert "Smallest cells" not in page


def test_other_people_s_files_are_not_replaced(tmp_path, fields):
    dataset = make(tmp_path / "d", whole(fields))
    (tmp_path / "thesis.html").write_text("<title>My thesis</title>")
    result = run("data", "report", dataset.root, "--out", tmp_path / "thesis.html")
    assert result.exit_code == 2
    assert "is another file, and would be replaced" in result.output
    assert run("data", "report", dataset.root).exit_code == run("data", "report", dataset.root).exit_code == 0


def test_an_import_ends_with_the_page(tmp_path, fields):
    for folder, column in (("images", 0), ("labels", 1)):
        (tmp_path / "src" / folder).mkdir(parents=True)
        for number, field in enumerate(fields):
            save_png(tmp_path / "src" / folder / f"{number}.png", field[column])
    result = run("data", "import", "--format", "labels", tmp_path / "src", tmp_path / "made")
    assert result.exit_code == 0, result.output
    assert f"page: {tmp_path / 'made' / 'report.html'}" in result.output
    assert "<h1>Data set made</h1>" in (tmp_path / "made" / "report.html").read_text()


def test_a_damaged_image_is_said_with_its_name(tmp_path, fields):
    dataset = make(tmp_path / "d", whole(fields))
    (dataset.root / "images" / "f1.png").write_bytes(b"\x89PNG nothing")
    result = run("data", "check", dataset.root)
    assert result.exit_code == 2
    assert "f1.png" in result.output
    assert "Traceback" not in result.output
