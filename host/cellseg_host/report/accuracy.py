"""The metrics of segmenters that are compared, each with its 95 % interval over the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from cellseg_host import metrics
from cellseg_host.evaluate import ImageScore
from cellseg_host.report.statistics import Interval, Statistic, Values, bootstrap, difference_of, mean_of, ratio_of

Scores = Sequence[ImageScore]


@dataclass(frozen=True)
class Metric:
    """One number about a model on a set of images.

    Attributes
    ----------
    key : str
        As in `cellseg_host.evaluate.Summary`.
    title : str
    of : callable
        From the scores of images to the statistic.
    is_error : bool
        Whether less is better; it is then shown in per cent.
    """

    key: str
    title: str
    of: Callable[[Scores], Statistic]
    is_error: bool = False


def _mean(name: str) -> Callable[[Scores], Statistic]:
    return lambda scores: mean_of([attrgetter(name)(s) for s in scores])


def _ap75(scores: Scores) -> Statistic:
    return mean_of([s.ap[metrics.THRESHOLDS.index(0.75)] for s in scores])


def _counts(scores: Scores) -> tuple[Values, Values]:
    true = np.array([s.cells_true for s in scores], np.float64)
    return true, np.array([s.cells_predicted for s in scores], np.float64)


def _total_count_error(scores: Scores) -> Statistic:
    true, predicted = _counts(scores)
    return lambda weights: np.abs(weights @ (predicted - true)) / np.maximum(weights @ true, 1)


def _image_count_error(scores: Scores) -> Statistic:
    true, predicted = _counts(scores)
    return lambda weights: (weights @ np.abs(predicted - true)) / np.maximum(weights @ true, 1)


METRICS = (
    Metric("ap50", "AP@0.5", _mean("ap50")),
    Metric("ap75", "AP@0.75", _ap75),
    Metric("mean_ap", "mean AP", _mean("mean_ap")),
    Metric("mean_iou", "mean IoU@0.4", _mean("mean_iou")),
    Metric("foreground_iou", "foreground IoU", _mean("foreground_iou")),
    Metric("dice", "Dice", _mean("dice")),
    Metric("total_count_error", "count error", _total_count_error, is_error=True),
    Metric("image_count_error", "count error per image", _image_count_error, is_error=True),
)


def accuracy(scores: Scores, weights: Values) -> dict[str, Interval]:
    """Every metric by its key.

    Parameters
    ----------
    scores : sequence of ImageScore
    weights : ndarray of float64, shape (n_samples, n_images)
        As from `statistics.resamples`.
    """
    return {m.key: bootstrap(m.of(scores), weights) for m in METRICS}


def difference(scores: Scores, baseline: Scores, weights: Values) -> dict[str, Interval]:
    """Every metric of `scores` minus that of `baseline` on the same images, paired."""
    return {m.key: bootstrap(difference_of(m.of(scores), m.of(baseline)), weights) for m in METRICS}


def recall(found: Values, cells: Values, weights: Values) -> Interval:
    """The share of cells that were found.

    Parameters
    ----------
    found, cells : ndarray of float64, shape (n_images,)
        Cells found, and cells there, in each image.
    weights : ndarray of float64, shape (n_samples, n_images)
        Whole images are drawn, since the cells of one image are alike.
    """
    return bootstrap(ratio_of(found, cells), weights)
