"""The place and shape of a view: an affine map and smooth distortions, combined to interpolate pixels once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_host.augment.settings import Augmentation

Grid = npt.NDArray[np.float32]

_ELASTIC_SPACING_PX = 32
_GRID_CELLS = 5


@dataclass(frozen=True)
class Geometry:
    """Where each pixel of a view comes from.

    Attributes
    ----------
    side : int
    matrix : ndarray of float64, shape (2, 3)
        From image to view, (x, y) each.
    bent : tuple of ndarray or None
        With a distortion, x and y in the image for each pixel of the view, float32 (side, side) each.
    """

    side: int
    matrix: npt.NDArray[np.float64]
    bent: tuple[Grid, Grid] | None = None

    def warp(self, image: npt.NDArray[Any], *, nearest: bool = False) -> npt.NDArray[Any]:
        """Return the view of an image or a map, (side, side) or (side, side, channels), mirrored beyond its border."""
        how = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        view: npt.NDArray[Any]
        if self.bent:
            view = cv2.remap(image, *self.bent, how, borderMode=cv2.BORDER_REFLECT_101)
        else:
            size = (self.side, self.side)
            view = cv2.warpAffine(image, self.matrix, size, flags=how, borderMode=cv2.BORDER_REFLECT_101)
        return view


def draw(shape: tuple[int, ...], side: int, augmentation: Augmentation, rng: np.random.Generator) -> Geometry:
    """Return a random place, scale, rotation and distortion in an image of this (height, width)."""
    matrix = _affine(shape, side, augmentation, rng)
    view = _distorted(side, augmentation, rng)
    if view is None:
        return Geometry(side, matrix)
    (a, b, x0), (c, d, y0) = cv2.invertAffineTransform(matrix).astype(np.float32)
    x, y = view
    return Geometry(side, matrix, (a * x + b * y + x0, c * x + d * y + y0))


def _affine(
    shape: tuple[int, ...], side: int, augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the matrix from image to view: scale, stretch, rotation, mirror, and a random place."""
    low, high = augmentation.scale
    scale = math.exp(rng.uniform(math.log(low), math.log(high)))
    stretch = 1 + rng.uniform(-augmentation.stretch, augmentation.stretch)
    angle = rng.uniform(0, 2 * math.pi) if augmentation.rotate else 0.0
    if augmentation.rotate and rng.random() < 0.5:
        angle = round(angle / (math.pi / 2)) * (math.pi / 2)  # half of the views at right angles
    mirror = -1 if augmentation.rotate and rng.random() < 0.5 else 1
    linear = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = linear @ np.diag([scale * stretch * mirror, scale])
    reach = side / scale / 2
    centre = [rng.uniform(min(reach, n / 2), max(n - reach, n / 2)) for n in (shape[1], shape[0])]
    offset = np.array([side / 2, side / 2]) - linear @ np.array(centre)
    return np.column_stack([linear, offset])


def _distorted(side: int, augmentation: Augmentation, rng: np.random.Generator) -> tuple[Grid, Grid] | None:
    """Return x and y of the view's pixels before random distortions; None if there is none."""
    strengths = (augmentation.elastic_px, augmentation.grid, augmentation.optical)
    elastic, grid, optical = (
        rng.uniform(0, strength) if strength and rng.random() < augmentation.probability else 0.0
        for strength in strengths
    )
    if not (elastic or grid or optical):
        return None
    lines = [np.arange(side, dtype=np.float32)] * 2
    if grid:
        lines = [_uneven(side, grid, rng) for _ in range(2)]
    x, y = np.meshgrid(*lines)
    if optical:
        middle = np.float32((side - 1) / 2)
        right, down = x - middle, y - middle
        factor = np.float32(optical * rng.choice([-1, 1]) / max(2 * middle**2, 1)) * (right * right + down * down)
        x, y = x + right * factor, y + down * factor
    if elastic:
        nodes = max(side // _ELASTIC_SPACING_PX, 1)
        shift = rng.uniform(-elastic, elastic, (nodes, nodes, 2)).astype(np.float32)
        shift = cv2.resize(shift, (side, side), interpolation=cv2.INTER_CUBIC)
        x, y = x + shift[..., 0], y + shift[..., 1]
    return x, y


def _uneven(side: int, share: float, rng: np.random.Generator) -> Grid:
    """Return where 0 … side − 1 lie when the cells of a grid become wider or narrower by up to `share`; ends stay."""
    ends = np.concatenate([[0], np.cumsum(1 + rng.uniform(-share, share, _GRID_CELLS))])
    even = np.linspace(0, side - 1, _GRID_CELLS + 1)
    places: Grid = np.interp(np.arange(side), even, ends / ends[-1] * (side - 1)).astype(np.float32)
    return places
