"""The metrics of classifiers that are compared, as statistics of weighted images, so that they can be bootstrapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_host.report.statistics import Interval, Statistic, Values, bootstrap, difference_of, ratio_of
from cellseg_host.roc import at_threshold

_MAX_CELLS = 4_000_000  # of the arrays that a bootstrap works on at a time


@dataclass(frozen=True)
class Cases:
    """What one classifier said of every view.

    Attributes
    ----------
    truth : ndarray of bool, shape (n,)
    probability : ndarray of float64, shape (n,)
    image : ndarray of int, shape (n,)
        Number of the image that each view is of, from 0: views of one image are drawn together.
    threshold : float
        A view counts as positive from this probability upwards.
    """

    truth: npt.NDArray[np.bool_]
    probability: Values
    image: npt.NDArray[np.int64]
    threshold: float


@dataclass(frozen=True)
class Metric:
    """One number about a classifier."""

    key: str
    title: str
    of: Callable[[Cases], Statistic]


def auc_of(cases: Cases) -> Statistic:
    """Area under the ROC curve: as `cellseg_host.roc.roc`, with each view weighted as its image is drawn."""
    order = np.argsort(cases.probability, kind="stable")
    ranked, truth, image = cases.probability[order], cases.truth[order], cases.image[order]
    first, last = (np.searchsorted(ranked, ranked, side=side) for side in ("left", "right"))

    def statistic(weights: Values) -> Values:
        drawn = weights[:, image]
        positive = drawn * truth
        # Negatives before each place of the ranking; those of the same probability count half
        negative = np.pad(np.cumsum(drawn * ~truth, axis=1), ((0, 0), (1, 0)))
        won = (positive * (negative[:, first] + negative[:, last])).sum(axis=1) / 2
        return _divided(won, positive.sum(axis=1) * negative[:, -1])

    return lambda weights: _in_parts(statistic, weights, len(ranked))


def average_precision_of(cases: Cases) -> Statistic:
    """Average precision: as `cellseg_host.roc.precision_recall`, with each view weighted as its image is drawn."""
    order = np.argsort(-cases.probability, kind="stable")
    ranked, truth, image = cases.probability[order], cases.truth[order], cases.image[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # of each run of equal probabilities

    def statistic(weights: Values) -> Values:
        drawn = weights[:, image]
        hits, called = np.cumsum(drawn * truth, axis=1)[:, last], np.cumsum(drawn, axis=1)[:, last]
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        gained = np.diff(hits, axis=1, prepend=0.0)
        return _divided((gained * precision).sum(axis=1), hits[:, -1])

    return lambda weights: _in_parts(statistic, weights, len(ranked))


def _share(
    of_hits: Callable[[Cases], npt.NDArray[np.bool_]], of_all: Callable[[Cases], npt.NDArray[np.bool_]]
) -> Callable[[Cases], Statistic]:
    """The share of views of one kind among those of another."""

    def statistic(cases: Cases) -> Statistic:
        images, wanted = int(cases.image.max()) + 1, of_all(cases)
        hits = np.bincount(cases.image, wanted & of_hits(cases), images)
        return ratio_of(hits, np.bincount(cases.image, wanted, images))

    return statistic


def _said(cases: Cases) -> npt.NDArray[np.bool_]:
    return cases.probability >= cases.threshold


METRICS = (
    Metric("auc", "AUC", auc_of),
    Metric("average_precision", "average precision", average_precision_of),
    Metric("accuracy", "accuracy", _share(lambda c: _said(c) == c.truth, lambda c: np.ones_like(c.truth))),
    Metric("sensitivity", "sensitivity", _share(_said, lambda c: c.truth)),
    Metric("specificity", "specificity", _share(lambda c: ~_said(c), lambda c: ~c.truth)),
    Metric("ppv", "PPV", _share(lambda c: c.truth, _said)),
    Metric("npv", "NPV", _share(lambda c: ~c.truth, lambda c: ~_said(c))),
)


def accuracy(cases: Cases, weights: Values) -> dict[str, Interval]:
    """Every metric by its key; NaN where there are no cases for it."""
    return {m.key: bootstrap(m.of(cases), weights) for m in METRICS}


def difference(cases: Cases, baseline: Cases, weights: Values) -> dict[str, Interval]:
    """Every metric of `cases` minus that of `baseline` on the same images, paired."""
    return {m.key: bootstrap(difference_of(m.of(cases), m.of(baseline)), weights) for m in METRICS}


def confusion(cases: Cases) -> dict[str, int]:
    """Right and wrong answers at the threshold."""
    found = at_threshold(cases.truth, cases.probability, cases.threshold)
    names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    return {name: getattr(found, name) for name in names}


def _divided(above: Values, below: Values) -> Values:
    return np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)


def _in_parts(statistic: Statistic, weights: Values, views: int) -> Values:
    parts = min(-(-len(weights) * views // _MAX_CELLS), len(weights))
    return np.concatenate([statistic(part) for part in np.array_split(weights, max(parts, 1))])
