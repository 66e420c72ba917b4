"""Shapes on the grid of pixels: lines, brushes and outlines that somebody draws, and the pieces of a mask."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import InputError

Labels = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.uint8]
Place = tuple[slice, slice]  # rows and columns of a part
Point = tuple[float, float]  # row and column; whole numbers are the centres of pixels

_MOST_LOOKED_AT_PX = 1 << 28  # of all parts of a stroke: some seconds
_MOST_CROSSED_PX = 1 << 33  # of the rows that the edges of an outline cross: some seconds


def pixel(labels: Labels, point: Point) -> tuple[int, int]:
    """Return the pixel that a point is in; raise InputError for a point outside of the image."""
    row, col = (int(np.floor(value + 0.5)) for value in point)
    if not (0 <= row < labels.shape[0] and 0 <= col < labels.shape[1]):
        raise InputError("that is outside of the image: point into it")
    return row, col


def window(labels: Labels, top: int, bottom: int, left: int, right: int) -> Place:
    """Return rows and columns, as far as the image has them."""
    height, width = labels.shape
    rows = slice(min(max(top, 0), height), min(max(bottom, 0), height))
    return rows, slice(min(max(left, 0), width), min(max(right, 0), width))


def box_of(mask: Mask) -> Place:
    """Return the rows and columns that a mask reaches over."""
    left, top, width, height = cv2.boundingRect(mask)
    return slice(top, top + height), slice(left, left + width)


def line(shape: tuple[int, int], points: Sequence[Point]) -> Mask:
    """Return 1 on the pixels of a line that no chain of touching pixels gets across.

    Raises
    ------
    InputError
        If it has no length, or lies outside of the image.
    """
    if len(points) < 2:
        raise InputError("the line has no length: draw it across a cell")
    drawn = np.zeros(shape, np.uint8)
    way = np.rint(np.asarray(points, float))[:, ::-1].astype(np.int32)
    cv2.polylines(drawn, [way], isClosed=False, color=1, thickness=1, lineType=cv2.LINE_4)
    if not drawn.any():
        raise InputError("the line is outside of the image: draw it across a cell")
    return drawn


def under_brush(labels: Labels, points: Sequence[Point], radius: float) -> tuple[npt.NDArray[np.bool_], Place]:
    """Return which pixels are under a brush, in the part of the image that they are in, and that part.

    Raises
    ------
    InputError
        If it would take many seconds.
    """
    way = np.asarray(points, float)
    reach = int(np.ceil(radius)) + 1
    top, left = np.floor(way.min(axis=0)).astype(int) - reach
    bottom, right = np.ceil(way.max(axis=0)).astype(int) + reach + 1
    place = window(labels, int(top), int(bottom), int(left), int(right))
    mask = np.zeros((place[0].stop - place[0].start, place[1].stop - place[1].start), bool)
    looked_at_px = 0
    ends = way[1:] if len(way) > 1 else way
    for begin, end in zip(way, ends, strict=False):
        low, high = np.minimum(begin, end) - reach, np.maximum(begin, end) + reach + 1
        box = window(labels, int(low[0]), int(high[0]), int(low[1]), int(high[1]))
        looked_at_px += (box[0].stop - box[0].start) * (box[1].stop - box[1].start)
        if looked_at_px > _MOST_LOOKED_AT_PX:
            raise InputError("that stroke is too long: draw it in parts")
        rows = np.arange(box[0].start, box[0].stop)[:, None] - begin[0]
        cols = np.arange(box[1].start, box[1].stop)[None, :] - begin[1]
        step = end - begin
        length = float(step @ step)
        along = np.clip((rows * step[0] + cols * step[1]) / length, 0, 1) if length else 0.0
        near = (rows - along * step[0]) ** 2 + (cols - along * step[1]) ** 2 <= radius**2
        offset = box[0].start - place[0].start, box[1].start - place[1].start
        mask[offset[0] : offset[0] + near.shape[0], offset[1] : offset[1] + near.shape[1]] |= near
    return mask, place


def within(way: npt.NDArray[np.float64], place: Place) -> npt.NDArray[np.bool_]:
    """Return which pixels of a part have their centres inside of a closed way, by the even-odd rule.

    Raises
    ------
    InputError
        If it would take many seconds.
    """
    within_part = np.clip(way[:, 0], place[0].start, place[0].stop)
    crossings = float(np.abs(np.diff(within_part, append=within_part[0])).sum())
    if crossings * (place[1].stop - place[1].start) > _MOST_CROSSED_PX:
        raise InputError("that outline is too long: draw it with fewer turns")
    rows, cols = np.arange(place[0].start, place[0].stop), np.arange(place[1].start, place[1].stop)
    inside = np.zeros((len(rows), len(cols)), bool)
    for (row, col), (next_row, next_col) in zip(way, np.roll(way, -1, axis=0), strict=True):
        crossed = np.flatnonzero((row > rows) != (next_row > rows))
        at_col = col + (rows[crossed] - row) * ((next_col - col) / (next_row - row or 1.0))
        inside[crossed] ^= cols < at_col[:, None]
    return inside


def pieces_of(mask: Mask) -> npt.NDArray[np.int32]:
    """Return the pieces of a mask, numbered from 1 by their first pixel."""
    if not mask.size:  # of which OpenCV crashes
        return np.zeros(mask.shape, np.int32)
    count, found = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
    if count < 3:
        return np.asarray(found, np.int32)
    present, first = np.unique(found, return_index=True)
    order = present[np.argsort(first)]
    numbers = np.zeros(count, np.int32)
    numbers[order[order > 0]] = np.arange(1, count)
    return np.asarray(numbers[found])


def component(mask: Mask, here: tuple[int, int]) -> Mask:
    """Return the piece of a mask that a pixel of it is in."""
    found = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)[1]
    return np.asarray(found == found[here]).view(np.uint8)


def filled(mask: Mask) -> Mask:
    """Return a mask without holes."""
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    outside = cv2.connectedComponents((framed == 0).view(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1]
    return np.ascontiguousarray((outside != outside[0, 0])[1:-1, 1:-1]).view(np.uint8)


def spread(pieces: npt.NDArray[np.int32], mask: Mask) -> npt.NDArray[np.int32]:
    """Return pieces grown over all of a mask: a pixel goes to the piece beside it with the largest number."""
    grown = pieces.astype(np.uint16)
    while cv2.countNonZero(left := ((grown == 0) & (mask > 0)).view(np.uint8)):
        before = grown.copy()
        cv2.copyTo(cv2.dilate(grown, np.ones((3, 3), np.uint8)), left, grown)
        if np.array_equal(before, grown):  # what is left touches no piece
            break
    return grown.astype(np.int32)
