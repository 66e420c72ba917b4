"""From labels to a table of cells: sizes, shapes, intensities; names and definitions as in scikit-image.

All cells are measured at once, from the runs of their pixels along the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import runs

Column = npt.NDArray[Any]

EDGES = ("top", "bottom", "left", "right")
_BAND_PX = 1_000_000


@dataclass(frozen=True)
class Cells:
    """The table of cells of one image.

    Attributes
    ----------
    columns : dict of str to ndarray, each of shape (n,)
        Name to values, one row per cell, in the order of the labels. Lengths in pixels (``_px``; areas are numbers
        of pixels) and, where the pixel size is known, in micrometres (``_um``, ``_um2``).
    """

    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(self.columns["label"])


def measure(labels: npt.NDArray[np.uint16], pixels: npt.NDArray[Any], pixel_size_um: float | None = None) -> Cells:
    """Measure every cell.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
        Cells numbered 1…n without a gap; 0 is background.
    pixels : ndarray, shape (height, width) or (height, width, 3)
        The image the intensities are read from, in its own units.
    pixel_size_um : float or None
        Edge of a pixel in micrometres.

    Returns
    -------
    Cells
        Columns `label`, `centroid_row_px`, `centroid_col_px`, `area_px`, `equivalent_diameter_area_px`,
        `axis_major_length_px`, `axis_minor_length_px`, `orientation_rad` (between the rows' axis and the major axis,
        −π/2 to π/2, counter-clockwise), `perimeter_px`, `circularity` (4π·area/perimeter², NaN for a perimeter of
        zero), `intensity_mean` (or `intensity_mean_red`, `_green`, `_blue`) and `touches_border` (0 or 1).

    Notes
    -----
    Axes and orientation follow from the second central moments (the ellipse with the same ones), the perimeter from
    the pattern of border pixels; both as in `skimage.measure.regionprops` [1]_.

    References
    ----------
    .. [1] S. van der Walt et al., scikit-image: image processing in Python. PeerJ 2:e453 (2014).
    """
    found = runs.find(labels).cells()
    count = int(found.label.max(initial=0))
    row, first = np.divmod(found.start, labels.shape[1])
    length = found.length
    col_sum = length * (2 * first + length - 1) // 2
    # Σ c² over first … first + length − 1
    square_sum = length * first**2 + first * length * (length - 1) + (length - 1) * length * (2 * length - 1) // 6

    def total(values: npt.NDArray[Any]) -> Column:
        return np.bincount(found.label, values, count + 1)[1:]

    area = total(length)
    mean_row, mean_col = total(row * length) / area, total(col_sum) / area
    var_row = total(row * row * length) / area - mean_row**2
    var_col = total(square_sum) / area - mean_col**2
    covariance = total(row * col_sum) / area - mean_row * mean_col
    major, minor, orientation = _axes(var_row, var_col, covariance)
    perimeter = _perimeter(labels, count)
    with np.errstate(divide="ignore", invalid="ignore"):
        circularity = np.where(perimeter > 0, 4 * math.pi * area / perimeter**2, np.nan)
    columns: dict[str, Column] = {
        "label": np.arange(1, count + 1),
        "centroid_row_px": mean_row,
        "centroid_col_px": mean_col,
        "area_px": area.astype(np.int64),
        "equivalent_diameter_area_px": np.sqrt(4 * area / math.pi),
        "axis_major_length_px": major,
        "axis_minor_length_px": minor,
        "orientation_rad": orientation,
        "perimeter_px": perimeter,
        "circularity": circularity,
    }
    for name, values in zip(_channel_names(pixels), _intensity_sums(labels, pixels, count), strict=True):
        columns[name] = values / area
    columns["touches_border"] = _touching(labels, count, (0, -1), (0, -1))
    if pixel_size_um is not None:
        columns |= _in_micrometres(columns, pixel_size_um)
    return Cells(columns)


def count_in_frame(labels: npt.NDArray[np.uint16], edges: tuple[str, ...] = ("top", "left")) -> int:
    """Number of cells by the counting-frame rule: those that touch the top or left edge belong to the next field.

    Gundersen's rule for unbiased counting: over fields that share their edge pixels, every compact cell is
    counted once.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
    edges : tuple of str
        Of `EDGES`: those that a counted cell must not touch.
    """
    count = int(labels.max(initial=0))
    rows = tuple({"top": 0, "bottom": -1}[edge] for edge in edges if edge in ("top", "bottom"))
    cols = tuple({"left": 0, "right": -1}[edge] for edge in edges if edge in ("left", "right"))
    return count - int(_touching(labels, count, rows, cols).sum())


def _channel_names(pixels: npt.NDArray[Any]) -> list[str]:
    return ["intensity_mean"] if pixels.ndim == 2 else [f"intensity_mean_{c}" for c in ("red", "green", "blue")]


def _intensity_sums(labels: npt.NDArray[np.uint16], pixels: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    """Sum of the pixels of every cell, shape (channels, count).

    By bands of rows: what is gathered of a cell's pixels is several times as large as they are.
    """
    rows = max(_BAND_PX // labels.shape[1], 1)
    sums = np.zeros((pixels[0].size // labels.shape[1], count + 1))
    for begin in range(0, len(labels), rows):
        band = labels[begin : begin + rows].reshape(-1)
        inside = np.flatnonzero(band)
        cell = band.take(inside).astype(np.intp)
        channels = pixels[begin : begin + rows].reshape(band.size, -1).take(inside, axis=0).T
        sums += [np.bincount(cell, channel, count + 1) for channel in channels]
    return sums[:, 1:]


def _touching(labels: npt.NDArray[np.uint16], count: int, rows: tuple[int, ...], cols: tuple[int, ...]) -> Column:
    touches = np.zeros(count + 1, np.uint8)
    for row in rows:
        touches[labels[row]] = 1
    for col in cols:
        touches[labels[:, col]] = 1
    return touches[1:]


def _axes(var_row: Column, var_col: Column, covariance: Column) -> tuple[Column, Column, Column]:
    """Lengths of the axes of the ellipse with these moments, and its orientation."""
    half_trace = (var_row + var_col) / 2
    spread = np.hypot((var_row - var_col) / 2, covariance)
    major = 4 * np.sqrt(np.maximum(half_trace + spread, 0))
    minor = 4 * np.sqrt(np.maximum(half_trace - spread, 0))
    # scikit-image's case of a round cell, where the angle is free
    quarter = np.where(covariance < 0, math.pi / 4, -math.pi / 4)
    general = 0.5 * np.arctan2(2 * covariance, var_row - var_col)
    return major, minor, np.where((var_row == var_col) & (covariance != 0), -quarter, general)


def _perimeter(labels: npt.NDArray[np.uint16], count: int) -> Column:
    """Perimeter of every cell: border pixels, weighted by how their border neighbours lie.

    Border pixels have a 4-neighbour outside their cell. One counts 1, √2 or (1 + √2) / 2 by the numbers of its
    4-neighbours and diagonal neighbours that are border pixels of the same cell.
    """
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    outside = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    mixed = cv2.compare(cv2.dilate(labels, cross, **outside), cv2.erode(labels, cross, **outside), cv2.CMP_NE)
    lined = cv2.copyMakeBorder(cv2.copyTo(labels, mixed), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    flat, width = lined.reshape(-1), lined.shape[1]
    at = np.flatnonzero(flat != 0)
    own = flat.take(at)

    def neighbours(*steps: int) -> npt.NDArray[np.uint8]:
        equal: npt.NDArray[np.uint8] = np.sum([flat.take(at + s) == own for s in steps], axis=0, dtype=np.uint8)
        return equal

    straight = neighbours(-width, width, -1, 1)
    diagonal = neighbours(-width - 1, -width + 1, width - 1, width + 1)
    return np.bincount(own, _PERIMETER_WEIGHT[1 + 2 * straight + 10 * diagonal], count + 1)[1:]


def _in_micrometres(columns: dict[str, Column], pixel_size_um: float) -> dict[str, Column]:
    converted = {}
    for name, values in columns.items():
        if name == "area_px":
            converted["area_um2"] = values * pixel_size_um**2
        elif name.endswith("_px"):
            converted[name.removesuffix("_px") + "_um"] = values * pixel_size_um
    return converted


# Index: 1 + 2 · (border 4-neighbours) + 10 · (border diagonal neighbours)
_PERIMETER_WEIGHT = np.zeros(50)
_PERIMETER_WEIGHT[[5, 7, 15, 17, 25, 27]] = 1
_PERIMETER_WEIGHT[[21, 33]] = math.sqrt(2)
_PERIMETER_WEIGHT[[13, 23]] = (1 + math.sqrt(2)) / 2
