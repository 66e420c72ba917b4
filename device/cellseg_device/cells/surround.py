"""A dark or bright surround of the field of view, as an eyepiece, an adapter or the margin of a page leaves it.

It is looked for in a small copy of the image: places joined to the image's border that are about as dark, or as bright,
as that is anywhere, and even. They are a surround if what they leave is a circle or a rectangle, as far as it is in the
image, and is set off by a sharp step; within a dark one it must show a bright field, with cells darker than most of it.
The background around cells, a spheroid or tissue is none of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells.region import Region

SHADES = ("dark", "bright")

_Mask = npt.NDArray[np.uint8]
_Kept = npt.NDArray[np.bool_]
_Distances = npt.NDArray[np.float64]
_Shape = TypeVar("_Shape")
_BOX = np.ones((3, 3), np.uint8)

_SIDE_PX = 256  # of the small copy, at least, and less than twice that
_PERCENTILES = 0.5, 99.5  # of its pixels, that become levels 0 and 255
_MIN_STEP = 60  # levels from the surround to the field's median
# As parts of that step: what is as dark as the surround; how uneven a surround may be, where a bright one is the white
# of a page, not glass; and the least jump where the field begins
_CLOSE, _MAX_UNEVEN, _MIN_JUMP = 0.3, {"dark": 0.18, "bright": 0.005}, 0.5
# What is brighter than the median of a bright field is no farther from it than this part of the step, or than so many
# times what is darker
_MOST_BRIGHT, _MOST_BRIGHT_PER_DARK = 0.1, 2.0
_LEAST_PART, _MOST_PART, _MOST_IN_BOX = 0.2, 0.985, 0.95  # that the field of view may be of the image; as a rectangle
_LEAST_FIELD_PX = 160  # side of a field of view; what is smaller is a cell that somebody has cut out
_MOST_CRUMBS = 0.1  # of the image, that may lie in the surround: a caption, a time stamp, a scale bar, dust
_MIN_RIM_POINTS, _FIT_ROUNDS = 24, 8
_MIN_ON_RIM = 0.6  # of a rim that must lie on its circle or line; pointers and dark cells may make dents
_ON_LINE_PX, _MOST_TILT = 1.2, 0.1  # how near that is to a line, and the slope of that
_MOST_ON_BORDER = 0.15  # of a side that is not the image's border; cells at a border make dents as well
_MAX_OFF_PX, _MAX_OFF = 0.6, 0.012  # their root mean square distance from it, and as a part of the radius
_IN_SHAPE, _OF_SHAPE = 0.985, 0.9  # part of the field that must lie in its circle, and of that which it must fill
_IN_BOX, _OF_BOX = 0.85, 0.97  # the same of a rectangle, which is the largest upright one in a tilted field
_MARGIN_PX, _BLURRED_PX = 0.7, 16  # by which a field is smaller than it looks, at least and at most: its rim is blurred
_FULL, _FULL_BEHIND_PX = 0.9, 3  # a rim is in the field where it has this part of the light that there is farther in


@dataclass(frozen=True)
class Surround:
    """A surround that was found.

    Attributes
    ----------
    shade : str
        Of `SHADES`.
    field : Region
        The field of view inside it, a circle or a rectangle.
    """

    shade: str
    field: Region

    def __str__(self) -> str:
        """What is left out, with the region to give for the same: ``dark, around circle:200,240,198``."""
        return f"{self.shade}, around {self.field}"


def in_words(text: str) -> str:
    """Return ``dark surround left out`` of the text of a `Surround`."""
    return f"{text.partition(',')[0]} surround left out"


def find(pixels: npt.NDArray[Any]) -> Surround | None:
    """Return the surround of an image's field of view; None if it has none.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16
    """
    shortest, longest = sorted(pixels.shape[:2])
    scale = min(max(longest // _SIDE_PX, 1), shortest)
    small = _small(pixels, scale)
    for shade, levels in zip(SHADES, (small, 255 - small), strict=True):
        field = _field(levels, shade)
        found = None if field is None else _circle(levels, field, scale) or _rectangle(field, scale, pixels.shape)
        if found is not None and min(found.numbers[2:]) * (2 if found.kind == "circle" else 1) >= _LEAST_FIELD_PX:
            return Surround(shade, found)
    return None


def _small(pixels: npt.NDArray[Any], scale: int) -> _Mask:
    """Return a grey copy that is so many times as small, in levels from 0 to 255."""
    if scale > 1:  # by a whole number, which is several times as fast; every pixel counts, or patterns would be seen
        height, width = (size // scale for size in pixels.shape[:2])
        whole = pixels[: height * scale, : width * scale]
        pixels = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    grey = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    low, high = (int(np.percentile(grey, part, method="lower")) for part in _PERCENTILES)
    return np.clip((grey.astype(np.int64) - low) * 255 // max(high - low, 1), 0, 255).astype(np.uint8)


def _field(levels: _Mask, shade: str) -> _Mask | None:
    """Return what a surround that is dark in these levels leaves, as 1; None if there is no such surround."""
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    dark = int(np.percentile(border, 2, method="lower"))
    others = levels[levels >= dark + _MIN_STEP]
    step = int(np.median(others)) - dark if others.size else 0
    if step < _MIN_STEP:
        return None
    surround = _joined_to_border((levels <= dark + _CLOSE * step).view(np.uint8))
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(1 - surround, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if count < 2 or not _LEAST_PART <= areas.max() / levels.size <= _MOST_PART:
        return None
    if areas.sum() - areas.max() > _MOST_CRUMBS * levels.size:
        return None
    field = (pieces == 1 + areas.argmax()).astype(np.uint8)
    if not _is_set_off(levels, field, step, _MAX_UNEVEN[shade]):
        return None
    return field if shade == "bright" or _is_bright_field(levels, field, step) else None


def _joined_to_border(mask: _Mask) -> _Mask:
    """Return those components of a mask that touch the image's border."""
    count, pieces = cv2.connectedComponents(mask, connectivity=4)
    touching = np.zeros(count, np.uint8)
    for edge in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
        touching[edge] = 1
    touching[0] = 0
    joined: _Mask = touching[pieces]
    return joined


