"""Why a count may be wrong, from the image and its cells: focus, light, crowding and sizes, as numbers and as flags."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import runs
from cellseg_device.cells.bands import bands
from cellseg_device.cells.measure import Cells
from cellseg_device.image import focus
from cellseg_device.image.pixels import Image
from cellseg_device.units import Length

# Beyond these a count is flagged. They are set so that few of DSB2018's validation images are, except for the size of
# their cells (benchmarks/quality.py).
MIN_EDGE_SHARPNESS = 0.35
MAX_SATURATED = 0.01
MAX_UNEVEN_LIGHT = 1.0
MAX_COVERED = 0.6
MAX_AT_BORDER = 0.5
MAX_DIAMETER_RATIO = 2.0
MAX_GIVEN_OFF = 0.2  # of a diameter that is given, as a part of the measured one
MIN_CONTRAST = 15.0  # of an image in which nothing was found, in standard deviations of its noise

_FULL_SCALES = tuple((1 << bits) - 1 for bits in (8, 10, 12, 14, 16))
_LIGHT_GRID = 8
_LIGHT_SIDE_PX = 256
_FEW_CELLS = 5
_MIN_CONTRAST_COUNTS = 8
_LEAST_SIDE_PX = 16
_CONTRAST_PX = 1_000_000  # more pixels are averaged to about as many
_NORMAL_PER_MEDIAN = 1.4826  # standard deviation of a normal distribution over its median absolute deviation


@dataclass(frozen=True)
class Quality:
    """How trustworthy a count is.

    Attributes
    ----------
    focus : float
        `focus.score` of the image.
    edge_sharpness : float or None
        Rise of the intensity over three pixels at the cells' borders, divided by that over half a diameter: 1 for a
        sharp step, towards 0 for blur. None without cells.
    saturated_fraction : float
        Fraction of the pixels at the camera's upper limit (255, 1023, 4095, 16383 or 65535).
    uneven_light : float
        Range of the background over the field (2nd lowest to 2nd highest in a grid of places) divided by the contrast
        of the cells, or without cells by the range of the image.
    at_border_fraction : float
        Fraction of the cells that touch the image's border.
    diameter_ratio : float or None
        Median diameter, at the scale given to the network, divided by that of the cells the network was trained on.
        None without cells.
    flags : str
        What is out of bounds, in words separated by semicolons; empty if nothing is.
    """

    focus: float
    edge_sharpness: float | None
    saturated_fraction: float
    uneven_light: float
    at_border_fraction: float
    diameter_ratio: float | None
    flags: str


def assess(
    image: Image,
    labels: npt.NDArray[np.uint16],
    cells: Cells,
    ratio_per_px: float,
    *,
    given: Length | None = None,
    is_scaled: bool = False,
) -> Quality:
    """Return how trustworthy the count of an image's cells is.

    Parameters
    ----------
    image : Image
    labels : ndarray of uint16, shape (height, width)
        All cells, including those that are left out of the count.
    cells : Cells
        Their table.
    ratio_per_px : float
        Factor from a diameter in pixels of the image to `Quality.diameter_ratio`.
    given : Length or None
        Diameter of the cells by the user's word.
    is_scaled : bool
        Whether the image was scaled because its cells turned out to be large.
    """
    count = len(cells)
    diameter_px = float(np.median(cells.columns["equivalent_diameter_area_px"])) if count else None
    diameter_ratio = None if diameter_px is None else diameter_px * ratio_per_px
    at_border = float(cells.columns["touches_border"].mean()) if count else 0.0
    covered = float(cells.columns["area_px"].sum()) / image.field_px
    sharpness = edge_sharpness(image.searched, labels, cells)
    saturated = saturated_fraction(image.histograms.sum(axis=0))
    light = uneven_light(image.searched, labels, image.field)
    measured = None
    if diameter_px is not None and count >= _FEW_CELLS and given is not None:
        measured = _other_diameter(diameter_px, given, image.pixel_size_um)
    # One flag about size is enough, and an image that was scaled for its cells needs none
    ratio = 1.0 if measured is not None or is_scaled else diameter_ratio or 1.0
    wrong = {
        "out of focus": sharpness is not None and sharpness < MIN_EDGE_SHARPNESS,
        "overexposed": saturated > MAX_SATURATED,
        "extreme pixel values": image.has_extremes,
        "uneven light": light > MAX_UNEVEN_LIGHT,
        "crowded": covered > MAX_COVERED,
        "many cells cut by the border": count >= _FEW_CELLS and at_border > MAX_AT_BORDER,
        "cells larger than the model expects (see --diameter)": ratio > MAX_DIAMETER_RATIO,
        "cells smaller than the model expects (see --diameter)": ratio < 1 / MAX_DIAMETER_RATIO,
        f"{measured} (see --diameter)": measured is not None,
        "nothing found although the image has contrast": not count and contrast(image) > MIN_CONTRAST,
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


def _other_diameter(measured_px: float, given: Length, pixel_size_um: float | None) -> str | None:
    """Return in words that cells have another diameter than the given one; None if they have that."""
    given_px = given.px(pixel_size_um, "--diameter")
    if abs(given_px - measured_px) <= MAX_GIVEN_OFF * measured_px:
        return None
    measured = measured_px * given.value / given_px
    unit = {"px": "px", "um": "µm"}[given.unit]
    found, said = (f"{round(value, 0 if value >= 10 else 1):g}" for value in (measured, given.value))
    return f"cells measure {found} {unit}, not {said}"


def contrast(image: Image) -> float:
    """Return how far what is in an image's field stands out, in standard deviations of its noise.

    The range of the pixels, once specks, noise and all that changes slowly over the field are filtered away, over the
    noise of a single pixel. 0 for an image too small for a cell.

    Parameters
    ----------
    image : Image

    Notes
    -----
    The noise is the median of the absolute second differences along the rows, which structures hardly change, scaled to
    the standard deviation of normal noise, and at least a grey level.
    """
    height, width = image.shape
    if min(height, width) < _LEAST_SIDE_PX:
        return 0.0
    scale = min(math.sqrt(_CONTRAST_PX / (height * width)), 1.0)
    size = max(round(width * scale), _LEAST_SIDE_PX), max(round(height * scale), _LEAST_SIDE_PX)
    grey = cv2.resize(_grey(image.searched), size, interpolation=cv2.INTER_AREA)
    wide = grey.astype(np.float32)
    curvature = np.abs(wide[:, 2:] - 2 * wide[:, 1:-1] + wide[:, :-2])
    noise = max(_NORMAL_PER_MEDIAN * float(np.median(curvature)) / math.sqrt(6), 1.0)
    smooth = cv2.medianBlur(grey, 5).astype(np.float32)
    smooth -= cv2.blur(smooth, (101, 101))
    if image.field is not None:
        smooth = smooth[cv2.resize(image.field, size, interpolation=cv2.INTER_AREA) == 255]
    low, high = np.percentile(smooth, (0.05, 99.95)) if smooth.size else (0.0, 0.0)
    return float(high - low) / noise


def saturated_fraction(histogram: npt.NDArray[np.int64]) -> float:
    """Return the fraction of the pixels that are saturated: 0 unless the largest value is a camera's upper limit.

    Parameters
    ----------
    histogram : ndarray of int64, shape (256,) or (65536,)
        Of an image whose camera may use fewer bits, 12 of 16 for example.
    """
    top = int(np.flatnonzero(histogram)[-1])
    return float(histogram[top] / histogram.sum()) if top in _FULL_SCALES else 0.0


def edge_sharpness(pixels: npt.NDArray[Any], labels: npt.NDArray[np.uint16], cells: Cells) -> float | None:
    """Return how sharp the cells' left and right edges are: `Quality.edge_sharpness`.

    Noise hardly changes it, because the differences are summed with their signs; it is the same for cells brighter and
    darker than the background.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3)
    labels : ndarray of uint16, shape (height, width)
    cells : Cells
    """
    if not len(cells):
        return None
    width = labels.shape[1]
    reach = max(round(float(np.median(cells.columns["equivalent_diameter_area_px"])) / 4), 3)
    narrow = wide = 0.0
    for rows in bands(*labels.shape):
        found = runs.find(labels[rows]).cells()
        flat, cell = _grey(pixels[rows]).reshape(-1), labels[rows].reshape(-1)
        for end, outwards in ((found.start, -1), (found.start + found.length - 1, 1)):
            col = end % width
            kept = (col >= reach) & (col < width - reach) & (found.length > reach)
            at = end[kept]
            at = at[cell[at + outwards] == 0]  # the cell's border to the background, not to another cell
            inner, outer = flat[at - outwards], flat[at + 2 * outwards]
            narrow += float(np.subtract(inner, outer, dtype=np.float64).sum())
            inner, outer = flat[at - reach * outwards], flat[at + reach * outwards]
            wide += float(np.subtract(inner, outer, dtype=np.float64).sum())
    return min(max(narrow / wide, 0.0), 1.0) if wide else None


def uneven_light(
    pixels: npt.NDArray[Any], labels: npt.NDArray[np.uint16], field: npt.NDArray[np.uint8] | None = None
) -> float:
    """Return how uneven the background is over the field: `Quality.uneven_light`.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3)
    labels : ndarray of uint16, shape (height, width)
    field : ndarray of uint8, shape (height, width), or None
        Not 0 where the light counts; None for everywhere.
    """
    step = max(max(labels.shape) // _LIGHT_SIDE_PX, 1)
    grey = _grey(np.ascontiguousarray(pixels[::step, ::step])).astype(np.float32)
    inside = labels[::step, ::step] > 0
    background = ~inside if field is None else ~inside & (field[::step, ::step] > 0)
    places = [
        np.median(part[free])
        for part, free in zip(_grid(grey), _grid(background), strict=True)
        if np.count_nonzero(free) > part.size // 4
    ]
    if len(places) < 4:
        return 0.0
    places.sort()
    spread = float(places[-2] - places[1])
    if inside.any():
        of_cells = abs(float(np.median(grey[inside]) - np.median(grey[background])))
    else:
        low, high = np.percentile(grey[background], (0.5, 99.8))
        of_cells = float(high - low)
    return spread / max(of_cells, _MIN_CONTRAST_COUNTS)


def _grid(values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    rows, cols = (min(_LIGHT_GRID, math.ceil(n / 2)) for n in values.shape)
    return [part for band in np.array_split(values, rows) for part in np.array_split(band, cols, axis=1)]


def _grey(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
