"""Whether cells are large is estimated from the foreground, touching or not, specks or none."""

import cv2
import numpy as np
import pytest

from cellseg_device.cells.size import large_diameter_px


def discs(*circles, shape=(200, 300)):
    inside = np.zeros(shape, np.uint8)
    for row, col, radius in circles:
        cv2.circle(inside, (col, row), radius, 255, -1)
    return inside


@pytest.mark.parametrize("reduction", [1, 2, 4])
@pytest.mark.parametrize("radius", [3, 10, 33, 90])
def test_a_disc_is_as_wide_as_it_is(radius, reduction):
    found = large_diameter_px(discs((100, 150, radius)), reduction, 2)
    assert found == pytest.approx((2 * radius + 1) * reduction, abs=2 * reduction)


def test_touching_discs_are_as_wide_as_one():
    assert large_diameter_px(discs((100, 100, 20), (100, 138, 20), (135, 119, 20)), 1, 2) == pytest.approx(41, abs=8)


@pytest.mark.parametrize(("at_least", "expected"), [(30, 41), (40, 41), (45, None), (1000, None)])
def test_only_large_ones_are_reported(at_least, expected):
    assert large_diameter_px(discs((100, 150, 20)), 1, at_least) == expected


def test_specks_do_not_count_and_one_large_cell_among_many_is_not_typical():
    specks = [(r, c, 2) for r in range(10, 190, 12) for c in range(10, 90, 12)]
    assert large_diameter_px(discs(*specks, (100, 200, 40)), 1, 40) == pytest.approx(81, abs=2)
    many = [(r, c, 8) for r in range(10, 190, 20) for c in range(10, 190, 20)]
    assert large_diameter_px(discs(*many, (100, 250, 24)), 1, 40) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (40, 1)])
@pytest.mark.parametrize("value", [0, 255])
def test_smallest_fields(shape, value):
    found = large_diameter_px(np.full(shape, value, np.uint8), 2, 1)
    assert found == (2 if value else None)


def test_nothing_in_the_field_is_not_large():
    assert large_diameter_px(np.zeros((30, 30), np.uint8), 1, 0) is None
