"""From maps to labels: touching cells come apart, nothing is lost, and the numbers follow one rule."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.measure import label as connected_parts
from skimage.morphology import local_maxima, reconstruction
from skimage.segmentation import watershed

from cellseg_device.cells import instances
from cellseg_device.cells.instances import Limits, mask_of, number
from cellseg_device.errors import ImageError


def discs(shape, *circles):
    """Foreground and int8 distance map (127 at the centres) of discs (row, col, radius)."""
    rows, cols = np.indices(shape)
    depth = np.max([1 - np.hypot(rows - r, cols - c) / radius for r, c, radius in circles], axis=0)
    foreground = (depth > 0).astype(np.uint8) * 255
    return foreground, np.rint(np.clip(depth, -1, 1) * 127).astype(np.int8)


def mask(text):
    return np.array([[255 if c != "." else 0 for c in row] for row in text.split()], np.uint8)


def separate(inside, distance, prominence, smallest=0):
    """Separate a mask, as a network sees it that is sure of everything."""
    foreground = np.where(inside > 0, 100, -100).astype(np.int8)
    return instances.separate(foreground, distance, inside.shape, Limits(0, prominence, min_area_px=smallest))


def flat(foreground, value=0):
    return np.full(foreground.shape, value, np.int8)


def smooth(seed, height=120, width=150):
    """A map as a network gives it: hills, some of which touch; and where it counts."""
    field = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    field = cv2.GaussianBlur(field, (0, 0), 5)
    field /= field.std()
    inside = (field > -0.3).astype(np.uint8) * 255
    return inside, np.clip(np.rint(field * 50), -128, 127).astype(np.int8)


def assert_numbered(labels):
    """Numbers 1…n, all of them there, in the order of their first pixels."""
    values, first = np.unique(labels, return_index=True)
    cells = values > 0
    assert np.array_equal(values[cells], np.arange(1, cells.sum() + 1))
    assert (np.diff(first[cells]) > 0).all()


@pytest.mark.parametrize("reduction", [1, 2])
def test_two_touching_discs_are_two_cells(reduction):
    foreground, distance = discs((40, 64), (20, 20, 12), (20, 42, 12))
    assert cv2.connectedComponents(foreground)[0] == 2  # one of them is the background
    labels = separate(foreground, np.ascontiguousarray(distance[::reduction, ::reduction]), 64)
    assert labels.max() == 2
    assert labels.dtype == np.uint16
    assert np.array_equal(labels > 0, foreground > 0)
    assert (labels[20, 20], labels[20, 42]) == (1, 2)
    assert set(np.unique(labels[:, :29])) == {0, 1}
    assert set(np.unique(labels[:, 34:])) == {0, 2}


def test_without_a_distance_map_cells_are_what_hangs_together():
    foreground = mask("11...1 11...1 ..1... ...... 1.1.11")
    labels = separate(foreground, None, 1)
    assert labels.tolist() == [
        [1, 1, 0, 0, 0, 2],
        [1, 1, 0, 0, 0, 2],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [3, 0, 4, 0, 5, 5],
    ]


def test_cells_are_numbered_by_their_first_pixel_row_by_row():
    labels = number(np.array([[0, 9, 0, 4], [7, 9, 0, 4], [7, 0, 2, 0]], np.uint16), 0)
    assert labels.tolist() == [[0, 1, 0, 2], [3, 1, 0, 2], [3, 0, 4, 0]]


@pytest.mark.parametrize(("smallest", "left"), [(0, 3), (1, 3), (2, 2), (4, 2), (5, 1), (7, 0)])
def test_small_cells_are_dropped_and_the_numbers_close_up(smallest, left):
    regions = np.array([[5, 0, 3, 3], [0, 0, 3, 3], [8, 8, 0, 0], [8, 8, 8, 8]], np.uint16)
    labels = number(regions, smallest)
    assert labels.max() == left
    assert_numbered(labels)
    assert separate((regions > 0).astype(np.uint8) * 255, flat(regions), 128, 100).max() == 0


@pytest.mark.parametrize("distance", [None, -128, 0, 127])
@pytest.mark.parametrize("prominence", [1, 10, 127, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (4, 1), (32, 48)])
def test_plain_fields(shape, distance, prominence):
    maps = None if distance is None else np.full(shape, distance, np.int8)
    nothing, everything = np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
    assert separate(nothing, maps, prominence).max() == 0
    labels = separate(everything, maps, prominence)
    assert labels.shape == shape
    assert (labels == 1).all()


def test_where_no_peak_rises_far_enough_the_components_are_left():
    foreground, distance = discs((40, 90), (20, 20, 12), (20, 42, 12), (20, 75, 9))
    labels = separate(foreground, distance, 255)
    assert np.array_equal(labels, connected_parts(foreground, connectivity=1))


@pytest.mark.parametrize(("saddle", "cells"), [(79, 2), (80, 2), (81, 1)])
def test_a_peak_counts_if_it_rises_by_no_less_than_told(saddle, cells):
    profile = [0, 120, saddle, 100, 0]
    labels = separate(mask("11111"), np.array([profile], np.int8), 20)
    assert labels.max() == cells


def test_a_low_cell_counts_beside_a_high_one_that_has_ripples():
    """No threshold does both: above the ripples the low cell has no seed."""
    profile = [20, 90, 84, 95, 88, 92, 20, -60, -30, -60]
    labels = separate(mask("1111111111"), np.array([profile], np.int8), 15)
    assert labels.max() == 2


def test_a_component_counts_however_flat_it_is():
    foreground, distance = discs((40, 90), (20, 20, 12), (20, 75, 5))
    distance[:, 60:] = -128
    assert separate(foreground, distance, 64).max() == 2


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_single_pixels_survive_any_reduction(reduction):
    foreground = np.zeros((16, 16), np.uint8)
    foreground[5, 9] = foreground[15, 0] = 255
    distance = np.full((16 // reduction, 16 // reduction), -128, np.int8)
    labels = separate(foreground, distance, 1)
    assert np.array_equal(labels > 0, foreground > 0)
    assert labels.max() == 2


@st.composite
def maps(draw):
    reduction = draw(st.sampled_from([1, 2]))
    distance = draw(arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=10), elements=st.integers(-128, 127)))
    shape = tuple(side * reduction for side in distance.shape)
    foreground = draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 255, 255])))
    return foreground, distance


@settings(max_examples=200, deadline=None)
@given(maps(), st.integers(1, 255))
def test_every_foreground_pixel_belongs_to_a_cell_and_no_other(maps, prominence):
    foreground, distance = maps
    labels = separate(foreground, distance, prominence)
    assert np.array_equal(labels > 0, foreground > 0)
    assert_numbered(labels)


@settings(max_examples=100, deadline=None)
@given(maps(), st.integers(1, 255), st.integers(0, 6))
def test_dropping_small_cells_changes_no_other(maps, prominence, smallest):
    every = separate(*maps, prominence)
    kept = separate(*maps, prominence, smallest)
    large = np.bincount(every.ravel()) >= smallest
    large[0] = False
    assert np.array_equal(kept > 0, large[every])
    assert_numbered(kept)


@settings(max_examples=100, deadline=None)
@given(maps(), st.integers(1, 255))
def test_every_seed_is_a_cell_of_its_own(maps, prominence):
    foreground, distance = maps
    inside = instances._any_in_block(foreground, foreground.shape[0] // distance.shape[0])
    markers = instances._markers(inside, distance, prominence)
    regions = instances.grow(markers, inside, distance)
    assert np.array_equal(regions[markers > 0], markers[markers > 0])
    assert np.array_equal(regions[inside > 0] > 0, np.ones((inside > 0).sum(), bool))


@settings(max_examples=200, deadline=None)
@given(maps(), st.integers(1, 100))
def test_peaks_are_the_h_maxima_of_scikit_image(maps, prominence):
    foreground, distance = maps
    inside = instances._any_in_block(foreground, foreground.shape[0] // distance.shape[0])
    height = np.where(inside > 0, np.maximum(distance.astype(np.int16) + 128, prominence), -1)
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    # By their definition, since its own h_maxima rounds: regional maxima of height - h grown under height, which rise
    # by more than h
    ground = reconstruction(np.where(inside > 0, height - (prominence - 1), -1), height, footprint=cross).astype(
        np.int16
    )
    expected = local_maxima(np.pad(ground, 1, constant_values=-1), footprint=cross)[1:-1, 1:-1] & (inside > 0)
    markers = instances._markers(inside, distance, prominence)
    parts = connected_parts(expected, connectivity=1)
    domes = [set(np.unique(markers[parts == part])) - {0} for part in range(1, parts.max() + 1)]
    assert sorted(domes, key=min) == [{number} for number in range(1, markers.max() + 1)]


@pytest.mark.parametrize("seed", range(5))
def test_cells_of_smooth_maps_are_of_one_piece(seed):
    inside, distance = smooth(seed)
    labels = separate(inside, distance, 20)
    assert labels.max() > 5
    assert connected_parts(labels, connectivity=1).max() == labels.max()


def crowd(seed):
    """Discs that touch and overlap, with the ripples a network leaves on their distances."""
    rng = np.random.default_rng(seed)
    centres = [(rng.integers(5, 115), rng.integers(5, 145), rng.uniform(7, 14)) for _ in range(45)]
    foreground, distance = discs((120, 150), *centres)
    ripples = cv2.GaussianBlur(rng.normal(0, 30, distance.shape).astype(np.float32), (0, 0), 1.5)
    return foreground, np.clip(np.rint(distance + ripples), -128, 127).astype(np.int8)


def seeded(inside, peaks):
    """The components of `inside` that have a peak, and the peaks' numbers."""
    markers = cv2.connectedComponents((peaks & (inside > 0)).astype(np.uint8), connectivity=4)[1]
    components = cv2.connectedComponents(inside, connectivity=4)[1]
    return np.where(np.isin(components, components[markers > 0]), inside, 0).astype(np.uint8), markers


