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

from cellseg_device.cells import runs
from cellseg_device.cells.bands import bands

Column = npt.NDArray[Any]

EDGES = ("top", "bottom", "left", "right")
FIRST_COLUMNS = (  # of every table of cells, whatever the image
    *("label", "centroid_row_px", "centroid_col_px", "area_px", "equivalent_diameter_area_px", "axis_major_length_px"),
    *("axis_minor_length_px", "orientation_rad", "perimeter_px", "circularity"),
)


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


def measure(
    labels: npt.NDArray[np.uint16],
    pixels: npt.NDArray[Any],
    pixel_size_um: float | None = None,
    field: npt.NDArray[np.uint8] | None = None,
) -> Cells:
    """Return the table of cells: the sizes, shapes and intensities of all of them.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
        Cells numbered 1…n without a gap; 0 is background.
    pixels : ndarray, shape (height, width) or (height, width, 3)
        The image from which the intensities are read, in its own units.
    pixel_size_um : float or None
        Edge of a pixel in micrometres.
    field : ndarray of uint8, shape (height, width), or None
        255 where cells were looked for, 0 elsewhere: a cell that touches its rim touches a border. None for everywhere.

    Returns
    -------
    Cells
        Columns `label`, `centroid_row_px`, `centroid_col_px`, `area_px`, `equivalent_diameter_area_px`,
        `axis_major_length_px`, `axis_minor_length_px`, `orientation_rad` (between the rows' axis and the major axis,
        −π/2 to π/2, counter-clockwise), `perimeter_px`, `circularity` (4π·area/perimeter², NaN for a perimeter of
        zero), `intensity_mean` (or `intensity_mean_red`, `_green`, `_blue`) and `touches_border` (0 or 1).

    Notes
    -----
    Axes and orientation are those of the ellipse with the same second central moments; the perimeter follows from the
    pattern of border pixels. Both are as in `skimage.measure.regionprops` [1]_.

    References
    ----------
    .. [1] S. van der Walt et al., scikit-image: image processing in Python. PeerJ 2:e453 (2014).
    """
    count = int(labels.max(initial=0))
    area, row, col, row_row, col_col, row_col = _moments(labels, count)
    mean_row, mean_col = row / area, col / area
    var_row = row_row / area - mean_row**2
    var_col = col_col / area - mean_col**2
    covariance = row_col / area - mean_row * mean_col
    major, minor, orientation = _axes(var_row, var_col, covariance)
    perimeter = _perimeter(labels, count)
    with np.errstate(divide="ignore", invalid="ignore"):
        circularity = np.where(perimeter > 0, 4 * math.pi * area / perimeter**2, np.nan)
    label, diameter = np.arange(1, count + 1), np.sqrt(4 * area / math.pi)
    first = (label, mean_row, mean_col, area.astype(np.int64), diameter, major, minor, orientation, perimeter)
    columns: dict[str, Column] = dict(zip(FIRST_COLUMNS, (*first, circularity), strict=True))
    for name, values in zip(_channel_names(pixels), _intensity_sums(labels, pixels, count), strict=True):
        columns[name] = values / area
    columns["touches_border"] = _touching(labels, count, (0, -1), (0, -1))
    if field is not None:
        columns["touches_border"][_cut_by_rim(labels, field) - 1] = 1
    if pixel_size_um is not None:
        columns |= _in_micrometres(columns, pixel_size_um)
    return Cells(columns)


def count_in_frame(labels: npt.NDArray[np.uint16], edges: tuple[str, ...] = ("top", "left")) -> int:
    """Return the number of cells by the counting-frame rule: those that touch the top or left edge are left out.

    This is Gundersen's rule for unbiased counting. They belong to the neighbouring fields: over fields that share their
    edge pixels, every compact cell is counted once.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
    edges : tuple of str
        The edges, out of `EDGES`, that a counted cell must not touch.
    """
    outside = outside_frame(labels, edges)
    return outside.size - int(np.count_nonzero(outside))


