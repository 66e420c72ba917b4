"""Polygons filled again are the mask, pixel for pixel, and such as other programs take them: simple and valid."""

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.draw import polygon2mask
from skimage.measure import label as parts_of

from cellseg_device.cells.polygons import trace


def drawn(text):
    return np.array([[int(c) if c != "." else 0 for c in row] for row in text.split()], np.uint16)


SHAPES = {
    "nothing": "... ...",
    "1 × 1 without a cell": ".",
    "1 × 1": "1",
    "row": "..11.",
    "column": ". 1 1",
    "whole image": "111 111",
    "all borders": "1111 1..1 1111",
    "hole": "..... .111. .1.1. .111. .....",
    "nested": "1111111 1.....1 1.222.1 1.2.2.1 1.222.1 1.....1 1111111",
    "nested in itself": "1111111 1.....1 1.111.1 1.1.1.1 1.111.1 1.....1 1111111",
    "parts": "11..1 ..... .1.11",
    "diagonal": "1... .1.. ..1. ...1",
    "other diagonal": "..1 .1. 1..",
    "both diagonals of two": "1212 2121 1212",
    "ends that touch at a corner": ".11. 1..1 1.1. .11.",
    "hole open at a corner": "1111 1.11 11.1 111.",
    "holes that touch at a corner": "11111 1.111 11.11 111.1 11111",
    "ring of corners": "..1.. .1.1. 1...1 .1.1. ..1..",
    "comb": "1.1.1 11111 1.1.1",
    "touching": "112233 112233 445566",
}


@pytest.fixture(scope="session")
def check(winding):
    """Check that the polygons of a label image are the label image; returns them."""

    def check(labels):
        cells = trace(labels)
        again = np.zeros_like(labels)
        assert [*cells] == [number for number in np.unique(labels) if number]
        for number, polygons in cells.items():
            assert len(polygons) == parts_of(labels == number, connectivity=1).max()
            for rings in polygons:
                assert all(ring.dtype == np.int32 for ring in rings)
                turns = winding(rings, labels.shape)
                assert set(np.unique(turns)) <= {0, -1}  # seen with y downwards, outlines are clockwise
                assert not again[turns != 0].any()
                again[turns != 0] = number
                geometry = shapely.Polygon(rings[0], rings[1:])
                assert geometry.is_valid, shapely.is_valid_reason(geometry)
                assert all(shapely.LinearRing(ring).is_simple for ring in rings)
            assert shapely.MultiPolygon([(rings[0], rings[1:]) for rings in polygons]).is_valid
        assert np.array_equal(again, labels)
        return cells

    return check


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_shapes_come_back(check, text):
    check(drawn(text))


@settings(max_examples=150, deadline=None)
@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=10), elements=st.integers(0, 3)))
def test_any_labels_come_back(check, labels):
    check(labels)


def blobs(seed, height=90, width=120, cells=25):
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    for number in range(1, cells + 1):
        centre = int(rng.integers(-3, width + 3)), int(rng.integers(-3, height + 3))
        axes = int(rng.integers(0, 15)), int(rng.integers(0, 9))
        cv2.ellipse(labels, centre, axes, float(rng.integers(180)), 0, 360, number, int(rng.choice([-1, 1, 3])))
    return labels.astype(np.uint16)


@pytest.mark.parametrize("seed", range(6))
def test_blobs_and_rings_come_back(check, seed):
    check(blobs(seed))


@pytest.mark.parametrize("labels", [1, 2, 200])
def test_noise_comes_back(check, labels):
    check(np.random.default_rng(labels).integers(0, labels + 1, (70, 80)).astype(np.uint16))


def test_bands_of_rows_leave_no_trace(check):
    labels = np.zeros((1030, 12), np.uint16)
    labels[254:258, 2:5] = 1
    labels[255:513, 6:9] = 2
    labels[0:1030, 10:11] = 3
    assert [len(polygons[0][0]) for polygons in check(labels).values()] == [4, 4, 4]


def test_the_corners_are_those_of_pixels():
    ((rings,),) = trace(drawn("..... .111. .1.1. .111. .....")).values()
    outline, hole = (ring.tolist() for ring in rings)
    assert outline == [[1, 1], [4, 1], [4, 4], [1, 4]]
    assert hole == [[2, 2], [2, 3], [3, 3], [3, 2]]


def test_holes_stand_with_the_part_they_are_in(check):
    cells = check(drawn("111..111 1.1..1.1 111..111 ........ 111..... 1.1..... 111....."))
    assert [len(rings) for rings in cells[1]] == [2, 2, 2]
    for outline, hole in cells[1]:
        assert shapely.Polygon(outline).contains_properly(shapely.Polygon(hole))


def test_another_rasteriser_fills_the_same(check):
    labels = blobs(1)
    for number, polygons in check(labels).items():
        mask = np.zeros(labels.shape, bool)
        for rings in polygons:
            for ring in rings:
                mask ^= polygon2mask(labels.shape, ring[:, ::-1] - 0.5)  # there, pixels are points
        assert np.array_equal(mask, labels == number)


def test_a_label_at_each_of_65535_pixels():
    labels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    cells = trace(labels)
    assert [*cells] == [*range(1, 2**16)]
    corners = np.array([polygons[0][0] for polygons in cells.values()])
    row, col = np.divmod(np.arange(1, 2**16), 256)
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert np.array_equal(corners, np.stack([col, row], axis=1)[:, None] + square)


def test_corners_cost_time_and_pixels_do_not(count_calls):
    rng = np.random.default_rng(0)
    labels = np.zeros((120, 160), np.int32)
    for number in range(1, 31):
        centre = int(rng.integers(160)), int(rng.integers(120))
        cv2.ellipse(labels, centre, (int(rng.integers(5, 9)), 6), float(rng.integers(180)), 0, 360, number, -1)
    labels = labels.astype(np.uint16)
    corners = sum(len(ring) for polygons in trace(labels).values() for polygon in polygons for ring in polygon)
    calls = count_calls(trace, labels)
    assert corners > 500
    assert calls < 3 * corners
    assert count_calls(trace, np.kron(labels, np.ones((2, 2), np.uint16))) == calls
