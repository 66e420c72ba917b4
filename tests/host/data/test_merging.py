"""Several sources become the sets of one dataset."""

import csv

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_host.cli import main
from cellseg_host.data import importers
from cellseg_host.data.dataset import load

COLUMNS = ["set", "split", "modality", "kind", "images", "cells"]


def write_set(root, names, image, labels=None):
    """A source in the layout ``labels``, or, without labels, images alone: its folder."""
    for folder, picture in [("images", image)] + ([("labels", labels)] if labels is not None else []):
        (root / folder).mkdir(parents=True)
        for name in names:
            assert cv2.imwrite(str(root / folder / f"{name}.png"), picture)
    return root


def run(*arguments):
    return CliRunner().invoke(main, ["data", "import", *map(str, arguments)])


def table(output):
    """The cells of the closing table, row by row."""
    return [[cell.strip() for cell in line.strip("│┃").split("│")] for line in output.splitlines() if "│" in line]


@pytest.fixture
def folders(tmp_path, field):
    """Two sets with labels, of which both have an image f1, and one without."""
    image, labels = field
    nuclei = write_set(tmp_path / "nuclei", ("f1", "f2"), image, labels)
    tissue = write_set(tmp_path / "my-tissue", ("f1", "t1"), cv2.merge([255 - image, image, image]), labels * 0)
    (nuclei / "manifest.csv").write_text("id,split,modality\nf1,train,fluorescence\nf2,val,phase\n")
    (tissue / "manifest.csv").write_text("id,split\nf1,test\nt1,train\n")
    return nuclei, tissue, write_set(tmp_path / "smears", ("s1", "s2"), cv2.merge([image, image // 2, image]))


def test_sources_become_sets_with_kinds_and_a_table(tmp_path, folders, field):
    formats = ("--format", "labels", "--format", "smears=images")
    result = run(*formats, "--kind", "smears=blood smear", *folders, tmp_path / "merged")
    assert result.exit_code == 0, result.output
    dataset = load(tmp_path / "merged")
    facts = {e.id: (e.set, e.split, e.modality, e.kind, e.cells) for e in dataset.entries}
    cells = int(field[1].max())
    split = {name: importers.split_of(name) for name in ("s1", "s2")}
    assert facts == {
        "nuclei-f1": ("nuclei", "train", "fluorescence", "fluorescence", cells),
        "f2": ("nuclei", "val", "phase", "other", cells),
        "my-tissue-f1": ("my-tissue", "test", "histology", "tissue", 0),
        "t1": ("my-tissue", "train", "histology", "tissue", 0),
        "s1": ("smears", split["s1"], "histology", "blood smear", None),
        "s2": ("smears", split["s2"], "histology", "blood smear", None),
    }
    for entry in dataset.entries:
        assert dataset.image(entry).shape == field[0].shape
        path = tmp_path / "merged" / "labels" / f"{entry.id}.png"
        assert path.exists() == entry.is_labelled
        if entry.is_labelled:
            assert dataset.labels(entry).max() == entry.cells
    notes = [line for line in result.stderr.splitlines() if line.startswith("note:")]
    assert notes == ["note: 1 id is in several sets (as f1): the images are called SET-ID"]
    rows = table(result.stdout)
    assert ["nuclei", "train", "fluorescence", "fluorescence", "1", str(cells)] in rows
    assert ["my-tissue", "test", "histology", "tissue", "1", "0"] in rows
    assert {row[0]: row[-1] for row in rows}["smears"] == "no labels"
    assert sum(int(row[4]) for row in rows) == 6
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


def test_the_split_of_an_image_does_not_depend_on_what_else_is_imported(tmp_path, field):
    names = [f"i{number}" for number in range(20)]
    for folder in ("a", "b"):
        write_set(tmp_path / folder, names, *field)
    assert run("--format", "labels", tmp_path / "a", tmp_path / "alone").exit_code == 0
    alone = {entry.id: entry.split for entry in load(tmp_path / "alone").entries}
    assert len({*alone.values()}) > 1
    assert run("--format", "labels", tmp_path / "b", tmp_path / "a", tmp_path / "both").exit_code == 0
    both = {entry.id: entry.split for entry in load(tmp_path / "both").entries}
    assert both == {f"{folder}-{name}": split for folder in ("a", "b") for name, split in alone.items()}


def test_a_dataset_is_a_source_that_keeps_its_sets_kinds_and_images_without_labels(tmp_path, folders, field):
    formats = ("--format", "labels", "--format", "smears=images")
    assert run(*formats, "--kind", "smears=smear", *folders, tmp_path / "first").exit_code == 0
    more = write_set(tmp_path / "more", ("m1",), *field)
    result = run("--format", "labels", "--kind", "my-tissue=skin", tmp_path / "first", more, tmp_path / "second")
    assert result.exit_code == 0, result.output
    before = {entry.id: entry for entry in load(tmp_path / "first").entries}
    after = {entry.id: entry for entry in load(tmp_path / "second").entries}
    assert after.pop("m1").set == "more"
    assert before.keys() == after.keys()
    for name, entry in after.items():
        kind = "skin" if entry.set == "my-tissue" else before[name].kind
        assert (entry.set, entry.split, entry.kind) == (before[name].set, before[name].split, kind)
        assert (entry.cells, entry.is_labelled) == (before[name].cells, before[name].is_labelled)


def test_one_kind_may_be_that_of_all_other_sets(tmp_path, folders):
    nuclei, tissue, _ = folders
    result = run("--format", "labels", "--kind", "chamber", "--kind", "nuclei=cells", nuclei, tissue, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert {(e.set, e.kind) for e in load(tmp_path / "out").entries} == {("nuclei", "cells"), ("my-tissue", "chamber")}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--format", "nuclei=labels"), "--format: none is given for my-tissue: add --format my-tissue=FORMAT"),
        (("--format", "labels", "--format", "nucleus=images"), "--format: there is no set 'nucleus': did you mean"),
        (("--format", "labels", "--kind", "smear=x"), "--kind: there is no set 'smear'"),
        (("--format", "labels", "--kind", "nuclei="), "'nuclei=' is not of the form SET=VALUE"),
        (("--format", "labels", "--kind", "=x"), "'=x' is not of the form SET=VALUE"),
        (("--format", "label"), "there is no format 'label': did you mean 'labels'?"),
        (("--format", "labels", "--format", "images"), "is given twice for all sets"),
    ],
)
def test_what_names_no_set_or_format_is_refused_before_anything_is_made(tmp_path, folders, flags, words):
    nuclei, tissue, _ = folders
    before = sorted(path.name for path in tmp_path.iterdir())
    result = run(*flags, nuclei, tissue, tmp_path / "out")
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_one_set_twice_is_refused(tmp_path, folders):
    nuclei, *_ = folders
    result = run("--format", "labels", nuclei, nuclei, tmp_path / "out")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "error: nuclei-f1: is in the data more than once: rename one of the folders, or of the images\n"
    )
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_named_with_its_set(tmp_path, folders):
    nuclei, tissue, _ = folders
    (nuclei / "images" / "f2.png").write_text("text")
    result = run("--format", "labels", nuclei, tissue, tmp_path / "out")
    assert result.exit_code == 1
    assert "left out: f2 of nuclei: is not a PNG" in result.stderr
    with (tmp_path / "out" / "rejected.csv").open(newline="") as file:
        head, row = csv.reader(file)
    assert (head, row[:2]) == (["id", "set", "reason"], ["f2", "nuclei"])


def test_images_alone_are_said_to_be_for_classifiers(tmp_path, folders):
    *_, smears = folders
    result = run("--format", "images", smears, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("no image has labels: ")
    assert not list((tmp_path / "out" / "labels").iterdir())
    assert np.array_equal(
        load(tmp_path / "out").image(load(tmp_path / "out").entries[0]).pixels,
        cv2.imread(str(smears / "images" / "s1.png"))[..., ::-1],
    )


def test_a_set_cannot_lead_out_of_the_dataset(tmp_path, folders):
    nuclei, tissue, _ = folders
    (nuclei / "manifest.csv").write_text("id,set\nf1,../../outside\nf2,../../outside\n")
    result = run("--format", "labels", nuclei, tissue, tmp_path / "merged")
    assert result.exit_code == 2, result.output
    assert "the set '../../outside' has a '/': call it otherwise" in result.output
    assert not (tmp_path / "merged").exists()
