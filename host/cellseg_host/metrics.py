"""Accuracy of labels and of the foreground, as small pure functions.

References
----------
.. [1] J. Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl.
   Nature Methods 16, 1247–1253 (2019).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))

Labels = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]


def pairwise_iou(true: Labels, predicted: Labels) -> npt.NDArray[np.float64]:
    """Intersection over union of every true with every predicted cell.

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
    return table[1:, 1:] / np.maximum(union[1:, 1:], 1)


def average_precision(true: Labels, predicted: Labels) -> npt.NDArray[np.float64]:
    """TP / (TP + FP + FN) at each of `THRESHOLDS`; their mean is the score of the 2018 Data Science Bowl [1]_.

    A pair matches when its IoU is above the threshold; above one half no cell can match two. An image without any
    cell, true or predicted, scores 1.
    """
    iou = pairwise_iou(true, predicted)
    cells = sum(iou.shape)
    if cells == 0:
        return np.ones(len(THRESHOLDS))
    matched = np.array([np.count_nonzero(iou > threshold) for threshold in THRESHOLDS])
    return matched / (cells - matched)


def foreground_iou(true: Mask, predicted: Mask) -> float:
    """|T ∩ P| / |T ∪ P|; 1 when both are empty."""
    union = np.count_nonzero(true | predicted)
    return np.count_nonzero(true & predicted) / union if union else 1.0


def dice(true: Mask, predicted: Mask) -> float:
    """2 |T ∩ P| / (|T| + |P|); 1 when both are empty."""
    total = np.count_nonzero(true) + np.count_nonzero(predicted)
    return 2 * np.count_nonzero(true & predicted) / total if total else 1.0


def two_class_iou(true: Mask, predicted: Mask) -> float:
    """Mean of the IoU of the foreground and of the background."""
    return (foreground_iou(true, predicted) + foreground_iou(~true, ~predicted)) / 2
