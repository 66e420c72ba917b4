"""The images of a results folder as a list that can be sorted and filtered, kept in line with the ledger."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.results.entry import DONE, LABELS, Entry
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.results.tables import utc
from cellseg_device.system.natural_order import natural_key

SHOWN = ("all", "flagged", "failed")
_FLAGS_BETWEEN = "; "


@dataclass(frozen=True, slots=True)
class Row:
    """An image in the list.

    Attributes
    ----------
    number : int
        Its place in the order of processing.
    image : str
        Its name.
    count, in_frame : int or None
        All cells, and those by the counting-frame rule; None where it failed.
    flags : str
        Why its count may be wrong.
    reason : str or None
        Why it failed.
    taken_at, recorded_at : str
        When it was taken, or else last changed, and when it was counted; ISO 8601.
    certainty : float or None
        How probable a gate takes its class for.
    stamp : str
        What differs between two results of the image.
    """

    number: int
    image: str
    count: int | None
    in_frame: int | None
    flags: str
    reason: str | None
    taken_at: str
    recorded_at: str
    certainty: float | None
    stamp: str

    @property
    def doubt(self) -> float:
        """How much there is to doubt: a point for each flag, and up to one for a class that is not certain.

        An image that failed has no count at all, and comes before all others.
        """
        if self.count is None:
            return math.inf
        flags = len(self.flags.split(_FLAGS_BETWEEN)) if self.flags else 0
        return flags + (0.0 if self.certainty is None else 1.0 - self.certainty)


# What the list can be sorted by; names decide between equals
_KEYS: dict[str, Callable[[Row], float | str]] = {
    "name": lambda _row: 0,
    "time": lambda row: row.taken_at,
    "count": lambda row: -1 if row.count is None else row.count,
    "doubt": lambda row: row.doubt,
}
ORDERS = tuple(_KEYS)
_PASSES: dict[str, Callable[[Row], bool]] = {
    "all": lambda _row: True,
    "flagged": lambda row: bool(row.flags),
    "failed": lambda row: row.count is None,
}


@dataclass(frozen=True)
class View:
    """Which images are listed, and in which order.

    Attributes
    ----------
    order : str
        Of `ORDERS`.
    is_descending : bool
    shown : str
        Of `SHOWN`.
    text : str
        What their names have in them, in any case; empty for all.
    """

    order: str = "name"
    is_descending: bool = False
    shown: str = "all"
    text: str = ""


@dataclass(frozen=True)
class Listed:
    """The images as the ledger had them at one time.

    Attributes
    ----------
    version : str
        Differs from that of any other time.
    rows : dict of str to Row
        By name, in the order of processing.
    begun : tuple of str
        Names of those that are being counted.
    """

    version: str
    rows: dict[str, Row]
    begun: tuple[str, ...]

    def sorted(self, view: View) -> list[Row]:
        """Return the rows of a view."""
        text, passes, key = view.text.casefold(), _PASSES[view.shown], _KEYS[view.order]
        rows = [row for row in self.rows.values() if passes(row) and (not text or text in row.image.casefold())]
        rows.sort(key=lambda row: natural_key(row.image))
        if view.order != "name" or view.is_descending:
            rows.sort(key=key, reverse=view.is_descending)
        return rows[::-1] if view.order == "name" and view.is_descending else rows


class Gallery:
    """The list of a results folder; only what came since the last time is read from the ledger.

    Parameters
    ----------
    out : Path
        The output folder.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / FILE_NAME
        self._lock = threading.Lock()
        self._listed = Listed("", {}, ())
        self._view: tuple[str, View] | None = None
        self._sorted: list[Row] = []

    def version(self) -> str:
        """Return what changes with the ledger; without opening it."""
        return "-".join(_stamp(Path(f"{self._path}{ending}")) for ending in ("", "-wal"))

    def listed(self) -> Listed:
        """Return the images as they are now.

        Raises
        ------
        OutputError, OSError
            As `Ledger` does.
        """
        with self._lock:
            return self._now()

    def sorted(self, view: View) -> tuple[str, list[Row]]:
        """Return the version and the rows of a view, which are kept for the next request."""
        with self._lock:
            listed = self._now()
            if self._view != (listed.version, view):
                self._sorted, self._view = listed.sorted(view), (listed.version, view)
            return listed.version, self._sorted

    def entry(self, image: str) -> Entry | None:
        """Return what the ledger has of an image; None where it has nothing."""
        with closing(Ledger(self._path, is_for_reading=True)) as ledger:
            return ledger.get(image)

    def _now(self) -> Listed:
        version = self.version()
        if version == self._listed.version:
            return self._listed
        with closing(Ledger(self._path, is_for_reading=True)) as ledger:
            former = self._listed.rows
            rows = _merged(former, ledger)
            if len(rows) != ledger.count():  # some were removed, or it is another ledger
                rows = _merged({}, ledger)
            self._listed = Listed(version, rows, tuple(ledger.begun()))
        return self._listed


def row_of(number: int, entry: Entry) -> Row:
    """Return the row of an image."""
    counts = entry.counts if entry.status == DONE else None
    return Row(
        number=number,
        image=entry.image,
        count=counts.count if counts else None,
        in_frame=counts.count_in_frame if counts else None,
        flags=counts.flags if counts else "",
        reason=entry.reason,
        taken_at=(counts.captured_at if counts else "") or utc(entry.mtime_ns),
        recorded_at=entry.recorded_at,
        certainty=counts.class_probability if counts else None,
        stamp=stamp_of(entry),
    )


def stamp_of(entry: Entry) -> str:
    """Return what differs between two results of one image: part of its labels' digest, or its time."""
    digest = entry.digests().get(f"{entry.stem}{LABELS}", "")
    return digest[:16] or f"at-{entry.recorded_at}"


def _merged(former: dict[str, Row], ledger: Ledger) -> dict[str, Row]:
    """Return rows with those that were written after the last of them."""
    last = next(reversed(former.values())).number if former else 0
    rows = dict(former)
    for number, entry in ledger.recorded_after(last):
        rows.pop(entry.image, None)  # counted again, it is the latest
        rows[entry.image] = row_of(number, entry)
    return rows


def _stamp(path: Path) -> str:
    try:
        info = os.stat(path)  # noqa: PTH116 - once a second
    except OSError:
        return "0"
    # An empty log is one that a reader has just made
    return f"{info.st_ino:x}.{info.st_size:x}.{info.st_mtime_ns:x}" if info.st_size else "0"
