"""Dyes in transmitted light: their colours as optical densities, and how to tell two of them apart in an image.

Light through dye follows Beer and Lambert: ``I = I0 · 10^-(sum of concentration × stain vector)``. So the optical
density ``-log10(I / I0)`` is linear in the concentrations, and a matrix takes one to the other: colour deconvolution
[1]_. The vectors of haematoxylin, eosin and DAB are those of [1]_ (scikit-image's ``rgb_from_hed`` has them rounded);
methylene blue's is that of Landini's ImageJ plugin Colour Deconvolution.

References
----------
.. [1] Ruifrok & Johnston, Analytical and Quantitative Cytology and Histology 23(4):291-299, 2001.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Vector = tuple[float, float, float]
Floats = npt.NDArray[np.float32]

# Optical densities in (red, green, blue), of length 1 but for rounding
HAEMATOXYLIN: Vector = (0.650, 0.704, 0.286)
EOSIN: Vector = (0.072, 0.990, 0.105)
DAB: Vector = (0.268, 0.570, 0.776)
METHYLENE_BLUE: Vector = (0.834750233, 0.513556283, 0.196330403)
# Of nuclei over tissue in the purple slides of BBBC038: median density above the background's
VIOLET: Vector = (0.38, 0.92, 0.06)
# Haematoxylin and eosin as slide scanners show them: medians of the vectors that Macenko et al. (ISBI 2009:1107-1110)
# find in 12 patches of QuIP
SCANNED_HAEMATOXYLIN: Vector = (0.57, 0.66, 0.50)
SCANNED_EOSIN: Vector = (0.10, 0.83, 0.53)

BLACK = 0.1  # the light at level 0: a stretched image has none left where a slide still lets some through


def density_of(values: Floats) -> Floats:
    """Return the optical density of levels over 255: 0 at 1, 1 at 0, where a tenth of the light is left."""
    light = np.float32(BLACK) + np.float32(1 - BLACK) * values
    return np.asarray(-np.log10(np.maximum(light, np.float32(0.01))), np.float32)


def densities(levels: npt.NDArray[np.uint8]) -> Floats:
    """Return `density_of` every level, by a look-up table."""
    return np.asarray(cv2.LUT(levels, _DENSITY), np.float32)


def levels_through(density: Floats) -> Floats:
    """Return the levels seen through an optical density, 1 at a density of 0; the inverse of `density_of`.

    Where there is more dye than in an image's darkest pixels, values are below 0, down to -0.11.
    """
    light = cv2.exp(density * np.float32(-math.log(10)))
    light -= np.float32(BLACK)
    light *= np.float32(1 / (1 - BLACK))
    return np.asarray(light, np.float32)


def mixing(nuclear: npt.ArrayLike, counter: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the matrix from concentrations to optical density.

    Parameters
    ----------
    nuclear, counter : array_like, shape (3,)
        Vectors of two dyes of different colours, of any length; optical densities in (red, green, blue).

    Returns
    -------
    ndarray of float64, shape (3, 3)
        Its columns are the two vectors and that of the residual, at right angles to both (what neither dye explains);
        each has length 1.
    """
    first, second = (np.asarray(v, np.float64) / np.linalg.norm(v) for v in (nuclear, counter))
    rest = np.cross(first, second)
    return np.column_stack([first, second, rest / np.linalg.norm(rest)])


def separation(nuclear: npt.ArrayLike = HAEMATOXYLIN, counter: npt.ArrayLike = EOSIN) -> npt.NDArray[np.float64]:
    """Return the matrix from optical density to (nuclear, counter, residual) concentrations: `mixing` inverted."""
    return np.asarray(np.linalg.inv(mixing(nuclear, counter)), np.float64)


_DENSITY = density_of(np.arange(256, dtype=np.float32) / np.float32(255))