@pytest.mark.parametrize(("maps_of", "threshold"), [(crowd, 64), (smooth, 20)])
def test_flooding_goes_by_depth_as_in_scikit_image(maps_of, threshold):
    alike, clear_of_lines, everywhere = 0, 0, 0
    for seed in range(25):
        inside, distance = maps_of(seed)
        inside, markers = seeded(inside, distance >= threshold)
        found = instances.grow(markers, inside, distance)
        expected = watershed((127 - distance.astype(int)) // 4, markers, mask=inside > 0, connectivity=1)
        # Which cell gets the line of pixels between two, both leave to chance.
        lowest = cv2.erode(np.where(inside > 0, expected, 65535).astype(np.uint16), np.ones((3, 3)))
        clear = (inside > 0) & (cv2.dilate(expected.astype(np.uint16), np.ones((3, 3))) == lowest)
        alike += (found == expected)[clear].sum()
        clear_of_lines += clear.sum()
        everywhere += (inside > 0).sum()
    assert clear_of_lines > 0.9 * everywhere
    assert alike >= 0.995 * clear_of_lines


def test_a_valley_parts_two_hills_not_the_middle_between_them():
    # the valley is at column 30; halfway between the peaks would be 18
    profile = np.interp(np.arange(40), [3, 30, 33], [120, -100, 120])
    distance = np.broadcast_to(profile, (21, 40)).astype(np.int8).copy()
    labels = separate(np.full(distance.shape, 255, np.uint8), distance, 100)
    assert labels.max() == 2
    edges = np.argmax(labels == 2, axis=1)
    assert (np.abs(edges - 30) <= 1).all()


def test_the_labels_do_not_depend_on_the_number_of_threads():
    inside, distance = smooth(3, 600, 700)
    answers = []
    for threads in (1, 2, 4):
        cv2.setNumThreads(threads)
        try:
            answers.append(separate(inside, distance, 20))
        finally:
            cv2.setNumThreads(-1)
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[0], answers[2])


