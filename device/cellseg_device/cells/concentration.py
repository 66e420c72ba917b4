"""From a count to a concentration with its interval by chance alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_HALVINGS = 60
_MM3_PER_ML = 1000


@dataclass(frozen=True)
class Concentration:
    """Cells per millilitre of the undiluted sample, with the bounds of its 95 % interval."""

    per_ml: float
    low_per_ml: float
    high_per_ml: float


def concentration(count: int, volume_ml: float, dilution: float = 1) -> Concentration:
    """Return the concentration of the sample, from the cells of one or several fields.

    Parameters
    ----------
    count : int
        Cells in all fields, by the counting-frame rule.
    volume_ml : float
        Volume of liquid in all fields together.
    dilution : float
        Parts of diluted sample to one part of sample.
    """
    low, high = poisson_interval(count)
    factor = dilution / volume_ml
    return Concentration(count * factor, low * factor, high * factor)


def volume_ml(area_px: int, pixel_size_um: float, depth_mm: float) -> float:
    """Return the volume of liquid over an area of the image, in a chamber of this depth."""
    return area_px * (pixel_size_um * 1e-3) ** 2 * depth_mm / _MM3_PER_ML


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval for the mean of a Poisson variable that was observed as `count`.

    Notes
    -----
    Garwood's interval [1]_: at its lower end a count this high or higher has the probability (1 − confidence) / 2, at
    its upper end a count this low or lower.

    References
    ----------
    .. [1] F. Garwood, Fiducial limits for the Poisson distribution. Biometrika 28, 437–442 (1936).
    """
    tail = (1 - confidence) / 2
    reach = 10 * math.sqrt(count) + 50
    low = _root(lambda mean: _at_least(count, mean) - tail, max(count - reach, 0.0), count) if count else 0.0
    high = _root(lambda mean: tail - _at_most(count, mean), count, count + reach)
    return low, high


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _at_least(count: int, mean: float) -> float:
    """P(X ≥ count) for mean ≤ count, where the terms fall."""
    following = count + 1 + np.arange(_terms(count))
    return _probability(count, mean) * _series(mean / following)


def _at_most(count: int, mean: float) -> float:
    """P(X ≤ count) for mean ≥ count, where the terms fall towards zero."""
    preceding = np.arange(count, max(count - _terms(count), 0), -1)
    return _probability(count, mean) * _series(preceding / mean)


def _terms(count: int) -> int:
    return int(20 * math.sqrt(count)) + 100


def _series(ratios: npt.NDArray[np.float64]) -> float:
    """Sum 1 + r₁ + r₁r₂ + … of a series with these ratios of its terms."""
    return 1 + float(np.cumprod(ratios).sum())


def _probability(count: int, mean: float) -> float:
    if mean <= 0:
        return float(count == 0)
    return math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
