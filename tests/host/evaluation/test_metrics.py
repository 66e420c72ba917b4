import numpy as np
import pytest

from cellseg_host.evaluation import metrics


def squares(*corners: tuple[int, int], side: int = 10, size: int = 64) -> np.ndarray:
    labels = np.zeros((size, size), np.uint16)
    for number, (row, col) in enumerate(corners, 1):
        labels[row : row + side, col : col + side] = number
    return labels


def test_precision_recall_and_f1():
    assert metrics.precision(2, 4) == 1 / 2
    assert metrics.recall(2, 3) == 2 / 3
    assert metrics.f1(2, 3, 4) == pytest.approx(2 / (1 / (1 / 2) + 1 / (2 / 3)))
    assert metrics.f1(0, 3, 0) == metrics.recall(0, 3) == metrics.precision(0, 4) == 0


def test_a_share_of_no_cells_is_undefined():
    assert metrics.precision(0, 0) is metrics.recall(0, 0) is metrics.f1(0, 0, 0) is None


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
