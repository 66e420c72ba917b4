"""Cells matched with true ones."""

import numpy as np
import pytest

from cellseg_device.cells import matching


def squares(*corners: tuple[int, int], side: int = 10, size: int = 64) -> np.ndarray:
    labels = np.zeros((size, size), np.uint16)
    for number, (row, col) in enumerate(corners, 1):
        labels[row : row + side, col : col + side] = number
    return labels


def test_iou_of_shifted_squares_is_known():
    true, shifted = squares((0, 0)), squares((0, 5))
    assert matching.pairwise_iou(true, shifted).tolist() == [[50 / 150]]


def test_pairwise_iou_agrees_with_the_definition():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 5, (2, 20, 30)).astype(np.uint16)
    expected = [
        [((true == t) & (predicted == p)).sum() / ((true == t) | (predicted == p)).sum() for p in range(1, 5)]
        for t in range(1, 5)
    ]
    assert np.allclose(matching.pairwise_iou(true, predicted), expected)


def test_same_labels_score_one_whatever_their_numbers():
    true = squares((0, 0), (20, 20), (40, 0))
    swapped = squares((40, 0), (0, 0), (20, 20))
    assert matching.average_precision(true, swapped).tolist() == [1.0] * 10


def test_ap_counts_hits_misses_and_extras():
    true = squares((0, 0), (20, 0), (40, 0))
    predicted = squares((0, 1), (20, 30), (40, 0), (20, 50))  # IoU 0.82, extra, 1, extra; one is missed
    ap = dict(zip(matching.THRESHOLDS, matching.average_precision(true, predicted), strict=True))
    assert ap[0.5] == pytest.approx(2 / 5)  # TP 2, FP 2, FN 1
    assert ap[0.8] == pytest.approx(2 / 5)
    assert ap[0.85] == pytest.approx(1 / 6)  # TP 1, FP 3, FN 2


def test_an_iou_of_exactly_one_half_is_no_match():
    true, half = squares((0, 0)), squares((0, 0))
    half[5:] = 0
    assert matching.average_precision(true, half)[0] == 0


def test_matches_are_pairs_that_overlap_by_more_than_half():
    true = squares((0, 0), (20, 0), (40, 0))
    predicted = squares((0, 1), (20, 30), (40, 0), (20, 50))  # as above
    assert np.argwhere(matching.matches(true, predicted)).tolist() == [[0, 0], [2, 2]]


def test_count_errors_have_no_sign():
    assert matching.count_error(4, 5) == matching.count_error(4, 3) == 1 / 4
    assert matching.count_error(0, 2) is None


@pytest.mark.parametrize(("true", "predicted", "score"), [((), (), 1), ((), ((0, 0),), 0), (((0, 0),), (), 0)])
def test_images_without_cells(true, predicted, score):
    assert matching.average_precision(squares(*true), squares(*predicted)).tolist() == [score] * 10
