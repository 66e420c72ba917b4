"""Faults of labels, and which cells touch, against what was drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from cellseg_device.results.formats.label_images import consecutive
from cellseg_host.survey.labels import Faults, faults, touching


def discs(*places, radius=6, side=64):
    """Labels of discs with these centres."""
    row, column = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint16)
    for number, (y, x) in enumerate(places, 1):
        labels[(row - y) ** 2 + (column - x) ** 2 <= radius**2] = number
    return labels


def test_whole_cells_are_no_fault():
    assert faults(discs((20, 20), (40, 45))) == Faults()
    assert faults(np.zeros((8, 8), np.uint16)) == Faults()
    assert touching(np.zeros((8, 8), np.uint16)) == 0


def test_each_fault_is_counted_once_a_cell():
    labels = discs((12, 12), (12, 40), (40, 12), (44, 44))
    labels[11:13, 11:13] = 0
    labels[14, 14] = 0  # a second hole in the same cell
    labels[55, 5] = 2  # far from its disc
    labels[60, 60] = 5  # a speck
    labels[50:56, 20:30] = 6  # a box
    assert faults(labels) == Faults(holed=1, in_pieces=1, specks=1, boxes=1)


def test_a_cell_inside_another_is_no_hole_but_a_gap_between_two_is_none_either():
    ring = discs((32, 32), radius=20)
    ring[discs((32, 32), radius=8) > 0] = 2
    assert faults(ring).holed == 0
    pair = np.zeros((20, 20), np.uint16)
    pair[5:15, 5:10], pair[5:15, 10:15] = 1, 2
    pair[9:11, 9:11] = 0  # between both
    assert faults(pair).holed == 0


def test_cells_on_the_border_are_told():
    assert faults(discs((0, 20), (63, 63), (30, 30))).on_border == 2


def test_a_hole_on_the_border_is_none():
    labels = np.ones((20, 20), np.uint16)
    labels[0, 5] = 0
    assert faults(labels).holed == 0


@pytest.mark.parametrize(("gap", "share"), [(0, 2 / 3), (1, 0.0)])
def test_cells_touch_by_a_side(gap, share):
    labels = np.zeros((20, 40), np.uint16)
    labels[5:10, 5:10], labels[5:10, 10 + gap : 15 + gap], labels[15:18, 30:35] = 1, 2, 3
    assert touching(labels) == pytest.approx(share)


@pytest.mark.parametrize("turned", [False, True])
def test_cells_touch_by_a_corner(turned):
    labels = np.zeros((10, 10), np.uint16)
    labels[2:4, 2:4], labels[4:6, 4:6] = 1, 2
    assert touching(labels[::-1] if turned else labels) == 1


@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 4)))
def test_touching_and_holes_are_those_of_scipy(drawn):
    labels = consecutive(drawn)
    count = int(labels.max(initial=0))
    near = {
        number
        for number in range(1, count + 1)
        if set(np.unique(labels[ndimage.binary_dilation(labels == number, np.ones((3, 3)))])) - {0, number}
    }
    assert touching(labels) * max(count, 1) == pytest.approx(len(near))
    padded = np.pad(labels, 1)
    holed = set()
    parts, number = ndimage.label(padded == 0)
    for part in range(1, number + 1):
        around = ndimage.binary_dilation(parts == part, np.ones((3, 3))) & (padded > 0)
        if part != parts[0, 0] and len(owners := np.unique(padded[around])) == 1:
            holed.update(owners.tolist())
    assert faults(labels).holed == len(holed)
