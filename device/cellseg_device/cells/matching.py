"""How well labels agree with true ones: cells matched by their overlap, and counts.

References
----------
.. [1] J. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl.
   Nature Methods 16, 1247–1253 (2019).
.. [2] R. Hyndman and A. Koehler, Another look at measures of forecast accuracy. International Journal of Forecasting
   22, 679–688 (2006).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))

Labels = npt.NDArray[np.uint16]


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


def count_error(true: int, counted: int) -> float | None:
    """Return |counted − true| / true, the absolute percentage error [2]_; None where there is no true cell."""
    return abs(counted - true) / true if true else None
