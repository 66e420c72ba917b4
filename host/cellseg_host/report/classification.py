"""The metrics of classifiers that are compared, as statistics of weighted images, so that they can be bootstrapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_host.evaluation.roc import at_threshold
from cellseg_host.report.accuracy import Metric
from cellseg_host.report.statistics import Statistic, Values, ratio_of

_MAX_CELLS = 4_000_000  # of the arrays that a bootstrap works on at a time


@dataclass(frozen=True)
class Cases:
    """One classifier's probability for every view, and the truth.

    Attributes
    ----------
    truth : ndarray of bool, shape (n,)
    probability : ndarray of float64, shape (n,)
    image : ndarray of int, shape (n,)
        Number of the image that each view is cut from, from 0; views of one image are drawn together.
    threshold : float
        A view counts as positive from this probability upwards.
    """

    truth: npt.NDArray[np.bool_]
    probability: Values
    image: npt.NDArray[np.int64]
    threshold: float


def auc_of(cases: Cases) -> Statistic:
    """Return the area under the ROC curve, as in `roc.roc`, each view weighted as its image is drawn."""
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
    """Return the average precision, as in `roc.precision_recall`, each view weighted as its image is drawn."""
    order = np.argsort(-cases.probability, kind="stable")
    ranked, truth, image = cases.probability[order], cases.truth[order], cases.image[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, True))  # of each run of equal probabilities

    def statistic(weights: Values) -> Values:
        drawn = weights[:, image]
        hits, positive = np.cumsum(drawn * truth, axis=1)[:, last], np.cumsum(drawn, axis=1)[:, last]
        precision = np.divide(hits, positive, out=np.zeros_like(hits), where=positive > 0)
        gained = np.diff(hits, axis=1, prepend=0.0)
        return _divided((gained * precision).sum(axis=1), hits[:, -1])

    return lambda weights: _in_parts(statistic, weights, len(ranked))


def _share(
    of_hits: Callable[[Cases], npt.NDArray[np.bool_]], of_all: Callable[[Cases], npt.NDArray[np.bool_]]
) -> Callable[[Cases], Statistic]:
    """Return the metric that is the share of views of one kind among those of another."""

    def statistic(cases: Cases) -> Statistic:
        images, wanted = int(cases.image.max()) + 1, of_all(cases)
        hits = np.bincount(cases.image, wanted & of_hits(cases), images)
        return ratio_of(hits, np.bincount(cases.image, wanted, images))

    return statistic


def _called_positive(cases: Cases) -> npt.NDArray[np.bool_]:
    return cases.probability >= cases.threshold


METRICS: tuple[Metric[Cases], ...] = (
    Metric("auc", "AUC", auc_of),
    Metric("average_precision", "average precision", average_precision_of),
    Metric("accuracy", "accuracy", _share(lambda c: _called_positive(c) == c.truth, lambda c: np.ones_like(c.truth))),
    Metric("sensitivity", "sensitivity", _share(_called_positive, lambda c: c.truth)),
    Metric("specificity", "specificity", _share(lambda c: ~_called_positive(c), lambda c: ~c.truth)),
    Metric("ppv", "PPV", _share(lambda c: c.truth, _called_positive)),
    Metric("npv", "NPV", _share(lambda c: ~c.truth, lambda c: ~_called_positive(c))),
)


def confusion(cases: Cases) -> dict[str, int]:
    """Return the number of right and wrong answers at the threshold."""
    answers = at_threshold(cases.truth, cases.probability, cases.threshold)
    names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    return {name: getattr(answers, name) for name in names}


def _divided(above: Values, below: Values) -> Values:
    ratio: Values = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return ratio


def _in_parts(statistic: Statistic, weights: Values, views: int) -> Values:
    parts = min(-(-len(weights) * views // _MAX_CELLS), len(weights))
    return np.concatenate([statistic(part) for part in np.array_split(weights, max(parts, 1))])
