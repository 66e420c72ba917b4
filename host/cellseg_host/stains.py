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

BLACK = 0.1  # the light at level 0: a stretched image has none left where a slide still lets some through


def densities(levels: npt.NDArray[np.uint8]) -> Floats:
    """Return the optical density of each level, 0 (level 255) to 1 (level 0, where a tenth of the light is left)."""
    return np.asarray(cv2.LUT(levels, _DENSITY), np.float32)


def levels_through(density: Floats) -> Floats:
    """Return the levels seen through an optical density, 1 at a density of 0; the inverse of `densities`, over 255.

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


_DENSITY = -np.log10(BLACK + (1 - BLACK) * np.arange(256) / 255).astype(np.float32)
