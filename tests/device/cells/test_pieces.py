"""Of how many pieces the cells in labels consist."""

import numpy as np
import pytest

from cellseg_device.cells.pieces import pieces_of


def test_pieces_are_counted_cell_by_cell():
    labels = np.array(
        [
            [1, 1, 2, 0, 3, 0, 4],
            [0, 2, 1, 0, 0, 0, 0],
            [5, 5, 5, 0, 3, 0, 4],
            [5, 0, 5, 0, 0, 0, 4],
            [5, 5, 5, 0, 3, 6, 6],
        ],
        np.uint16,
    )
    # The first two touch in corners; around a hole there is one piece
    assert pieces_of(labels).tolist() == [1, 1, 3, 2, 1, 1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_without_cells_there_is_nothing_to_count(shape):
    assert pieces_of(np.zeros(shape, np.uint16)).tolist() == []


def test_a_cell_may_be_the_whole_image():
    assert pieces_of(np.ones((3, 4), np.uint16)).tolist() == [1]