def pixels_apart(count):
    foreground = np.zeros((600, 600), np.uint8)
    rows, cols = np.divmod(np.arange(count), 300)
    foreground[rows * 2, cols * 2] = 255
    return foreground


@pytest.mark.parametrize("prominence", [1, 255])
@pytest.mark.parametrize("with_distance", [True, False])
def test_the_largest_number_of_cells_fits_and_one_more_is_refused(with_distance, prominence):
    for count in (65_535, 65_536):
        foreground = pixels_apart(count)
        distance = flat(foreground) if with_distance else None
        if count <= instances.MAX_CELLS:
            labels = separate(foreground, distance, prominence)
            assert labels.max() == count
            assert_numbered(labels)
        else:
            with pytest.raises(ImageError, match=r"has 65536 cells, over the limit of 65535.*crop or split it"):
                separate(foreground, distance, prominence)


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (8, 12)])
@pytest.mark.parametrize("threshold", [-128, -5, 0, 127, 128])
def test_the_mask_is_what_reaches_the_threshold_inside_the_image(shape, threshold):
    values = np.random.default_rng(2).integers(-128, 128, shape).astype(np.int8)
    values.flat[0] = 127
    inside = max(shape[0] - 2, 1), max(shape[1] - 3, 1)
    mask = mask_of(values, inside, threshold)
    expected = np.zeros(shape, np.uint8)
    expected[: inside[0], : inside[1]] = (values.astype(int) >= threshold)[: inside[0], : inside[1]] * 255
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected)
