"""How uncertain a number is that was measured on a sample of images, how counts agree, and bins of equal content.

The bootstrap is ours and not ``scipy.stats.bootstrap``: here images are drawn, once for all models and metrics, and a
statistic takes their weights, so that views of one image stay together (the AUC), differences are paired, resamples in
which a ratio is undefined are left out, and all metrics of a page cost a few matrix products. SciPy's draws single
observations anew for each metric, refuses a single image, and gives NaN where one resample is undefined.

References
----------
.. [1] B. Efron, Bootstrap methods: another look at the jackknife. Annals of Statistics 7, 1–26 (1979).
.. [2] B. Efron and R. Tibshirani, An introduction to the bootstrap, chapter 13: percentile intervals.
   Chapman & Hall (1993).
.. [3] J. M. Bland and D. G. Altman, Statistical methods for assessing agreement between two methods of clinical
   measurement. Lancet 327, 307–310 (1986).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
COVERAGE = 0.95

Values = npt.NDArray[np.float64]

# From weights of images, (n_samples, n_images), to the statistic of each weighted sample, (n_samples,)
Statistic = Callable[[Values], Values]


@dataclass(frozen=True)
class Interval:
    """A value, and the ends of its 95 % interval; NaN where there are no cases, or too few for an interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside: a difference that is unlikely to be chance."""
        return self.low > 0 or self.high < 0


def resamples(images: int, times: int = RESAMPLES, seed: int = 0) -> Values:
    """Return how often each image is drawn in each bootstrap sample [1]_.

    Parameters
    ----------
    images : int
        At least 1.
    times : int
        Samples, each of `images` draws with replacement.
    seed : int

    Returns
    -------
    ndarray of float64, shape (times, images)
        Whole numbers; each row adds up to `images`. The same for the same arguments.
    """
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), times).astype(np.float64)


def bootstrap(statistic: Statistic, weights: Values) -> Interval:
    """Return a statistic of all images with its 95 % percentile interval [2]_.

    Parameters
    ----------
    statistic : callable
    weights : ndarray of float64, shape (n_samples, n_images)
        As from `resamples`. With the same weights, a difference of two statistics is a paired one.

    Returns
    -------
    Interval
        Without ends for a single image, which does not show how images differ.
    """
    value = float(statistic(np.ones((1, weights.shape[1])))[0])
    samples = statistic(weights)
    samples = samples[np.isfinite(samples)]
    if weights.shape[1] < 2 or not len(samples):
        return Interval(value, math.nan, math.nan)
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(samples, (tail, 1 - tail))
    return Interval(value, float(low), float(high))


def mean_of(values: npt.ArrayLike) -> Statistic:
    """Return the statistic that is the mean over images."""
    numbers = np.asarray(values, np.float64)
    return lambda weights: (weights @ numbers) / weights.sum(axis=1)


def ratio_of(numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Statistic:
    """Return the statistic Σ numerator / Σ denominator over images; NaN where the denominator is 0."""
    above, below = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)

    def statistic(weights: Values) -> Values:
        total = weights @ below
        ratio: Values = np.divide(weights @ above, total, out=np.full(len(total), math.nan), where=total != 0)
        return ratio

    return statistic


def difference_of(one: Statistic, other: Statistic) -> Statistic:
    """Return the statistic `one` − `other` of the same images: paired."""
    return lambda weights: one(weights) - other(weights)


@dataclass(frozen=True)
class Agreement:
    """How far two counts of the same images agree [3]_.

    Attributes
    ----------
    mean, difference : ndarray of float64, shape (n,)
        Per image: mean of the two counts, and counted − true.
    bias : float
        Mean difference.
    low, high : float
        Limits of agreement, bias ± 1.96 standard deviations of the differences: 95 % of images lie between them,
        where the differences are normally distributed. Both are the bias for a single image.
    """

    mean: Values
    difference: Values
    bias: float
    low: float
    high: float


def bland_altman(true: npt.ArrayLike, counted: npt.ArrayLike) -> Agreement:
    """Return the agreement of counted with true cells.

    Parameters
    ----------
    true, counted : array_like of int, shape (n,)
        At least one image.
    """
    first, second = np.asarray(true, np.float64), np.asarray(counted, np.float64)
    difference = second - first
    bias = float(difference.mean())
    spread = 1.96 * float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    return Agreement((first + second) / 2, difference, bias, bias - spread, bias + spread)


def quantile_edges(values: npt.ArrayLike, bins: int) -> Values:
    """Return the edges of at most `bins` bins that hold about equally many of the values.

    Returns
    -------
    ndarray of float64, shape (n_bins + 1,)
        Strictly increasing; fewer where values repeat, none for no values. Bin i holds edge[i] ≤ value < edge[i + 1],
        the last its upper edge too.
    """
    numbers = np.asarray(values, np.float64)
    if not len(numbers):
        return np.empty(0)
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, bins + 1)))
    return edges if len(edges) > 1 else np.repeat(edges, 2)


def bin_of(values: npt.ArrayLike, edges: Values) -> npt.NDArray[np.int64]:
    """Return the bin of each value, given the edges from `quantile_edges`."""
    return np.clip(np.searchsorted(edges, np.asarray(values), side="right") - 1, 0, max(len(edges) - 2, 0))
