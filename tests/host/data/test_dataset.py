"""The dataset on disk: what is refused of it, whoever has edited it since it was made."""

import dataclasses
import shutil

import cv2
import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_device.model.interpreter import Model
from cellseg_host.data import dataset as datasets
from cellseg_host.evaluation.evaluate import evaluate


@pytest.fixture
def copied(tiny_dataset, tmp_path):
    """A copy to edit: its root."""
    return shutil.copytree(tiny_dataset.root, tmp_path / "copy")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text.replace(",test,", ",Test,"), "'Test' is not one of the splits train, val, test"),
        (lambda text: text + text.splitlines()[-1].replace(",val,", ",train,") + "\n", "is listed twice"),
        (lambda text: text.rstrip().rsplit(",", 1)[0] + "\n", "line 13 is damaged"),
        (lambda text: text.replace(",128,", ",wide,", 1), "line 2 is damaged"),
        (lambda text: text.replace("modality", "mode"), "has no column 'modality'"),
        (lambda text: text.splitlines()[0] + "\n", "lists no image"),
        (lambda text: text.replace("fluorescence", "fluoreszenz-grün"), "is not UTF-8 text"),
    ],
)
def test_a_manifest_that_was_edited_wrongly_is_refused_with_its_line(copied, edit, words):
    manifest = copied / "manifest.csv"
    manifest.write_text(edit(manifest.read_text()), encoding="latin-1")
    with pytest.raises(InputError, match=words):
        datasets.load(copied)


def test_a_name_that_is_a_formula_is_escaped_in_the_manifest_and_read_back(tmp_path, tiny_dataset):
    entry = dataclasses.replace(tiny_dataset.entries[0], id="=1+1", modality="-x")
    datasets.write_manifest(tmp_path, [entry])
    assert (tmp_path / "manifest.csv").read_text().splitlines()[1].startswith(f"'=1+1,synthetic,{entry.split},'-x,")
    assert datasets.load(tmp_path).entries == (entry,)


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_first_name(copied, tiny_dataset):
    manifest = copied / "manifest.csv"
    manifest.write_bytes(b"\xef\xbb\xbf" + manifest.read_bytes())
    assert datasets.load(copied).entries == tiny_dataset.entries


def rewritten(root, edit):
    """The dataset after an edit of the rows of its manifest, given and returned as dicts."""
    rows = [edit(row) for row in datasets.read_table(root / "manifest.csv")]
    datasets.write_table(root / "manifest.csv", [list(rows[0]), *(row.values() for row in rows)])
    return datasets.load(root)


def test_a_manifest_without_sets_is_one_set_named_like_the_folder_with_kinds_by_modality(copied):
    def without(row):
        return {key: value for key, value in row.items() if key not in ("set", "kind")}

    dataset = rewritten(copied, without)
    assert {entry.set for entry in dataset.entries} == {"copy"}
    kinds = {"fluorescence": "fluorescence", "histology": "tissue"}
    assert {entry.modality: entry.kind for entry in dataset.entries} == kinds


def test_kinds_that_somebody_wrote_are_kept_and_empty_ones_follow_from_the_modality(copied):
    dataset = rewritten(copied, lambda row: row | {"kind": "smear" if row["split"] == "test" else "", "set": ""})
    assert {(e.split == "test", e.kind) for e in dataset.entries} == {
        (True, "smear"),
        (False, "fluorescence"),
        (False, "tissue"),
    }
    assert {entry.set for entry in dataset.entries} == {"copy"}


@pytest.mark.parametrize(("modality", "kind"), [("histology", "tissue"), ("phase", "other"), ("dic", "dic")])
def test_the_kind_of_a_sample_by_its_modality(modality, kind):
    assert datasets.kind_of(modality) == kind


def test_images_without_labels_are_told_apart_and_need_no_label_file(copied):
    whole = datasets.load(copied)
    digest = whole.digest()

    def test_only(row):
        return row | {"cells": row["cells"] if row["split"] == "test" else "", "median_diameter_px": ""}

    with pytest.raises(InputError, match=r"line \d+ is damaged"):  # labelled images must have a diameter
        rewritten(copied, test_only)
    dataset = rewritten(copied, lambda row: test_only(row) | {"median_diameter_px": "9.5"})
    unlabelled = dataset.split("val")
    assert [(e.cells, e.median_diameter_px, e.is_labelled) for e in unlabelled] == [(None, 0.0, False)] * 3
    for entry in unlabelled:
        (copied / "labels" / f"{entry.id}.png").unlink()
    assert len(dataset.digest()) == 64
    assert dataset.digest() != digest
    datasets.write_manifest(copied, dataset.entries)
    assert datasets.load(copied).entries == dataset.entries
    assert dataset.labelled("test") == dataset.split("test")
    assert datasets.cells_in(dataset.entries) == datasets.cells_in(whole.split("test")) > 0
    with pytest.raises(InputError, match="no image in the split 'val' has labels"):
        dataset.labelled("val")


def test_labels_may_have_any_numbers_and_must_have_the_image_s_size(copied, model_path):
    dataset = datasets.load(copied)
    entry = dataset.split("test")[0]
    path, model = copied / "labels" / f"{entry.id}.png", Model(model_path, 1)
    labels = dataset.labels(entry)
    (expected,) = evaluate(model, dataset, [entry])
    cv2.imwrite(str(path), np.where(labels > 0, labels * 3 + 100, 0).astype(np.uint16))
    assert np.array_equal(dataset.labels(entry), labels)
    assert list(evaluate(model, dataset, [entry])) == [expected]
    cv2.imwrite(str(path), np.where(labels == 1, 0, labels))  # as one deletes a cell in an editor
    (score,) = evaluate(model, dataset, [entry])
    assert score.cells_true == labels.max() - 1
    cv2.imwrite(str(path), labels[5:])
    with pytest.raises(InputError, match="is 144×123 px, but 144×128 px in the manifest"):
        dataset.labels(entry)
