"""What is often wrong with labels that a human gave."""

import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_device.results.correction_faults import listed, note_of_pieces


def counts(**pieces):
    return {name: np.array(found, np.int64) for name, found in pieces.items()}


def test_whole_cells_are_not_noted():
    assert note_of_pieces(counts(a=[1, 1], b=[])) == ""


@pytest.mark.parametrize(
    ("pieces", "note"),
    [
        (counts(a=[1, 2], b=[1]), "1 cell is in several pieces in the labels of a: give each cell a number of its own"),
        (
            counts(a=[3, 2], b=[1], c=[2, 1]),
            "3 cells are in several pieces in the labels of a, c: give each cell a number of its own",
        ),
    ],
)
def test_cells_in_several_pieces_are_noted_with_their_image(pieces, note):
    assert note_of_pieces(pieces) == note


def test_masks_are_refused():
    with pytest.raises(InputError) as raised:
        note_of_pieces(counts(a=[12], empty=[], b=[2]))
    assert raised.value.message == (
        "the labels are masks, with one number for all cells of an image: give each cell a number of its own"
    )


def test_a_single_cell_is_no_mask():
    assert note_of_pieces(counts(a=[1], b=[4])).startswith("1 cell is in several pieces in the labels of b")


def test_of_many_names_the_first_are_listed():
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