def _is_set_off(levels: _Mask, field: _Mask, step: int, max_uneven: float) -> bool:
    """Whether a surround has no structure, and the levels jump where the field begins."""
    outside = levels[_grown(field, 2) == 0]
    rim = levels[(_shrunk(field, 2) > 0) & (_shrunk(field, 4) == 0)]
    if not outside.size or not rim.size:
        return False
    low, middle, high = np.percentile(outside, (10, 50, 90))
    return bool(high - low <= max_uneven * step and np.median(rim) - middle >= _MIN_JUMP * step)


def _is_bright_field(levels: _Mask, field: _Mask, step: int) -> bool:
    """Whether what differs from most of a field is darker, not brighter, as in a specimen that shines in the dark."""
    inside = levels[_shrunk(field, 4) > 0]
    if not inside.size:
        return False
    low, middle, high = np.percentile(inside, (2, 50, 98))
    return bool(high - middle <= max(_MOST_BRIGHT_PER_DARK * (middle - low), _MOST_BRIGHT * step))


def _grown(field: _Mask, by_px: int) -> _Mask:
    return np.asarray(cv2.dilate(field, _BOX, iterations=by_px), np.uint8)


def _shrunk(field: _Mask, by_px: int) -> _Mask:
    return np.asarray(cv2.erode(field, _BOX, iterations=by_px), np.uint8)


