import numpy as np
from scipy import ndimage

from cellseg_host import targets


def touching_discs() -> np.ndarray:
    rows, cols = np.mgrid[:60, :80]
    labels = np.zeros((60, 80), np.uint16)
    labels[(rows - 30) ** 2 + (cols - 25) ** 2 < 15**2] = 1
    labels[((rows - 30) ** 2 + (cols - 50) ** 2 < 12**2) & (labels == 0)] = 2
    return labels


def test_distance_is_one_at_the_deepest_pixel_of_every_nucleus_and_zero_outside():
    labels = touching_discs()
    distance = targets.distance(labels)
    assert np.allclose(ndimage.maximum(distance, labels, [1, 2]), 1)
    assert distance[labels == 0].max() == 0
    assert distance[labels > 0].min() > 0


def test_touching_nuclei_have_a_valley_between_them():
    labels = touching_discs()
    cores = targets.distance(labels) > 0.5
    assert ndimage.label(labels > 0)[1] == 1
    assert ndimage.label(cores)[1] == 2


def test_distance_is_that_of_the_nucleus_alone():
    labels = touching_discs()
    alone = np.where(labels == 1, labels, 0)
    inner = ndimage.binary_erosion(labels == 1, iterations=3)
    assert np.allclose(targets.distance(labels)[inner], targets.distance(alone)[inner], atol=0.08)


def test_one_pixel_and_no_nucleus():
    labels = np.zeros((5, 7), np.uint16)
    assert not targets.distance(labels).any()
    labels[2, 3] = 1
    assert targets.distance(labels)[2, 3] == 1


def test_gap_weight_is_high_between_neighbours_only():
    labels = touching_discs()
    weight = targets.gap_weight(labels)
    border = (labels[:, :-1] == 1) & (labels[:, 1:] == 2)
    assert weight[:, :-1][border].mean() > 0.5
    assert weight[30, 5:18].max() < 0.01
    assert not targets.gap_weight(np.where(labels == 1, labels, 0)).any()
