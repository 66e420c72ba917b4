import cv2
import numpy as np
import pytest
from scipy import ndimage

from cellseg_host.training import targets
from cellseg_host.training.targets import TARGETS


def touching_discs() -> np.ndarray:
    rows, cols = np.mgrid[:60, :80]
    labels = np.zeros((60, 80), np.uint16)
    labels[(rows - 30) ** 2 + (cols - 25) ** 2 < 15**2] = 1
    labels[((rows - 30) ** 2 + (cols - 50) ** 2 < 12**2) & (labels == 0)] = 2
    return labels


def two_pixels() -> np.ndarray:
    labels = np.zeros((5, 7), np.uint16)
    labels[2, 3], labels[4, 6] = 9, 4  # numbers have gaps and no order
    return labels


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "labels",
    [
        touching_discs(),
        touching_discs()[20:41, 20:52],  # cut by all four sides
        two_pixels(),
        np.zeros((5, 7), np.uint16),
        np.full((5, 7), 3, np.uint16),
        np.zeros((1, 1), np.uint16),
        np.full((1, 1), 65_535, np.uint16),
        np.arange(12, dtype=np.uint16).reshape(1, 12),
    ],
    ids=["touching", "cut", "pixels", "empty", "full", "background", "pixel", "line"],
)
def test_targets_lie_between_zero_and_one_whatever_the_labels(name, labels):
    drawn = TARGETS[name](labels)
    assert drawn.shape == labels.shape
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert np.isfinite(drawn).all()
    if not labels.any():
        assert not drawn.any()


def test_foreground_is_the_mask():
    assert (targets.foreground(touching_discs()) == (touching_discs() > 0)).all()


@pytest.mark.parametrize("target", [targets.distance, targets.centre])
def test_distance_and_centre_are_one_somewhere_in_every_nucleus_and_zero_outside(target):
    for labels in (touching_discs(), two_pixels(), np.full((9, 7), 3, np.uint16)):
        drawn = target(labels)
        assert np.allclose(ndimage.maximum(drawn, labels, np.unique(labels[labels > 0])), 1)
        assert not drawn[labels == 0].any()
        assert drawn[labels > 0].min() > 0


def test_touching_nuclei_have_a_valley_between_them():
    labels = touching_discs()
    assert ndimage.label(labels > 0)[1] == 1
    for target in (targets.distance, targets.centre):
        assert ndimage.label(target(labels) > 0.5)[1] == 2


def test_distance_is_that_of_the_nucleus_alone():
    labels = touching_discs()
    alone = np.where(labels == 1, labels, 0)
    inner = ndimage.binary_erosion(labels == 1, iterations=3)
    assert np.allclose(targets.distance(labels)[inner], targets.distance(alone)[inner], atol=0.08)


@pytest.mark.parametrize("name", targets.WARPED)
def test_distance_and_centre_do_not_change_when_the_image_is_scaled(name):
    labels = touching_discs()
    larger = cv2.resize(labels, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    scaled = cv2.resize(TARGETS[name](labels), None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR)
    inner = cv2.erode((larger > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    difference = np.abs(TARGETS[name](larger) - scaled)[inner]
    assert difference.mean() < 0.06  # half a pixel of the smaller
    assert difference.max() < 0.15


def test_centre_falls_as_a_gaussian_from_the_middle_of_a_disc():
    rows, cols = np.mgrid[:64, :64]
    away = np.hypot(rows - 30, cols - 33)
    labels = np.where(away < 20, 7, 0).astype(np.uint16)
    drawn = targets.centre(labels)
    assert np.unravel_index(drawn.argmax(), drawn.shape) == (30, 33)
    inside = labels > 0
    assert np.allclose(drawn[inside], np.exp(-(away**2) / (2 * 10**2))[inside], atol=0.02)  # half of the radius of 20


def test_the_middle_lies_in_the_nucleus_even_where_its_centroid_does_not():
    rows, cols = np.mgrid[:64, :64]
    away = np.hypot(rows - 32, cols - 32)
    crescent = ((away < 24) & (away > 14) & (cols < 44)).astype(np.uint16)
    row, col = ndimage.center_of_mass(crescent)
    assert not crescent[round(row), round(col)]
    assert crescent.ravel()[targets.centre(crescent).argmax()]
    bar = np.zeros((20, 60), np.uint16)
    bar[5:14, 6:55] = 1  # all of its axis is equally deep
    assert np.unravel_index(targets.centre(bar).argmax(), bar.shape) == (9, 30)


def test_outline_is_one_on_borders_and_between_touching_nuclei_and_falls_off_as_a_gaussian():
    labels = np.zeros((40, 60), np.uint16)
    labels[10:30, 10:30], labels[10:30, 30:50] = 1, 2
    drawn = targets.outline(labels)
    assert (drawn[10:30, [10, 29, 30, 49]] == 1).all()
    assert (drawn[[10, 29], 10:50] == 1).all()
    steps = np.exp(-(np.arange(6) ** 2) / (2 * targets.OUTLINE_PX**2))
    assert np.allclose(drawn[20, 10:16], steps)
    assert np.allclose(drawn[20, 10:4:-1], steps)
    assert drawn[20, 20] < 1e-5


def test_where_the_image_cuts_a_nucleus_is_no_outline():
    labels = np.zeros((40, 40), np.uint16)
    labels[:20, :20] = 1
    drawn = targets.outline(labels)
    assert drawn[0, 0] < 1e-5
    assert drawn[19, 0] == drawn[0, 19] == 1


def test_border_weight_is_high_between_neighbours_only():
    labels = touching_discs()
    weight = targets.border_weight(labels)
    border = (labels[:, :-1] == 1) & (labels[:, 1:] == 2)
    assert weight[:, :-1][border].mean() > 0.5
    assert weight[30, 5:18].max() < 0.01
    assert not targets.border_weight(np.where(labels == 1, labels, 0)).any()