def outside_frame(labels: npt.NDArray[np.uint16], edges: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Return for every cell, in the order of the labels, whether `count_in_frame` leaves it out."""
    count = int(labels.max(initial=0))
    rows = tuple({"top": 0, "bottom": -1}[edge] for edge in edges if edge in ("top", "bottom"))
    cols = tuple({"left": 0, "right": -1}[edge] for edge in edges if edge in ("left", "right"))
    return _touching(labels, count, rows, cols) > 0


def _moments(labels: npt.NDArray[np.uint16], count: int) -> list[Column]:
    """Return the sums of 1, row, column, row², column² and row · column over the pixels of every cell."""
    sums = [np.zeros(count + 1)] * 6
    for rows in bands(*labels.shape):
        found = runs.find(labels[rows]).cells()
        row, first = np.divmod(found.start, labels.shape[1])
        row += rows.start
        length = found.length
        col_sum = length * (2 * first + length - 1) // 2
        # Σ c² over first … first + length − 1
        square_sum = length * first**2 + first * length * (length - 1) + (length - 1) * length * (2 * length - 1) // 6
        parts = (length, row * length, col_sum, row * row * length, square_sum, row * col_sum)
        sums = [_continued(total, found.label, part) for total, part in zip(sums, parts, strict=True)]
    return [total[1:] for total in sums]


def _continued(sums: Column, label: npt.NDArray[np.uint16], values: npt.NDArray[Any]) -> Column:
    """Return the sums with these values added by label, to the last bit as if all were added in one go."""
    every = np.arange(len(sums))
    return np.bincount(np.concatenate([every, label]), np.concatenate([sums, values]), len(sums))


def _channel_names(pixels: npt.NDArray[Any]) -> list[str]:
    return ["intensity_mean"] if pixels.ndim == 2 else [f"intensity_mean_{c}" for c in ("red", "green", "blue")]


def _intensity_sums(labels: npt.NDArray[np.uint16], pixels: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    """Return the sum of the pixels of every cell, shape (channels, count)."""
    sums = np.zeros((pixels[0].size // labels.shape[1], count + 1))
    for rows in bands(*labels.shape):
        band = labels[rows].reshape(-1)
        inside = np.flatnonzero(band)
        cell = band.take(inside).astype(np.intp)
        channels = pixels[rows].reshape(band.size, -1).take(inside, axis=0).T
        sums += [np.bincount(cell, channel, count + 1) for channel in channels]
    return sums[:, 1:]


def _touching(labels: npt.NDArray[np.uint16], count: int, rows: tuple[int, ...], cols: tuple[int, ...]) -> Column:
    touches = np.zeros(count + 1, np.uint8)
    for row in rows:
        touches[labels[row]] = 1
    for col in cols:
        touches[labels[:, col]] = 1
    return touches[1:]


def _cut_by_rim(labels: npt.NDArray[np.uint16], field: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return the numbers of the cells that touch the rim of a field from within; the image's border is no rim."""
    rim = cv2.compare(field, cv2.erode(field, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))), cv2.CMP_NE)
    cut = np.flatnonzero(np.bincount(labels[rim > 0]))
    return cut[cut > 0]


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
    """Return the perimeter of every cell: the number of its border pixels, weighted by where their neighbours lie.

    A border pixel has a 4-neighbour outside its cell. It counts 1, √2 or (1 + √2) / 2, depending on how many of its
    4-neighbours and of its diagonal neighbours are border pixels of the same cell.
    """
    perimeter = np.zeros(count + 1)
    for rows in bands(*labels.shape):
        perimeter = _continued(perimeter, *_border(labels, rows))
    return perimeter[1:]


def _border(labels: npt.NDArray[np.uint16], rows: slice) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]]:
    """Return the label and the weight of every border pixel in some rows."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    outside = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 0}
    # Whether the row next to them is of the border depends on the one beyond
    top = max(rows.start - 2, 0)
    part = labels[top : rows.stop + 2]
    mixed = cv2.compare(cv2.dilate(part, cross, **outside), cv2.erode(part, cross, **outside), cv2.CMP_NE)
    lined = cv2.copyMakeBorder(cv2.copyTo(part, mixed), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    flat, width = lined.reshape(-1), lined.shape[1]
    begin, end = (1 + row - top for row in (rows.start, rows.stop))
    at = np.flatnonzero(flat[begin * width : end * width] != 0) + begin * width
    own = flat.take(at)

    def neighbours(*steps: int) -> npt.NDArray[np.uint8]:
        equal: npt.NDArray[np.uint8] = np.sum([flat.take(at + s) == own for s in steps], axis=0, dtype=np.uint8)
        return equal

    straight = neighbours(-width, width, -1, 1)
    diagonal = neighbours(-width - 1, -width + 1, width - 1, width + 1)
    return own, _PERIMETER_WEIGHT[1 + 2 * straight + 10 * diagonal]


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