def _circle(levels: _Mask, field: _Mask, scale: int) -> Region | None:
    """Return the circle, in pixels of the image, whose part within the image a field of the small copy is."""
    height, width = field.shape
    outlines, _ = cv2.findContours(field, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    col, row = outlines[0].reshape(-1, 2).T
    is_rim = (col > 0) & (col < width - 1) & (row > 0) & (row < height - 1)
    if np.count_nonzero(is_rim) < _MIN_RIM_POINTS:
        return None
    row, col = (row[is_rim] + 0.5) * scale, (col[is_rim] + 0.5) * scale

    def off_circle(kept: _Kept) -> tuple[tuple[float, float, float], _Distances]:
        center_row, center_col, radius = circle = _fitted(row[kept], col[kept])
        return circle, np.hypot(row - center_row, col - center_col) - radius

    (center_row, center_col, radius), off, on_rim = _without_dents(off_circle, len(row), 1.5 * scale)
    spread = math.sqrt(float(np.mean(off[on_rim] ** 2)))
    if np.mean(on_rim) < _MIN_ON_RIM or spread > max(_MAX_OFF_PX * scale, _MAX_OFF * radius):
        return None
    rows, cols = np.mgrid[:height, :width]
    away = np.hypot((rows + 0.5) * scale - center_row, (cols + 0.5) * scale - center_col)
    # Else it is what lies around the circle, or only a part of it
    if not _agree(field, away < radius + scale, _IN_SHAPE, _OF_SHAPE):
        return None
    squeezed = max(-float(np.percentile(off[on_rim], 10)) - 0.5 * scale, 0.0)
    blurred_px = _blurred_px(levels, field, np.floor((radius - away) / scale))
    # The outline runs through the middle of the outermost pixels
    radius += (0.5 - _MARGIN_PX - blurred_px) * scale - squeezed
    return Region("circle", (float(round(center_row)), float(round(center_col)), float(math.floor(radius))))


def _blurred_px(levels: _Mask, field: _Mask, rings: _Distances) -> int:
    """Return how many rings of a field, counted from its rim, have less light than those farther in."""
    dark = np.median(levels[field == 0])
    there = (levels[rings == ring] for ring in range(_BLURRED_PX))
    light = [np.median(ring) - dark for ring in there if ring.size]
    farther_in = light[_FULL_BEHIND_PX:]
    return next((n for n, behind in enumerate(farther_in) if light[n] >= _FULL * behind), len(farther_in))


def _without_dents(
    fit: Callable[[_Kept], tuple[_Shape, _Distances]], number: int, near: float
) -> tuple[_Shape, _Distances, _Kept]:
    """Return the shape that most of a number of points lie on, how far each is off it, and which are those.

    Parameters
    ----------
    fit : callable
        Returns the shape through the points that are kept, and how far each point is off that.
    number : int
        Of the points.
    near : float
        Distance at which a point is kept, whatever the others do.
    """
    shape, off = fit(np.ones(number, bool))
    for _ in range(_FIT_ROUNDS - 1):
        shape, off = fit(_near(off, near))
    return shape, off, _near(off, near)


def _near(off: _Distances, near: float) -> _Kept:
    """Whether points are near, or not much farther off than most."""
    return np.asarray(np.abs(off) <= max(near, 2.5 * float(np.median(np.abs(off)))))


def _fitted(row: npt.NDArray[np.float64], col: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return row and column of the centre, and the radius, of the circle through points.

    References
    ----------
    .. I. Kåsa, A circle fitting procedure and its error analysis. IEEE Transactions on Instrumentation and Measurement
       25(1), 8–14 (1976).
    """
    system = np.stack([2 * row, 2 * col, np.ones(len(row))], axis=1)
    center_row, center_col, rest = np.linalg.lstsq(system, row**2 + col**2, rcond=None)[0]
    return float(center_row), float(center_col), math.sqrt(max(rest + center_row**2 + center_col**2, 0.0))


def _agree(field: _Mask, shape: npt.NDArray[np.bool_], in_shape: float, of_shape: float) -> bool:
    """Whether a field lies in a shape and fills it, to these parts."""
    both = np.count_nonzero(field[shape])
    return bool(both >= in_shape * np.count_nonzero(field) and both >= of_shape * np.count_nonzero(shape))


def _rectangle(field: _Mask, scale: int, shape: tuple[int, ...]) -> Region | None:
    """Return the upright rectangle, in pixels of the image, in a field that is one, or a tilted one."""
    rows, cols = _extent(field), _extent(field.T)
    if rows is None or cols is None:
        return None
    (top, bottom), (left, right) = rows, cols
    box = np.zeros(field.shape, bool)
    box[top:bottom, left:right] = True
    if not 0 < np.mean(box) <= _MOST_IN_BOX or not _agree(field, box, _IN_BOX, _OF_BOX):
        return None
    top_px, bottom_px = _inner(top, bottom, field.shape[0], scale, shape[0])
    left_px, right_px = _inner(left, right, field.shape[1], scale, shape[1])
    return Region("rectangle", (top_px, left_px, bottom_px - top_px, right_px - left_px))


def _extent(field: _Mask) -> tuple[int, int] | None:
    """Return the rows from which, and up to which, nearly all of a field's middle columns are in it.

    None if its upper or lower side is neither the image's border nor straight.
    """
    columns = np.flatnonzero(field.any(axis=0))
    margin = len(columns) // 10
    middle = field[:, columns[margin] : columns[-1 - margin] + 1].astype(bool)
    first, behind = middle.argmax(axis=0), len(middle) - middle[::-1].argmax(axis=0)
    begin, end = _side(first), _side(len(middle) - behind)
    return None if begin is None or end is None else (begin, len(middle) - end)


def _side(away: npt.NDArray[np.intp]) -> int | None:
    """Return how far a side lies from the image's border; None if it is neither that border nor a straight line.

    Parameters
    ----------
    away : ndarray of int, shape (n,)
        How far it is at each place.
    """
    on_border = np.mean(away == 0)
    if on_border >= 1 - _MOST_ON_BORDER:
        return 0
    return (
        int(np.percentile(away, 95, method="higher")) if on_border <= _MOST_ON_BORDER and _is_straight(away) else None
    )


def _is_straight(side: npt.NDArray[np.intp]) -> bool:
    """Whether most of a side lies on a line that is tilted a little at most; cells may make dents."""
    at = np.arange(len(side))

    def off_line(kept: _Kept) -> tuple[float, _Distances]:
        slope, offset = np.polyfit(at[kept], side[kept], 1)
        return float(slope), side - slope * at - offset

    slope, off, _ = _without_dents(off_line, len(side), _ON_LINE_PX)
    return bool(abs(slope) <= _MOST_TILT and np.mean(np.abs(off) <= _ON_LINE_PX) >= _MIN_ON_RIM)


def _inner(begin: int, end: int, size: int, scale: int, size_px: int) -> tuple[float, float]:
    """Return two sides in pixels of the image, moved inwards; one at the image's border stays there."""
    return (
        float(math.ceil((begin + _MARGIN_PX) * scale)) if begin else 0.0,
        float(math.floor((end - _MARGIN_PX) * scale)) if end < size else float(size_px),
    )
