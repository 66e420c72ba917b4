"""The stain of a view: dyes of another laboratory, in other amounts, on a ground of another colour.

Haematoxylin, the counter-stain and the residual are separated in optical density, changed, and mixed again: since all
of it is linear there, it is one matrix.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_host import stains

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

_BRIGHT = 0.4  # in a view on a bright ground, half of the pixels reach this level in one of their channels
_GAIN = 0.7  # largest change of a concentration, as the logarithm of a factor
_OFFSET = 0.03  # … added to it, optical density
_COLOUR = 0.12  # standard deviation of a stain vector's components
_SWAPPED = 0.3  # share of the views with other dyes
_TINTED = 0.3  # … with a coloured ground
_ONE_DYE = (0.3, 0.9)  # how much of the counter-stain is left where a single dye stains all
_PINK = (0.2, 0.95, 0.25)  # a slide in eosin alone: darker in red and blue than the dye's own vector
_YELLOWEST = (1.0, 0.93, 0.55)
_DIMMEST = 0.7  # of a channel over a greyish ground
_RANGE_PERCENTILES = (1.0, 99.9)
_MOST_STRETCHED = 2.5
_SAMPLED = 4  # every fourth row and column is enough for percentiles


def draw(levels: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator) -> Floats:
    """Return a colour view in a random stain; one on a dark ground, as of fluorescent dyes, is left as it is.

    The range of levels stays as it was, since the device stretches an image that is pale or dark all over.

    Parameters
    ----------
    levels : ndarray of uint8, shape (side, side, 3)
        RGB.
    strength : float
        0 (no change) to 1. The share of the views with other dyes or on a coloured ground grows with it, too.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (side, side, 3)
        In [0, 1].
    """
    if not strength or not _is_bright(levels):
        return levels.astype(np.float32) / np.float32(255)
    density = cv2.transform(stains.densities(levels), _matrix(strength, rng))
    view = stains.levels_through(np.maximum(density, 0, out=density))  # glass is as bright as it gets
    gain, offset = _as_before(levels, view)
    view *= np.float32(gain)
    view += np.float32(offset)
    return np.asarray(np.clip(view, 0, 1, out=view), np.float32)


def _is_bright(levels: npt.NDArray[np.uint8]) -> bool:
    return bool(np.median(levels[::_SAMPLED, ::_SAMPLED].max(axis=2)) >= 255 * _BRIGHT)


def _matrix(strength: float, rng: np.random.Generator) -> Floats:
    """Return the random matrix, 3 × 4 with offsets, from optical density to optical density."""
    nuclear, counter, counter_left = _dyes(strength, rng)
    gains = np.exp(strength * _GAIN * rng.uniform(-1, 1, 3)) * (1, counter_left, 1)
    offsets = strength * _OFFSET * rng.uniform(-1, 1, 2)
    colours = [np.maximum(v + rng.normal(0, strength * _COLOUR, 3), 0.02) for v in (nuclear, counter)]
    colours = [v / np.linalg.norm(v) for v in colours]
    residual = stains.mixing(stains.HAEMATOXYLIN, stains.EOSIN)[:, 2]
    mixed = np.column_stack([*colours, residual])
    ground = mixed[:, :2] @ offsets - np.log10(_ground(strength, rng))
    return np.column_stack([mixed * gains @ stains.separation(), ground]).astype(np.float32)


def _dyes(strength: float, rng: np.random.Generator) -> tuple[Matrix, Matrix, float]:
    """Return the vectors of the nuclear stain and the counter-stain, and how much of the latter is left."""
    nuclear, counter = np.array(stains.HAEMATOXYLIN), np.array(stains.EOSIN)
    if rng.random() >= strength * _SWAPPED:
        return nuclear, counter, 1.0
    kind = rng.integers(3)
    if kind == 0:
        return nuclear, np.array(stains.DAB), 1.0
    ends = (_PINK, stains.VIOLET) if kind == 1 else (stains.HAEMATOXYLIN, stains.METHYLENE_BLUE)
    share = rng.random()
    only = share * np.array(ends[0]) + (1 - share) * np.array(ends[1])
    return only, only, rng.uniform(*_ONE_DYE)


def _as_before(levels: npt.NDArray[np.uint8], view: Floats) -> tuple[float, float]:
    """Return the gain and offset that give the view the range of levels that it had."""
    low, high = np.percentile(levels[::_SAMPLED, ::_SAMPLED], _RANGE_PERCENTILES) / 255
    new_low, new_high = np.percentile(view[::_SAMPLED, ::_SAMPLED], _RANGE_PERCENTILES)
    gain = min((high - low) / max(new_high - new_low, 1 / 255), _MOST_STRETCHED)
    return gain, high - gain * new_high


def _ground(strength: float, rng: np.random.Generator) -> Matrix:
    """Return the light through bare glass, (red, green, blue): now and then yellow or greyish, else white."""
    if rng.random() >= strength * _TINTED:
        return np.ones(3)
    deepest = np.array(_YELLOWEST) if rng.random() < 0.7 else rng.uniform(_DIMMEST, 1, 3)
    return 1 - strength * rng.uniform(0.2, 1) * (1 - deepest)
