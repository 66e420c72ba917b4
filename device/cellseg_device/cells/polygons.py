"""Polygons along the pixel borders of cells: filling them gives the cells again, pixel for pixel.

All cells are traced at once, from the corners of their borders; only following the borders goes corner by corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Ring = npt.NDArray[np.int32]
Polygon = list[Ring]

_BAND = 256  # rows handled together, to keep the temporary arrays small


@dataclass(frozen=True)
class _Corners:
    """The corners of cells' borders, by label, row and column; each ends one horizontal and one vertical edge.

    Attributes
    ----------
    label, y, x : ndarray of int64, shape (n,)
        (0, 0) is the upper left corner of the upper left pixel.
    across, along : ndarray of int64, shape (n,)
        The corner at the other end of the horizontal and of the vertical edge.
    successor : ndarray of int64, shape (n,)
        The next corner with the cell to the right.
    """

    label: npt.NDArray[np.int64]
    y: npt.NDArray[np.int64]
    x: npt.NDArray[np.int64]
    across: npt.NDArray[np.int64]
    along: npt.NDArray[np.int64]
    successor: npt.NDArray[np.int64]


def trace(labels: npt.NDArray[np.uint16]) -> dict[int, list[Polygon]]:
    """Return the polygons of every cell.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
        0 is background.

    Returns
    -------
    dict of int to list of list of ndarray of int32, shape (n, 2)
        By label, in order of the labels: a polygon for each part of the cell that is connected over the sides of
        pixels. Its first ring is the outline, the others are holes: the (x, y) of their corners, in pixels from the
        upper left corner of the image, the last joined to the first. Outlines run clockwise on the screen, holes the
        other way. A ring never touches itself; two may touch in corners.
    """
    corners = _corners(labels)
    rings = _rings(corners)
    if not rings:
        return {}
    order = np.concatenate(rings)
    start = np.cumsum([0, *(len(ring) for ring in rings)])
    points = np.stack([corners.x[order], corners.y[order]], axis=1).astype(np.int32)
    first = order[start[:-1]]
    label = corners.label[first]
    is_hole = _doubled_areas(points, start) < 0
    shell = np.arange(len(rings))
    shell[is_hole] = _shells(labels, corners, order, start, is_hole)

    cells: dict[int, list[Polygon]] = {}
    for ring in np.lexsort((is_hole, shell)).tolist():
        polygons = cells.setdefault(int(label[ring]), [])
        if not is_hole[ring]:
            polygons.append([])
        polygons[-1].append(points[start[ring] : start[ring + 1]])
    return cells


def _corners(labels: npt.NDArray[np.uint16]) -> _Corners:
    """Return the corners of all borders, and how edges join them."""
    padded = cv2.copyMakeBorder(labels, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    rows, columns = labels.shape[0] + 1, labels.shape[1] + 1
    y, x = np.divmod(_turns(padded), columns)
    flat, width = padded.reshape(-1), columns + 1
    pixel = {(dy, dx): flat.take((y + dy) * width + x + dx) for dy in (0, 1) for dx in (0, 1)}
    del padded, flat
    found: list[list[npt.NDArray[Any]]] = []
    for dy, dx in pixel:
        own, beside, over, opposite = pixel[dy, dx], pixel[dy, 1 - dx], pixel[1 - dy, dx], pixel[1 - dy, 1 - dx]
        # Outward: a pixel of the cell between two others that are not. Inward: one that is not between three that are.
        outward = np.flatnonzero((own != 0) & (own != beside) & (own != over))
        inward = np.flatnonzero((over != 0) & (over != own) & (over == beside) & (over == opposite))
        for cell, which, goes_across in ((own, outward, dx == dy), (over, inward, dx != dy)):
            ends = (np.full(which.size, number, np.int8) for number in (dy, dx, goes_across))
            found.append([cell[which], y[which], x[which], *ends])
    del pixel
    label, y, x, downward, rightward, across_next = (np.concatenate(parts) for parts in zip(*found, strict=True))
    del found
    label = label.astype(np.int64)

    # Along a row (a column) the corners of a label are by turns the left (upper) and the other end of an edge
    order = np.argsort(((label * rows + y) * columns + x) * 2 + rightward)
    label, y, x, downward, across_next = (a[order] for a in (label, y, x, downward, across_next))
    across = np.arange(label.size) ^ 1
    order = np.argsort(((label * columns + x) * rows + y) * 2 + downward)
    along = np.empty_like(order)
    along[order[0::2]], along[order[1::2]] = order[1::2], order[0::2]
    return _Corners(label, y, x, across, along, np.where(across_next, across, along))


def _turns(padded: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Return the flat indices of the points at which a border turns.

    These are the points whose four pixels are neither all alike nor two alike beside two alike.
    """
    points = (padded.shape[0] - 1, padded.shape[1] - 1)
    found = []
    for top in range(0, points[0], _BAND):
        band = padded[top : top + _BAND + 1]
        sides, steps = band[:, 1:] != band[:, :-1], band[1:] != band[:-1]
        turns = sides[1:] | sides[:-1]
        turns &= steps[:, 1:] | steps[:, :-1]
        found.append(np.flatnonzero(turns) + top * points[1])
    return np.concatenate(found)


