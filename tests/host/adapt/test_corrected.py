"""What is wrong with corrections is said in plain words, before any work."""

import shutil

import cv2
import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_device.results import correction_file
from cellseg_host.adapt.corrected import check, without_specks
from cellseg_host.data.dataset import save_png


def checked(folder, **options):
    return check(correction_file.read(folder), **options)


def labels_of(folder, name):
    return cv2.imread(str(folder / "labels" / name), cv2.IMREAD_UNCHANGED)


def test_good_corrections_are_all_used(write_corrections, tmp_path):
    found = checked(write_corrections(tmp_path))
    assert [item.name for item in found.items] == ["field0", "field1", "field2"]
    assert found.cells == tuple(int(labels_of(tmp_path, f"field{n}.png").max()) for n in range(3))
    assert found.notes == ()
    assert found.can_judge


def test_the_same_image_twice_is_used_once(write_corrections, tmp_path):
    write_corrections(tmp_path)
    for folder in ("images", "labels"):
        shutil.copy(tmp_path / folder / "field1.png", tmp_path / folder / "copy.png")
    found = checked(tmp_path)
    assert [item.name for item in found.items] == ["copy", "field0", "field2"]
    assert found.notes == ("1 image left out, the same as others: field1",)


def test_specks_are_left_out_of_the_labels(write_corrections, tmp_path):
    labels = labels_of(write_corrections(tmp_path), "field1.png")
    cells = int(labels.max())
    free = np.argwhere(labels == 0)
    labels[tuple(free[0])], labels[tuple(free[-1])] = 900, 901
    save_png(tmp_path / "labels" / "field1.png", labels)
    found = checked(tmp_path)
    assert found.cells[1] == cells
    assert found.notes == ("2 specks of fewer than 4 px left out of the labels of field1",)
    assert without_specks(labels).max() == cells


def test_cells_in_several_pieces_are_noted(write_corrections, tmp_path):
    labels = labels_of(write_corrections(tmp_path), "field1.png")
    labels[labels == 2] = 1
    save_png(tmp_path / "labels" / "field1.png", labels)
    assert checked(tmp_path).notes == (
        "1 cell is in several pieces in the labels of field1: give each cell a number of its own",
    )


def test_what_was_changed_has_another_digest(write_corrections, tmp_path):
    before = checked(write_corrections(tmp_path)).digest
    assert checked(tmp_path).digest == before
    labels = labels_of(tmp_path, "field1.png")
    labels[labels == 1] = 0
    save_png(tmp_path / "labels" / "field1.png", labels)
    assert checked(tmp_path).digest != before


def spoil_one_image(folder):
    for n in (1, 2):
        (folder / "images" / f"field{n}.png").unlink()
        (folder / "labels" / f"field{n}.png").unlink()


def spoil_alike(folder):
    for n in (1, 2):
        for part in ("images", "labels"):
            shutil.copy(folder / part / "field0.png", folder / part / f"field{n}.png")


def spoil_all_but_one(folder):
    for n in (1, 2):
        save_png(folder / "labels" / f"field{n}.png", np.zeros((128, 144), np.uint16))


def spoil_all(folder):
    spoil_all_but_one(folder)
    save_png(folder / "labels" / "field0.png", np.zeros((128, 144), np.uint16))


def spoil_numbers(folder):
    for path in (folder / "labels").iterdir():
        save_png(path, (labels_of(folder, path.name) > 0).astype(np.uint16) * 255)


def spoil_size(folder):
    save_png(folder / "labels" / "field1.png", np.ones((100, 144), np.uint16))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_one_image, "has 1 image, which leaves none to judge the new model by: correct more images"),
        (spoil_alike, "all 3 images are the same, which leaves none to judge"),
        (spoil_all_but_one, "only 1 of 3 images has cells, which leaves none to judge"),
        (spoil_all, "no corrected image has a cell, so nothing can be learnt: correct images with cells"),
        (
            spoil_numbers,
            "the labels are masks, with one number for all cells of an image: give each cell a number of its",
        ),
        (spoil_size, "field1"),
    ],
)
def test_corrections_that_cannot_be_used_are_refused_with_the_reason(write_corrections, tmp_path, spoil, message):
    spoil(write_corrections(tmp_path))
    with pytest.raises(InputError) as raised:
        checked(tmp_path)
    assert message in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("spoil", [spoil_one_image, spoil_alike, spoil_all_but_one])
def test_one_image_can_be_learnt_from_without_proof(write_corrections, tmp_path, spoil):
    spoil(write_corrections(tmp_path))
    assert not checked(tmp_path, anyway=True).can_judge
