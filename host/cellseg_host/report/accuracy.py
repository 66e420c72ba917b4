"""Metrics of models that are compared, each with its 95 % interval over the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cellseg_host.report.statistics import Interval, Statistic, Values, bootstrap, difference_of

S = TypeVar("S")


@dataclass(frozen=True)
class Metric(Generic[S]):
    """One number about a model on a set of images.

    Attributes
    ----------
    key : str
        Its name in files.
    title : str
        Its name for people.
    of : callable
        From what the model answered to the statistic.
    is_error : bool
        Whether less is better; it is then shown in per cent.
    """

    key: str
    title: str
    of: Callable[[S], Statistic]
    is_error: bool = False


def accuracy(metrics: Sequence[Metric[S]], answers: S, weights: Values) -> dict[str, Interval]:
    """Return every metric by its key; NaN where it is undefined.

    Parameters
    ----------
    metrics : sequence of Metric
    answers
        Of one model, as the metrics take them.
    weights : ndarray of float64, shape (n_samples, n_images)
        As from `statistics.resamples`.
    """
    return {m.key: bootstrap(m.of(answers), weights) for m in metrics}


def difference(metrics: Sequence[Metric[S]], answers: S, baseline: S, weights: Values) -> dict[str, Interval]:
    """Return every metric of `answers` minus that of `baseline` on the same images, paired."""
    return {m.key: bootstrap(difference_of(m.of(answers), m.of(baseline)), weights) for m in metrics}