def _rings(corners: _Corners) -> list[list[int]]:
    """Return the rings, as the indices of their corners; each begins at its first corner, by which they are sorted."""
    successor = corners.successor.tolist()
    ring_of = [-1] * len(successor)
    rings: list[list[int]] = []
    for begin in range(len(successor)):
        if ring_of[begin] < 0:
            ring = []
            corner = begin
            while ring_of[corner] < 0:
                ring_of[corner] = len(rings)
                ring.append(corner)
                corner = successor[corner]
            rings.append(ring)
    same = (np.diff(corners.label) == 0) & (np.diff(corners.y) == 0) & (np.diff(corners.x) == 0)
    twins = [one for one in np.flatnonzero(same).tolist() if ring_of[one] == ring_of[one + 1]]
    if not twins:
        return rings
    twin = {one: one + 1 for one in twins} | {one + 1: one for one in twins}
    divided = {ring_of[one] for one in twins}
    whole = [ring for number, ring in enumerate(rings) if number not in divided]
    return sorted([*whole, *(part for number in divided for part in _parts(rings[number], twin))])


def _parts(ring: list[int], twin: dict[int, int]) -> Iterator[list[int]]:
    """Yield the parts of a ring that touches itself, at a point where two pixels of the cell meet at their corners."""
    path: list[int] = []
    place: dict[int, int] = {}
    for corner in ring:
        if corner in twin:
            since = place.get(twin[corner])
            if since is not None:
                yield _from_first(path[since:])
                for dropped in path[since:]:
                    place.pop(dropped, None)
                del path[since:]
            place[corner] = len(path)
        path.append(corner)
    yield _from_first(path)


def _from_first(ring: list[int]) -> list[int]:
    first = ring.index(min(ring))
    return ring[first:] + ring[:first]


def _doubled_areas(points: Ring, start: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return twice the area inside each ring, negative for holes."""
    following = np.arange(1, len(points) + 1)
    following[start[1:] - 1] = start[:-1]
    x, y = points.T.astype(np.int64)
    return np.add.reduceat(x * y[following] - x[following] * y, start[:-1])


def _shells(
    labels: npt.NDArray[np.uint16],
    corners: _Corners,
    order: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    is_hole: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Return, for each hole, the outline that it is a hole in.

    The cell's pixels to the left of a hole's first corner begin at an edge of the outline, or of an earlier hole: then
    the outline of that hole is the answer.
    """
    holes = np.flatnonzero(is_hole)
    if not holes.size:
        return holes
    ring_of = np.empty(order.size, np.int64)
    ring_of[order] = np.repeat(np.arange(start.size - 1), np.diff(start))
    first = order[start[holes]]
    label, y, x = corners.label[first], corners.y[first], corners.x[first]
    # The last change of label in this row before the hole
    width = labels.shape[1]
    begins = np.ones(labels.shape, bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=begins[:, 1:])
    changes = np.flatnonzero(begins)
    left = changes[np.searchsorted(changes, y * width + x) - 1] % width

    # The vertical edge there: the last of this label and column that begins at this row or above
    upper = np.flatnonzero(corners.along > np.arange(corners.along.size))
    rows = labels.shape[0] + 1
    keys = (corners.label[upper] * (width + 1) + corners.x[upper]) * rows + corners.y[upper]
    by_key = np.argsort(keys)
    edge = np.searchsorted(keys[by_key], (label * (width + 1) + left) * rows + y, side="right") - 1
    shell = np.arange(start.size - 1)
    shell[holes] = ring_of[upper[by_key[edge]]]
    while is_hole[shell].any():
        shell = shell[shell]
    return shell[holes]
