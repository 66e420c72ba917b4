"""The edits of a label image, as functions that change it in place and return what they changed.

What holds for all of them:

- A new cell gets the next free number: one more than the largest; once that is 65,535, the smallest that is free.
- Cells never lie outside the field, where nothing is counted: what an edit would put there stays background.
- A cell that an edit cuts into pieces becomes that many cells: the largest piece keeps the number. Pieces of fewer than
  `CRUMB_PX` pixels beside it are removed. A cell that was in several pieces before stays one.
- Pixels that touch in a corner touch.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import instances, patch
from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.cells.patch import Patch
from cellseg_device.correcting import shapes
from cellseg_device.correcting.shapes import Labels, Mask, Place, Point
from cellseg_device.errors import InputError

CRUMB_PX = 16


def at(labels: Labels, point: Point) -> int:
    """Return the cell at a point, 0 for none; raise InputError for a point outside of the image."""
    row, col = shapes.pixel(labels, point)
    return int(labels[row, col])


def remove(labels: Labels, point: Point) -> Patch | None:
    """Remove the cell at a point."""
    cell = _cell(labels, point)

    def change(part: Labels) -> None:
        part[part == cell] = 0

    return patch.made(labels, around(labels, cell), change)


def join(labels: Labels, first: Point, second: Point) -> Patch | None:
    """Make one cell of two, in the number of the first; they need not touch."""
    kept, other = _cell(labels, first), _cell(labels, second)
    if kept == other:
        raise InputError("both points are in one cell: point at two cells to join them")

    def change(part: Labels) -> None:
        part[part == other] = kept

    return patch.made(labels, around(labels, other), change)


def do_touch(labels: Labels, first: int, second: int) -> bool:
    """Whether two cells touch."""
    part = labels[around(labels, first, margin=1)]
    spread = cv2.dilate((part == first).view(np.uint8), np.ones((3, 3), np.uint8))
    return bool(np.any(spread[part == second]))


def cut(labels: Labels, line: Sequence[Point]) -> Patch | None:
    """Split a cell along a line that is drawn across it: of the cells that it cuts, that with most of the line.

    The line's own pixels go to the pieces beside it, so that the cell's area stays.

    Raises
    ------
    InputError
        If it cuts no cell into pieces of `CRUMB_PX` or more.
    """
    drawn = shapes.line((labels.shape[0], labels.shape[1]), line)
    box = shapes.box_of(drawn)
    under = np.bincount(labels[box][drawn[box] > 0], minlength=1)
    under[0] = 0
    for cell in np.argsort(-under, kind="stable")[: np.count_nonzero(under)]:
        place = around(labels, int(cell))
        mask = (labels[place] == cell).view(np.uint8)
        pieces = shapes.pieces_of(mask & (drawn[place] == 0))
        sizes = np.bincount(pieces.reshape(-1))[1:]
        if np.count_nonzero(sizes >= CRUMB_PX) >= 2:
            large = np.zeros(len(sizes) + 1, np.int32)
            large[1:][sizes >= CRUMB_PX] = np.arange(1, np.count_nonzero(sizes >= CRUMB_PX) + 1)
            return _divided(labels, int(cell), place, shapes.spread(large[pieces], mask))
    raise InputError("the line cuts no cell in two: draw it from one side of a cell to the other")


def divide(labels: Labels, first: Point, second: Point, landscape: npt.NDArray[np.int8]) -> Patch | None:
    """Split the cell that two points are in by the watershed of the landscape between them.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
    first, second : (float, float)
    landscape : ndarray of int8, shape (height, width)
        High inside cells and low between them.

    Raises
    ------
    InputError
        If they are not in one cell, or in the same pixel of it.
    """
    cell = _cell(labels, first)
    if _cell(labels, second) != cell:
        raise InputError("the two points are in two cells: point at the two halves of one cell")
    place = around(labels, cell)
    mask = (labels[place] == cell).view(np.uint8)
    markers = np.zeros(mask.shape, np.int32)
    for number, point in enumerate((first, second), 1):
        row, col = shapes.pixel(labels, point)
        markers[row - place[0].start, col - place[1].start] = number
    if markers.max() < 2 or np.count_nonzero(markers) < 2:
        raise InputError("both points are in one pixel: point at the two halves of the cell")
    found = instances.grow(markers, mask * np.uint8(255), np.ascontiguousarray(landscape[place]))
    return _divided(labels, cell, place, found.astype(np.int32) * mask)  # it goes a little beyond the cell


def add(
    labels: Labels,
    point: Point,
    foreground: npt.NDArray[np.int8],
    landscape: npt.NDArray[np.int8] | None,
    *,
    threshold: int,
    prominence: int,
    most_px: float,
    field: Mask | None = None,
) -> Patch | None:
    """Add the cell that the maps show at a point: what is foreground there without a label, as far as its peak reaches.

    Where the foreground map at the point is below the threshold, which is why the cell was not found, the cell is what
    reaches half of the point's value.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
    point : (float, float)
    foreground, landscape : ndarray of int8, shape (height, width)
        The maps at the size of the image; landscape None for a model without one.
    threshold, prominence : int
        As in `instances.Limits`.
    most_px : float
        Largest area of a cell.
    field : ndarray of uint8, shape (height, width), or None
        As of `Image`.

    Raises
    ------
    InputError
        If there is a cell already, the point is outside of the field, or the maps show nothing there, or too much.
    """
    row, col = shapes.pixel(labels, point)
    if labels[row, col]:
        raise InputError("there is a cell already: point beside the cells to add one")
    if field is not None and not field[row, col]:
        raise InputError(_OUTSIDE)
    value = int(foreground[row, col])
    level = threshold if value >= threshold else (value - 128) // 2
    if level <= _FAINTEST:
        raise InputError("nothing is recognised there: draw the cell's outline")
    reach = int(2 * np.sqrt(most_px)) + 2
    place = shapes.window(labels, row - reach, row + reach + 1, col - reach, col + reach + 1)
    free = (foreground[place] >= level) & (labels[place] == 0)
    if field is not None:
        free &= field[place] > 0
    here = row - place[0].start, col - place[1].start
    mask = shapes.component(free.view(np.uint8), here)
    if landscape is not None:
        found = instances.pieces(mask * np.uint8(255), np.ascontiguousarray(landscape[place]), prominence)
        mask = (found == found[here]).view(np.uint8)
    if np.count_nonzero(mask) > most_px:
        raise InputError("what is recognised there is too large for one cell: draw the cell's outline")
    return _added(labels, place, shapes.filled(mask), field)


def outline(labels: Labels, corners: Sequence[Point], *, field: Mask | None = None) -> Patch | None:
    """Add a cell by its outline: all pixels with their centres within that have no cell yet; other cells keep theirs.

    Raises
    ------
    InputError
        If it has fewer than three corners, or leaves no room for a cell.
    """
    if len(corners) < 3:
        raise InputError("an outline needs three points or more: draw around the cell")
    way = np.asarray(corners, float)
    (top, left), (bottom, right) = np.floor(way.min(axis=0)).astype(int), np.ceil(way.max(axis=0)).astype(int)
    place = shapes.window(labels, int(top), int(bottom) + 1, int(left), int(right) + 1)
    return _added(labels, place, shapes.within(way, place).view(np.uint8), field)


def brush(
    labels: Labels, points: Sequence[Point], radius: float, cell: int, *, field: Mask | None = None
) -> Patch | None:
    """Give the pixels under a brush to a cell, whatever they are; 0 is for a new cell.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
    points : sequence of (float, float)
        The way of the brush.
    radius : float
        Pixels whose centres are at most this far from the way are under the brush.
    cell : int
    field : ndarray of uint8, shape (height, width), or None
        As of `Image`.
    """
    if cell and not np.any(labels == cell):
        raise InputError("that cell is not there any more: choose another one")
    number = cell or free_number(labels)
    return _painted(labels, points, radius, number, field)


def erase(labels: Labels, points: Sequence[Point], radius: float, cell: int = 0) -> Patch | None:
    """Take the pixels under an eraser away from a cell, or from all with 0. Parameters as of `brush`."""
    return _painted(labels, points, radius, 0, None, only=cell)


def replace(labels: Labels, others: Labels) -> Patch | None:
    """Put other labels in place of all."""
    if labels.shape != others.shape:
        raise InputError("the labels have another size than the image: save them for this image")
    made = patch.difference(labels, others)
    if made is not None:
        made.apply(labels)
    return made


def free_number(labels: Labels) -> int:
    """Return the number of the next new cell; raise InputError if there is none."""
    largest = int(labels.max(initial=0))
    if largest < MAX_CELLS:
        return largest + 1
    free = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=MAX_CELLS + 1) == 0)
    if not len(free):
        raise InputError(f"there are {MAX_CELLS:,} cells, and no more can be: remove some first")
    return int(free[0])


def around(labels: Labels, cell: int, margin: int = 0) -> Place:
    """Return the rows and columns of a cell that is there, and some more of them around it."""
    left, top, width, height = cv2.boundingRect((labels == cell).view(np.uint8))
    return shapes.window(labels, top - margin, top + height + margin, left - margin, left + width + margin)


_OUTSIDE = "that is outside of the region in which cells are counted: draw within it"
_FAINTEST = -115  # of a foreground map, 5 %: less is not seen


def _painted(
    labels: Labels, points: Sequence[Point], radius: float, number: int, field: Mask | None, *, only: int = 0
) -> Patch | None:
    """Give the pixels within `radius` of a way a number, and see to the cells that this cuts."""
    if not points:
        raise InputError("nothing was drawn: draw over the image")
    mask, place = shapes.under_brush(labels, points, radius)
    if field is not None and mask.any():
        mask &= field[place] > 0
        if not mask.any():
            raise InputError(_OUTSIDE)
    part = labels[place]
    mask &= part == only if only else part != number
    if not mask.any():
        return None
    touched = set(np.unique(part[mask]).tolist()) | {number}
    touched.discard(0)
    # Pieces may lie anywhere in a cell that is touched
    top, bottom, left, right = place[0].start, place[0].stop, place[1].start, place[1].stop
    whole_before = set()
    for cell in touched:
        if not np.any(labels == cell):  # a new one
            whole_before.add(cell)
            continue
        box = around(labels, cell)
        top, bottom = min(top, box[0].start), max(bottom, box[0].stop)
        left, right = min(left, box[1].start), max(right, box[1].stop)
        if shapes.pieces_of((labels[box] == cell).view(np.uint8)).max(initial=0) == 1:
            whole_before.add(cell)
    first = max(free_number(labels), number + 1)
    offset = np.s_[place[0].start - top : place[0].stop - top, place[1].start - left : place[1].stop - left]

    def change(window: Labels) -> None:
        window[offset][mask] = number
        following = first
        for cell in sorted(whole_before):
            following = _separate_pieces(window, cell, following)

    return patch.made(labels, shapes.window(labels, top, bottom, left, right), change)


def _separate_pieces(window: Labels, cell: int, following: int) -> int:
    """Make cells of the pieces of one, in place; returns the number for the next new cell."""
    pieces = shapes.pieces_of((window == cell).view(np.uint8))
    sizes = np.bincount(pieces.reshape(-1))[1:]
    if len(sizes) < 2:
        return following
    largest = int(sizes.argmax())
    for index, size in enumerate(sizes.tolist()):
        if index == largest:
            continue
        if size < CRUMB_PX:
            window[pieces == index + 1] = 0
            continue
        if following > MAX_CELLS:
            raise InputError(f"there is no number for another cell over {MAX_CELLS:,}: remove some first")
        window[pieces == index + 1] = following
        following += 1
    return following


def _divided(labels: Labels, cell: int, place: Place, pieces: npt.NDArray[np.int32]) -> Patch | None:
    """Number the pieces of a cell, of which there are two or more: the largest keeps the cell's number."""
    sizes = np.bincount(pieces.reshape(-1))[1:]
    following = free_number(labels)
    if following + len(sizes) - 2 > MAX_CELLS:
        raise InputError(f"there is no number for another cell over {MAX_CELLS:,}: remove some first")
    numbers = np.full(len(sizes) + 1, cell, np.uint16)
    others = [index for index in range(1, len(sizes) + 1) if index != int(sizes.argmax()) + 1]
    numbers[others] = np.arange(following, following + len(others))

    def change(part: Labels) -> None:
        inside = pieces > 0
        part[inside] = numbers[pieces[inside]]

    return patch.made(labels, place, change)


def _added(labels: Labels, place: Place, mask: Mask, field: Mask | None) -> Patch | None:
    """Make a new cell of what is free under a mask; of several pieces the largest."""
    free = (mask > 0) & (labels[place] == 0)
    if field is not None:
        free &= field[place] > 0
    pieces = shapes.pieces_of(free.view(np.uint8))
    sizes = np.bincount(pieces.reshape(-1))[1:]
    if not len(sizes):
        raise InputError("there is no room for a cell: other cells or the region's rim take all of it")
    number = free_number(labels)

    def change(part: Labels) -> None:
        part[pieces == int(sizes.argmax()) + 1] = number

    return patch.made(labels, place, change)


def _cell(labels: Labels, point: Point) -> int:
    cell = at(labels, point)
    if not cell:
        raise InputError("there is no cell: point at one")
    return cell
