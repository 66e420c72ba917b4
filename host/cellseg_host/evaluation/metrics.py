"""Accuracy of labels, of the foreground and of counts, as small pure functions.

References
----------
.. [1] J. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl.
   Nature Methods 16, 1247–1253 (2019).
.. [2] C. J. van Rijsbergen, Information retrieval, 2nd edition, chapter 7. Butterworths (1979).
.. [3] R. Hyndman and A. Koehler, Another look at measures of forecast accuracy. International Journal of Forecasting
   22, 679–688 (2006).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))

Labels = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]


def pairwise_iou(true: Labels, predicted: Labels) -> npt.NDArray[np.float64]:
    """Return the intersection over union of every true with every predicted cell.

    Parameters
    ----------
    true, predicted : ndarray of uint16, shape (height, width)
        Numbered from 1 without gaps; 0 is background.

    Returns
    -------
    ndarray of float64, shape (n_true, n_predicted)
    """
    n_true, n_predicted = int(true.max(initial=0)), int(predicted.max(initial=0))
    pair = true.astype(np.int64).ravel() * (n_predicted + 1) + predicted.ravel()
    table = np.bincount(pair, minlength=(n_true + 1) * (n_predicted + 1)).reshape(n_true + 1, n_predicted + 1)
    union = table.sum(axis=1, keepdims=True) + table.sum(axis=0, keepdims=True) - table
    iou: npt.NDArray[np.float64] = table[1:, 1:] / np.maximum(union[1:, 1:], 1)
    return iou


def matches(true: Labels, predicted: Labels) -> npt.NDArray[np.bool_]:
    """Return which pairs of a true and a predicted cell match: those that overlap by an IoU above 0.5.

    Each cell has at most one match, since no two cells can each cover more than half of a third.

    Returns
    -------
    ndarray of bool, shape (n_true, n_predicted)
    """
    return pairwise_iou(true, predicted) > THRESHOLDS[0]


def average_precision(true: Labels, predicted: Labels) -> npt.NDArray[np.float64]:
    """Return TP / (TP + FP + FN) at each of `THRESHOLDS`; the mean is the score of the 2018 Data Science Bowl [1]_.

    A pair matches when its IoU is above the threshold; above one half no cell can match two. An image without any
    cell, true or predicted, scores 1.
    """
    iou = pairwise_iou(true, predicted)
    cells = sum(iou.shape)
    if cells == 0:
        return np.ones(len(THRESHOLDS))
    matched = np.array([np.count_nonzero(iou > threshold) for threshold in THRESHOLDS], np.float64)
    return matched / (cells - matched)


def precision(matched: int, counted: int) -> float | None:
    """Return matched / counted, the share of the counted cells that match a true one; None where none is counted."""
    return matched / counted if counted else None


def recall(matched: int, true: int) -> float | None:
    """Return matched / true, the share of the true cells that match a counted one; None where there is none."""
    return matched / true if true else None


def f1(matched: int, true: int, counted: int) -> float | None:
    """Return 2 · matched / (true + counted), the harmonic mean of precision and recall [2]_; None without any cell."""
    return 2 * matched / (true + counted) if true + counted else None


def count_error(true: int, counted: int) -> float | None:
    """Return |counted − true| / true, the absolute percentage error [3]_; None where there is no true cell."""
    return abs(counted - true) / true if true else None


def foreground_iou(true: Mask, predicted: Mask) -> float:
    """Return |T ∩ P| / |T ∪ P|; 1 when both are empty."""
    union = np.count_nonzero(true | predicted)
    return np.count_nonzero(true & predicted) / union if union else 1.0


def dice(true: Mask, predicted: Mask) -> float:
    """Return 2 |T ∩ P| / (|T| + |P|); 1 when both are empty."""
    total = np.count_nonzero(true) + np.count_nonzero(predicted)
    return 2 * np.count_nonzero(true & predicted) / total if total else 1.0


def two_class_iou(true: Mask, predicted: Mask) -> float:
    """Return the mean of the IoU of the foreground and of the background."""
    return (foreground_iou(true, predicted) + foreground_iou(~true, ~predicted)) / 2
