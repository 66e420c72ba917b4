"""Why a count may be wrong, seen in the image and its cells: focus, light, crowding, sizes; numbers and plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import focus, runs
from cellseg_device.image import Image
from cellseg_device.measure import Cells

# Bounds of what is worth a look, so that few of DSB2018's validation images are flagged but for the cells' size
# (benchmarks/quality.py)
MIN_EDGE_SHARPNESS = 0.35
MAX_SATURATED = 0.01
MAX_UNEVEN_LIGHT = 1.0
MAX_COVERED = 0.6
MAX_AT_BORDER = 0.5
MAX_DIAMETER_RATIO = 2.0

_FULL_SCALES = tuple((1 << bits) - 1 for bits in (8, 10, 12, 14, 16))
_LIGHT_GRID = 8
_LIGHT_SIDE_PX = 256
_FEW_CELLS = 5
_MIN_CONTRAST_COUNTS = 8


@dataclass(frozen=True)
class Quality:
    """What speaks for and against a count.

    Attributes
    ----------
    focus : float
        `focus.score` of the image.
    edge_sharpness : float or None
        Rise of the intensity over three pixels at the cells' borders, as part of that over half a diameter: 1 for
        a step, towards 0 for blur. None without cells.
    saturated_fraction : float
        Part of the pixels at the camera's upper end (255, 1023, 4095, 16383 or 65535).
    uneven_light : float
        Range of the background over the field (2nd lowest to 2nd highest of a grid of places) as part of the cells'
        contrast, or of the image's range without cells.
    at_border_fraction : float
        Part of the cells that touch the image's border.
    diameter_ratio : float or None
        Median diameter, as the network saw it, over that of the cells it was trained on. None without cells.
    flags : str
        In words, separated by semicolons, what is out of bounds; empty if nothing is.
    """

    focus: float
    edge_sharpness: float | None
    saturated_fraction: float
    uneven_light: float
    at_border_fraction: float
    diameter_ratio: float | None
    flags: str


def judge(image: Image, labels: npt.NDArray[np.uint16], cells: Cells, ratio_per_px: float) -> Quality:
    """Judge an image and its cells.

    Parameters
    ----------
    image : Image
    labels : ndarray of uint16, shape (height, width)
        All cells that were found, those left out of the count included.
    cells : Cells
        Their table.
    ratio_per_px : float
        By which a diameter in pixels of the image becomes `diameter_ratio`.
    """
    grey = _grey(image.searched)
    count = len(cells)
    diameter_ratio = float(np.median(cells.columns["equivalent_diameter_area_px"])) * ratio_per_px if count else None
    at_border = float(cells.columns["touches_border"].mean()) if count else 0.0
    covered = float(cells.columns["area_px"].sum()) / labels.size
    sharpness = edge_sharpness(grey, labels, cells)
    saturated = saturated_fraction(image.histograms.sum(axis=0))
    light = uneven_light(grey, labels)
    wrong = {
        "out of focus": sharpness is not None and sharpness < MIN_EDGE_SHARPNESS,
        "overexposed": saturated > MAX_SATURATED,
        "uneven light": light > MAX_UNEVEN_LIGHT,
        "crowded": covered > MAX_COVERED,
        "many cells cut by the border": count >= _FEW_CELLS and at_border > MAX_AT_BORDER,
        "cells larger than the model expects (see --diameter)": (diameter_ratio or 1) > MAX_DIAMETER_RATIO,
        "cells smaller than the model expects (see --diameter)": (diameter_ratio or 1) < 1 / MAX_DIAMETER_RATIO,
    }
    return Quality(
        focus=focus.score(image.searched),
        edge_sharpness=sharpness,
        saturated_fraction=saturated,
        uneven_light=light,
        at_border_fraction=at_border,
        diameter_ratio=diameter_ratio,
        flags="; ".join(words for words, is_so in wrong.items() if is_so),
    )


def saturated_fraction(histogram: npt.NDArray[np.int64]) -> float:
    """Part of the pixels at the upper end of the range that the largest value of the image belongs to.

    Parameters
    ----------
    histogram : ndarray of int64, shape (256,) or (65536,)
        Of an image that may be of a camera of 12 bit, say, in 16.
    """
    top = int(np.flatnonzero(histogram)[-1])
    return float(histogram[top] / histogram.sum()) if top in _FULL_SCALES else 0.0


def edge_sharpness(grey: npt.NDArray[Any], labels: npt.NDArray[np.uint16], cells: Cells) -> float | None:
    """Mean rise over three pixels at the left and right ends of the cells, over that across half a diameter.

    Noise leaves it alone, since the differences are summed with their signs; brighter and darker cells are alike.

    Parameters
    ----------
    grey : ndarray, shape (height, width)
    labels : ndarray of uint16, shape (height, width)
    cells : Cells
    """
    if not len(cells):
        return None
    width = labels.shape[1]
    reach = max(round(float(np.median(cells.columns["equivalent_diameter_area_px"])) / 4), 3)
    found = runs.find(labels).cells()
    flat, cell = grey.reshape(-1), labels.reshape(-1)
    narrow = wide = 0.0
    for end, outwards in ((found.start, -1), (found.start + found.length - 1, 1)):
        col = end % width
        kept = (col >= reach) & (col < width - reach) & (found.length > reach)
        at = end[kept]
        at = at[cell[at + outwards] == 0]  # the cell's border to the background, not to another cell
        if not len(at):
            continue
        inner, outer = flat[at - outwards], flat[at + 2 * outwards]
        narrow += float(np.subtract(inner, outer, dtype=np.float64).sum())
        inner, outer = flat[at - reach * outwards], flat[at + reach * outwards]
        wide += float(np.subtract(inner, outer, dtype=np.float64).sum())
    return min(max(narrow / wide, 0.0), 1.0) if wide else None


def uneven_light(grey: npt.NDArray[Any], labels: npt.NDArray[np.uint16]) -> float:
    """Range of the background over the field, as part of the contrast.

    Parameters
    ----------
    grey : ndarray, shape (height, width)
    labels : ndarray of uint16, shape (height, width)
    """
    step = max(max(labels.shape) // _LIGHT_SIDE_PX, 1)
    grey, inside = grey[::step, ::step].astype(np.float32), labels[::step, ::step] > 0
    places = [
        np.median(part[~covered])
        for part, covered in zip(_grid(grey), _grid(inside), strict=True)
        if np.count_nonzero(~covered) > part.size // 4
    ]
    if len(places) < 4:
        return 0.0
    places.sort()
    spread = float(places[-2] - places[1])
    if inside.any():
        contrast = abs(float(np.median(grey[inside]) - np.median(grey[~inside])))
    else:
        low, high = np.percentile(grey, (0.5, 99.8))
        contrast = float(high - low)
    return spread / max(contrast, _MIN_CONTRAST_COUNTS)


def _grid(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    rows, cols = (min(_LIGHT_GRID, math.ceil(n / 2)) for n in values.shape)
    return [part for band in np.array_split(values, rows) for part in np.array_split(band, cols, axis=1)]


def _grey(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
