"""The metrics of segmenters that are compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cellseg_host.evaluation.evaluate import ImageScore
from cellseg_host.report.accuracy import Metric
from cellseg_host.report.statistics import Interval, Statistic, Values, bootstrap, mean_of, ratio_of

Scores = Sequence[ImageScore]


def _mean(name: str) -> Callable[[Scores], Statistic]:
    return lambda scores: mean_of(_of_each(name, scores))


def _of_each(name: str, scores: Scores) -> Values:
    return np.array([getattr(s, name) for s in scores], np.float64)


def _precision(scores: Scores) -> Statistic:
    return ratio_of(_of_each("cells_matched", scores), _of_each("cells_counted", scores))


def _recall(scores: Scores) -> Statistic:
    return ratio_of(_of_each("cells_matched", scores), _of_each("cells_true", scores))


def _f1(scores: Scores) -> Statistic:
    cells = _of_each("cells_true", scores) + _of_each("cells_counted", scores)
    return ratio_of(2 * _of_each("cells_matched", scores), cells)


def _total_count_error(scores: Scores) -> Statistic:
    true, counted = _of_each("cells_true", scores), _of_each("cells_counted", scores)
    return lambda weights: np.abs(weights @ (counted - true)) / np.maximum(weights @ true, 1)


def _image_count_error(scores: Scores) -> Statistic:
    true, counted = _of_each("cells_true", scores), _of_each("cells_counted", scores)
    return lambda weights: (weights @ np.abs(counted - true)) / np.maximum(weights @ true, 1)


def _mean_count_error(scores: Scores) -> Statistic:
    errors = [s.relative_count_error for s in scores]
    return ratio_of([e or 0.0 for e in errors], [e is not None for e in errors])


# By the names of `cellseg_host.evaluation.evaluate.Summary`, which has their definitions
METRICS: tuple[Metric[Scores], ...] = (
    Metric("ap50", "AP@0.5", _mean("ap50")),
    Metric("ap75", "AP@0.75", _mean("ap75")),
    Metric("mean_ap", "mean AP", _mean("mean_ap")),
    Metric("mean_iou", "mean IoU@0.4", _mean("mean_iou")),
    Metric("foreground_iou", "foreground IoU", _mean("foreground_iou")),
    Metric("dice", "Dice", _mean("dice")),
    Metric("precision", "precision", _precision),
    Metric("recall", "recall", _recall),
    Metric("f1", "F1", _f1),
    Metric("total_count_error", "count error", _total_count_error, is_error=True),
    Metric("image_count_error", "count error, image by image", _image_count_error, is_error=True),
    Metric("mean_count_error", "count error per image", _mean_count_error, is_error=True),
)


def recall(matched: Values, cells: Values, weights: Values) -> Interval:
    """Return the share of true cells that are matched.

    Parameters
    ----------
    matched, cells : ndarray of float64, shape (n_images,)
        Cells matched, and true cells, in each image.
    weights : ndarray of float64, shape (n_samples, n_images)
        Whole images are drawn, since the cells of one image are alike.
    """
    return bootstrap(ratio_of(matched, cells), weights)
