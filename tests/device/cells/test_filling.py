"""Outlines become labels: those of `polygons.trace` the ones they were traced from, any others by the even-odd rule."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellseg_device.cells import filling, polygons


def renumbered(labels):
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16) + (labels.min() > 0)


def ring(*corners):
    return np.array(corners, np.float64)


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)))
@settings(max_examples=300, deadline=None)
def test_traced_outlines_are_the_labels_again(drawn):
    labels = renumbered(drawn)
    traced = polygons.trace(labels)
    filled = filling.fill([[r for polygon in cell for r in polygon] for cell in traced.values()], labels.shape)
    assert np.array_equal(filled.labels, labels)
    assert (filled.overlapping_px, filled.lost) == (0, 0)


CORNER = st.tuples(st.floats(-3, 15, width=16), st.floats(-3, 15, width=16))


@given(st.lists(CORNER, min_size=3, max_size=8))
@settings(max_examples=300, deadline=None)
def test_a_pixel_belongs_to_what_its_centre_is_inside(corners):
    """Checked for each pixel by a ray to the left, edge by edge."""
    shape = (9, 12)
    try:
        found = filling.fill([[ring(*corners)]], shape).labels > 0
    except ValueError:
        xs, ys = zip(*corners, strict=True)
        assert max(xs) <= 0 or max(ys) <= 0 or min(xs) >= shape[1] or min(ys) >= shape[0]
        return
    for row in range(shape[0]):
        for col in range(shape[1]):
            x, y, crossed = col + 0.5, row + 0.5, 0
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y0 <= y) != (y1 <= y):
                    crossed += x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x
            assert found[row, col] == (crossed % 2 == 1)


def test_areas_are_those_of_the_polygons():
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    for _ in range(20):
        radius = rng.uniform(20, 40, angle.size)
        corners = np.column_stack([60 + radius * np.cos(angle), 70 + radius * np.sin(angle)])
        area = np.count_nonzero(filling.fill([[corners]], (140, 130)).labels)
        assert area == pytest.approx(shapely.Polygon(corners).area, rel=0.02)


def test_later_cells_have_the_pixels_and_overlaps_are_counted():
    square, inner = ring((1, 1), (5, 1), (5, 5), (1, 5)), ring((3, 3), (7, 3), (7, 7), (3, 7))
    filled = filling.fill([[square], [inner]], (8, 8))
    assert filled.overlapping_px == 4
    assert (filled.labels[3:5, 3:5] == 2).all()
    assert np.bincount(filled.labels.reshape(-1)).tolist() == [64 - 28, 12, 16]


def test_cells_without_a_pixel_get_no_number():
    tiny, below, cell = (
        ring((1, 1), (1.2, 1), (1, 1.2)),
        ring((2, 2), (4, 2), (4, 4), (2, 4)),
        ring((2, 2), (5, 2), (5, 5), (2, 5)),
    )
    filled = filling.fill([[tiny], [below], [cell]], (6, 6))
    assert filled.lost == 2
    assert np.unique(filled.labels).tolist() == [0, 1]


def test_a_ring_in_another_is_a_hole_and_one_that_crosses_itself_leaves_what_it_encloses_twice():
    outer, hole = ring((0, 0), (6, 0), (6, 6), (0, 6)), ring((2, 2), (4, 2), (4, 4), (2, 4))
    assert np.count_nonzero(filling.fill([[outer, hole]], (6, 6)).labels) == 32
    bow = ring((0, 0), (6, 6), (6, 0), (0, 6))
    found = filling.fill([[bow]], (6, 6)).labels > 0
    assert not found[0, 2:4].any()
    assert found[2:4, [0, 5]].all()


def test_what_is_outside_is_cut_off_and_what_is_all_outside_refused():
    assert np.count_nonzero(filling.fill([[ring((-5, -5), (3, -5), (3, 2), (-5, 2))]], (4, 4)).labels) == 6
    with pytest.raises(
        ValueError, match="cell 2 of the file lies outside the image of 5×4 pixels: give the outlines in"
    ):
        filling.fill([[ring((0, 0), (2, 0), (2, 2))], [ring((9, 0), (12, 0), (12, 2))]], (4, 5))


def test_there_are_bounds_to_what_is_filled():
    square = [ring((0, 0), (2, 0), (2, 2), (0, 2))]
    with pytest.raises(ValueError, match="holds more than 65,535 cells: cut the image into parts"):
        filling.fill((square for _ in range(2**16)), (4, 4))
    zigzag = np.tile(ring((0, -1e6), (1, 1e6)), (200_000, 1))
    with pytest.raises(ValueError, match="too long, or cover each other too often: simplify them"):
        filling.fill([[zigzag]], (12_000, 4))


def test_many_edges_are_handled_in_parts(monkeypatch):
    rng = np.random.default_rng(1)
    outline = [rng.uniform(0, 40, (30, 2)), rng.uniform(0, 40, (20, 2))]
    whole = filling.fill([outline], (40, 40)).labels
    monkeypatch.setattr(filling, "_ROWS_AT_ONCE", 7)
    assert np.array_equal(filling.fill([outline], (40, 40)).labels, whole)
    assert 0 < np.count_nonzero(whole) < whole.size


def test_it_agrees_with_opencv_inside():
    corners = ring((3, 4), (30, 8), (25, 33), (6, 28))
    mask = np.zeros((40, 40), np.uint8)
    cv2.fillPoly(mask, [np.rint((corners - 0.5) * 256).astype(np.int32)], 1, shift=8)
    found = filling.fill([[corners]], (40, 40)).labels > 0
    assert np.count_nonzero(found != (mask > 0)) <= 2 * (30 + 33)  # OpenCV draws the border, too
    assert (mask[found] > 0).all()
