import numpy as np
import pytest

from cellseg_host.evaluation import metrics


def squares(*corners: tuple[int, int], side: int = 10, size: int = 64) -> np.ndarray:
    labels = np.zeros((size, size), np.uint16)
    for number, (row, col) in enumerate(corners, 1):
        labels[row : row + side, col : col + side] = number
    return labels


def test_iou_of_shifted_squares_is_known():
    true, shifted = squares((0, 0)), squares((0, 5))
    assert metrics.pairwise_iou(true, shifted).tolist() == [[50 / 150]]


def test_pairwise_iou_agrees_with_the_definition():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 5, (2, 20, 30)).astype(np.uint16)
    expected = [
        [((true == t) & (predicted == p)).sum() / ((true == t) | (predicted == p)).sum() for p in range(1, 5)]
        for t in range(1, 5)
    ]
    assert np.allclose(metrics.pairwise_iou(true, predicted), expected)


def test_same_labels_score_one_whatever_their_numbers():
    true = squares((0, 0), (20, 20), (40, 0))
    swapped = squares((40, 0), (0, 0), (20, 20))
    assert metrics.average_precision(true, swapped).tolist() == [1.0] * 10


def test_ap_counts_hits_misses_and_extras():
    true = squares((0, 0), (20, 0), (40, 0))
    predicted = squares((0, 1), (20, 30), (40, 0), (20, 50))  # IoU 0.82, extra, 1, extra; one is missed
    ap = dict(zip(metrics.THRESHOLDS, metrics.average_precision(true, predicted), strict=True))
    assert ap[0.5] == pytest.approx(2 / 5)  # TP 2, FP 2, FN 1
    assert ap[0.8] == pytest.approx(2 / 5)
    assert ap[0.85] == pytest.approx(1 / 6)  # TP 1, FP 3, FN 2


def test_an_iou_of_exactly_one_half_is_no_match():
    true, half = squares((0, 0)), squares((0, 0))
    half[5:] = 0
    assert metrics.average_precision(true, half)[0] == 0


def test_matches_precision_recall_and_f1():
    true = squares((0, 0), (20, 0), (40, 0))
    predicted = squares((0, 1), (20, 30), (40, 0), (20, 50))  # as above: two match, two are extra, one is missed
    assert np.argwhere(metrics.matches(true, predicted)).tolist() == [[0, 0], [2, 2]]
    assert metrics.precision(2, 4) == 1 / 2
    assert metrics.recall(2, 3) == 2 / 3
    assert metrics.f1(2, 3, 4) == pytest.approx(2 / (1 / (1 / 2) + 1 / (2 / 3)))
    assert metrics.f1(0, 3, 0) == metrics.recall(0, 3) == metrics.precision(0, 4) == 0


def test_a_share_of_no_cells_is_undefined():
    assert metrics.precision(0, 0) is metrics.recall(0, 0) is metrics.f1(0, 0, 0) is metrics.count_error(0, 2) is None


def test_count_errors_have_no_sign():
    assert metrics.count_error(4, 5) == metrics.count_error(4, 3) == 1 / 4


@pytest.mark.parametrize(("true", "predicted", "score"), [((), (), 1), ((), ((0, 0),), 0), (((0, 0),), (), 0)])
def test_images_without_cells(true, predicted, score):
    assert metrics.average_precision(squares(*true), squares(*predicted)).tolist() == [score] * 10


def test_masks():
    true, predicted = squares((0, 0)) > 0, squares((0, 5)) > 0
    assert metrics.foreground_iou(true, predicted) == pytest.approx(1 / 3)
    assert metrics.dice(true, predicted) == pytest.approx(1 / 2)
    background = (64 * 64 - 150) / (64 * 64 - 50)
    assert metrics.two_class_iou(true, predicted) == pytest.approx((1 / 3 + background) / 2)


def test_empty_masks_agree():
    empty = np.zeros((4, 4), bool)
    assert (
        metrics.dice(empty, empty) == metrics.foreground_iou(empty, empty) == metrics.two_class_iou(empty, empty) == 1
    )
