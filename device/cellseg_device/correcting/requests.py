"""Edits as a page or a program asks for them, in JSON: checked, then made.

| what                         | given with it                                                                |
|------------------------------|------------------------------------------------------------------------------|
| remove, add                  | at: a point                                                                  |
| join, divide                 | first, second: points                                                        |
| cut                          | line: points                                                                 |
| outline                      | corners: points                                                              |
| brush, erase                 | points; radius; cell: its number, 0 for a new one, or for any when erasing    |
| undo, redo                   |                                                                              |
| checked, left out, begun     | marks of the image                                                           |

A point is [row, column], in pixels of the image; whole numbers are the centres of pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.cells.patch import Patch
from cellseg_device.correcting import edits
from cellseg_device.correcting.maps import Maps
from cellseg_device.correcting.shapes import Labels, Mask, Point
from cellseg_device.correcting.work import Work
from cellseg_device.errors import InputError
from cellseg_device.results.correction_journal import REDO, UNDO
from cellseg_device.results.corrections import STATES

MOST_POINTS, MOST_RADIUS_PX = 5000, 500.0
_FARTHEST_PX = 1e6
_NO_TOUCH = "These two do not touch: they are one cell in several pieces now."

Request = dict[str, Any]


def make(work: Work, request: Request, maps: Callable[[], Maps]) -> tuple[Patch | None, str]:
    """Make an edit or a mark; returns what changed in the labels, and a note for who asked.

    Parameters
    ----------
    work : Work
    request : dict
        ``what``, what is given with it, ``by`` and ``revision``.
    maps : callable
        Returns the maps of the image, when an edit needs them.

    Raises
    ------
    InputError
        If it is no such request, or the edit cannot be made; `ConflictError` if somebody else was faster.
    OSError
        If the disk refuses.
    """
    what, by, revision = request.get("what"), request.get("by", ""), request.get("revision")
    if not isinstance(by, str) or not _is_whole(revision):
        raise _wrong()
    if what in (UNDO, REDO):
        return (work.undo if what == UNDO else work.redo)(by=by, revision=revision), ""
    if what in STATES:
        work.mark(what, by=by, revision=revision)
        return None, ""
    given, change, note = _edit(what, request, work, maps)
    return work.edit(str(what), change, given=given, by=by, revision=revision), note()


def _edit(
    what: object, request: Request, work: Work, maps: Callable[[], Maps]
) -> tuple[dict[str, Any], Callable[[Labels], Patch | None], Callable[[], str]]:
    """Return what is to be noted of an edit, the edit, and what returns the note when it is made."""
    field = work.image.field
    if what == "remove":
        at = _point(request, "at")
        return {"at": at}, lambda labels: edits.remove(labels, at), str
    if what == "join":
        first, second = _point(request, "first"), _point(request, "second")
        note = "" if _do_touch(work, first, second) else _NO_TOUCH
        return {"first": first, "second": second}, lambda labels: edits.join(labels, first, second), lambda: note
    if what == "cut":
        line = _points(request, "line")
        return {"line": line}, lambda labels: edits.cut(labels, line), str
    if what == "divide":
        first, second = _point(request, "first"), _point(request, "second")
        return (
            {"first": first, "second": second},
            lambda labels: edits.divide(labels, first, second, maps().landscape),
            lambda: maps().note,
        )
    if what == "add":
        at = _point(request, "at")
        return {"at": at}, lambda labels: _added(labels, at, maps(), field), lambda: maps().note
    if what == "outline":
        corners = _points(request, "corners")
        return {"corners": corners}, lambda labels: edits.outline(labels, corners, field=field), str
    if what in ("brush", "erase"):
        points, radius, cell = _points(request, "points"), _radius(request), _number(request)
        stroke = {"points": points, "radius": radius, "cell": cell}
        if what == "erase":
            return stroke, lambda labels: edits.erase(labels, points, radius, cell), str
        return stroke, lambda labels: edits.brush(labels, points, radius, cell, field=field), str
    raise _wrong()


def _added(labels: Labels, at: Point, maps: Maps, field: Mask | None) -> Patch | None:
    return edits.add(
        labels,
        at,
        maps.foreground,
        maps.landscape,
        threshold=maps.threshold,
        prominence=maps.prominence,
        most_px=maps.most_px,
        field=field,
    )


def _do_touch(work: Work, first: Point, second: Point) -> bool:
    one, two = edits.at(work.labels, first), edits.at(work.labels, second)
    return not one or not two or one == two or edits.do_touch(work.labels, one, two)


def _point(request: Request, name: str) -> Point:
    return _checked(request.get(name))


def _points(request: Request, name: str) -> list[Point]:
    found = request.get(name)
    if not isinstance(found, list) or not 0 < len(found) <= MOST_POINTS:
        raise _wrong()
    return [_checked(point) for point in found]


def _checked(point: object) -> Point:
    if not isinstance(point, list) or len(point) != 2 or not all(_is_number(value, _FARTHEST_PX) for value in point):
        raise _wrong()
    return float(point[0]), float(point[1])


def _radius(request: Request) -> float:
    radius: Any = request.get("radius")
    if not _is_number(radius, MOST_RADIUS_PX) or radius <= 0:
        raise _wrong()
    return float(radius)


def _number(request: Request) -> int:
    cell: Any = request.get("cell", 0)
    if not _is_whole(cell) or not 0 <= cell <= MAX_CELLS:
        raise _wrong()
    return int(cell)


def _is_number(value: object, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most  # so NaN is none


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong() -> InputError:
    return InputError("that is not an edit: load the page again")
