"""Outlines of cells filled to a label image: the reverse of `polygons.trace`, for outlines from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.instances import MAX_CELLS

Outline = Sequence[npt.NDArray[np.float64]]  # rings of (x, y), shape (n, 2)
_Edges = npt.NDArray[np.float64]

_MOST_STEPS = 1 << 30  # rows that edges cross, and pixels of the cells' boxes, in all: ten seconds or so
_ROWS_AT_ONCE = 1 << 20  # how many the edges that are handled together cross


@dataclass(frozen=True)
class Filled:
    """Outlines that were filled.

    Attributes
    ----------
    labels : ndarray of uint16, shape (height, width)
        Numbered from 1 in the order of the outlines; one that covers no pixel, or is wholly covered by later ones, has
        none.
    overlapping_px : int
        How many pixels belong to several outlines; they went to the last of these.
    lost : int
        How many outlines have no pixel of their own.
    """

    labels: npt.NDArray[np.uint16]
    overlapping_px: int
    lost: int


def fill(outlines: Iterable[Outline], shape: tuple[int, int]) -> Filled:
    """Return outlines as a label image: each has the pixels whose centres are inside, by the even-odd rule.

    So a ring within another one is a hole, and the outlines of `polygons.trace` give what they were traced from.
    What lies outside the image is cut off.

    Parameters
    ----------
    outlines : iterable of sequence of ndarray of float64, shape (n, 2)
        Of each cell its rings, as from `polygons.trace`: (x, y) of their corners in pixels, from the upper left corner
        of the image, at most millions. The last corner is joined to the first.
    shape : (int, int)
        Height and width.

    Raises
    ------
    ValueError
        With what is wrong in words for a user: too many cells, one wholly outside the image, or far too much to fill.
    """
    labels = np.zeros(shape, np.uint16)
    number = overlapping_px = steps = 0
    for outline in outlines:
        number += 1
        if number > MAX_CELLS:
            raise ValueError(f"holds more than {MAX_CELLS:,} cells: cut the image into parts")
        edges = _edges(outline)
        box = _box(edges, shape)
        if box is None:
            raise ValueError(
                f"cell {number} of the file lies outside the image of {shape[1]}×{shape[0]} pixels: give the outlines "
                "in pixels of this image"
            )
        rows, columns = box
        first, last = _crossed(edges, rows)
        steps += int(np.sum(last - first)) + (rows.stop - rows.start) * (columns.stop - columns.start)
        if steps > _MOST_STEPS:
            raise ValueError("has outlines that are too long, or cover each other too often: simplify them")
        part = labels[rows, columns]
        inside = _inside(edges, first, last, rows, columns)
        overlapping_px += int(np.count_nonzero(part[inside]))
        part[inside] = number
    present = np.bincount(labels.reshape(-1), minlength=number + 1)[1:] > 0
    renumbered = np.concatenate([[0], np.cumsum(present)]).astype(np.uint16)
    return Filled(renumbered[labels], overlapping_px, number - int(np.count_nonzero(present)))


def _edges(outline: Outline) -> _Edges:
    """Return the x, y of each edge's start, and of its end, shape (n, 4)."""
    return np.concatenate([np.hstack([ring, np.roll(ring, -1, axis=0)]) for ring in outline], dtype=np.float64)


def _box(edges: _Edges, shape: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return the rows and columns of the image that edges enclose; None if these are outside."""
    corners = edges[:, :2]
    (left, top), (right, bottom) = np.maximum(np.floor(corners.min(axis=0)), 0), np.ceil(corners.max(axis=0))
    bottom, right = min(bottom, shape[0]), min(right, shape[1])
    is_outside = left >= shape[1] or top >= shape[0] or right <= 0 or bottom <= 0
    return None if is_outside else (slice(int(top), int(bottom)), slice(int(left), int(right)))


def _crossed(edges: _Edges, rows: slice) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first of these rows whose centres each edge crosses, and the one after the last."""
    ends = np.ceil(edges[:, 1::2] - 0.5).clip(rows.start, rows.stop).astype(np.int64)
    return ends.min(axis=1), ends.max(axis=1)


def _inside(
    edges: _Edges, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64], rows: slice, columns: slice
) -> npt.NDArray[np.bool_]:
    """Return which pixels of a box are inside: those with an odd number of edges to the left of their centres."""
    width = columns.stop - columns.start
    changes = np.zeros((rows.stop - rows.start, width + 1), np.uint8)  # which may overflow: only odd or even counts
    crossing = np.flatnonzero(last > first)
    batches = np.cumsum((last - first)[crossing]) // _ROWS_AT_ONCE
    for batch in np.split(crossing, np.flatnonzero(np.diff(batches)) + 1):
        lengths = (last - first)[batch]
        row = np.arange(lengths.sum()) + np.repeat(first[batch] - np.cumsum(lengths) + lengths, lengths)
        x, y, next_x, next_y = np.repeat(edges[batch], lengths, axis=0).T
        crossed_at = x + (row + 0.5 - y) * ((next_x - x) / (next_y - y))
        column = np.ceil(crossed_at - 0.5).clip(columns.start, columns.stop).astype(np.int64)
        np.add.at(changes, (row - rows.start, column - columns.start), np.uint8(1))
    np.cumsum(changes, axis=1, dtype=np.uint8, out=changes)
    is_odd: npt.NDArray[np.bool_] = changes[:, :width] % 2 == 1
    return is_odd
