"""Accuracy of labels, of the foreground and of counts, as small pure functions; what matches cells is the device's.

References
----------
.. [1] C. J. van Rijsbergen, Information retrieval, 2nd edition, chapter 7. Butterworths (1979).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.matching import THRESHOLDS, Labels, average_precision, count_error, matches, pairwise_iou

__all__ = [
    "THRESHOLDS",
    "Labels",
    "average_precision",
    "count_error",
    "dice",
    "f1",
    "foreground_iou",
    "matches",
    "pairwise_iou",
    "precision",
    "recall",
    "two_class_iou",
]

Mask = npt.NDArray[np.bool_]


def precision(matched: int, counted: int) -> float | None:
    """Return matched / counted, the share of the counted cells that match a true one; None where none is counted."""
    return matched / counted if counted else None


def recall(matched: int, true: int) -> float | None:
    """Return matched / true, the share of the true cells that match a counted one; None where there is none."""
    return matched / true if true else None


def f1(matched: int, true: int, counted: int) -> float | None:
    """Return 2 · matched / (true + counted), the harmonic mean of precision and recall [1]_; None without any cell."""
    return 2 * matched / (true + counted) if true + counted else None


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
