"""A fault of an image: what it changes in a field and its truth, and how strongly.

Values are counted in units of the image's own range: 0 is its 1st percentile and 1 its 99.9th, as for the device, which
undoes any other scaling. So one strength means the same on an image of 20 grey levels and on one of 250, and each
fault is that of a camera which is exposed well but for the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_host.evaluation.metrics import Labels

_LOW, _HIGH = 1.0, 99.9
_BLACK, WHITE = 32, 223  # 0 and 1 in 8 bits, with room for noise at both ends

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Field:
    """An image with its truth.

    Attributes
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
        Grey or RGB, as decoded.
    labels : ndarray of uint16, shape (height, width)
        Numbered from 1 without gaps.
    diameter_px : float
        Median diameter of the cells; 0 without any.
    """

    pixels: npt.NDArray[Any]
    labels: Labels
    diameter_px: float


Apply = Callable[[Field, float, np.random.Generator], Field]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes
    ----------
    apply : callable
        Returns the faulty field, given a field, a strength and a random generator.
    strengths : tuple of float
        Mild, medium, strong.
    unit : str
        The unit of a strength.
    modality : str or None
        The only modality that it happens to; None for all.
    """

    apply: Apply
    strengths: tuple[float, float, float]
    unit: str
    modality: str | None = None


def in_range(pixels: npt.NDArray[Any]) -> Floats:
    """Return values in units of the image's range: 0 at its 1st percentile, 1 at its 99.9th, at least a count apart."""
    low, high = (np.float32(v) for v in np.percentile(pixels, (_LOW, _HIGH)))
    return (pixels.astype(np.float32) - low) / max(high - low, np.float32(1))


def in_bytes(values: Floats) -> npt.NDArray[np.uint8]:
    """Return grey levels from values in units of the range; a sixth of the range beyond both ends is kept."""
    return np.clip(np.rint(_BLACK + (WHITE - _BLACK) * values), 0, 255).astype(np.uint8)


def in_place(change: Callable[[Field, float, np.random.Generator], npt.NDArray[Any]]) -> Apply:
    """Make a fault from a change that leaves every cell where it is."""
    return lambda field, strength, rng: Field(change(field, strength, rng), field.labels, field.diameter_px)
