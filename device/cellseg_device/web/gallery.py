"""The images of a results folder as a list that can be sorted and filtered, kept in line with the ledger."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from cellseg_device.errors import InputError
from cellseg_device.results import corrections
from cellseg_device.results.correction_journal import CHECKED, LEFT_OUT
from cellseg_device.results.corrections import STALE, Correction
from cellseg_device.results.entry import DONE, LABELS, Entry
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.results.tables import utc
from cellseg_device.system.natural_order import natural_key

SHOWN = ("all", "flagged", "unchecked", "checked", "failed")
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
    sha256, stem : str or None
        As in `Entry`.
    state : str
        Of its correction: one of `corrections.STATES`, `corrections.STALE`, or "" without one.
    corrected : int or None
        The corrected count, where it takes the place of `count`.
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
    sha256: str | None = None
    stem: str | None = None
    state: str = ""
    corrected: int | None = None

    @property
    def best_count(self) -> int | None:
        """The corrected count, or else the machine's."""
        return self.count if self.corrected is None else self.corrected

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
    "count": lambda row: -1 if row.best_count is None else row.best_count,
    "doubt": lambda row: row.doubt,
}
ORDERS = tuple(_KEYS)
_PASSES: dict[str, Callable[[Row], bool]] = {
    "all": lambda _row: True,
    "flagged": lambda row: bool(row.flags),
    "unchecked": lambda row: row.count is not None and row.state not in (CHECKED, LEFT_OUT),
    "checked": lambda row: row.state == CHECKED,
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
    fault : str
        Why the corrections are not in the rows; empty if they are.
    """

    version: str
    rows: dict[str, Row]
    begun: tuple[str, ...]
    fault: str = ""

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
        self._out, self._path = out, out / FILE_NAME
        self._plain: dict[str, Row] = {}  # without corrections
        self._lock = threading.Lock()
        self._listed = Listed("", {}, ())
        self._view: tuple[str, View] | None = None
        self._sorted: list[Row] = []

    def version(self) -> str:
        """Return what changes with the ledger, and with the corrections; without opening them."""
        table = corrections.folder_of(self._out) / corrections.TABLE_NAME
        return "-".join(_stamp(path) for path in (self._path, Path(f"{self._path}-wal"), table))

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
            rows = _merged(self._plain, ledger)
            if len(rows) != ledger.count():  # some were removed, or it is another ledger
                rows = _merged({}, ledger)
            begun = tuple(ledger.begun())
        self._plain = rows
        try:
            self._listed = Listed(version, _corrected(rows, self._out), begun)
        except InputError as error:
            self._listed = Listed(version, rows, begun, error.message)
        except OSError as error:
            self._listed = Listed(version, rows, begun, f"the disk refuses ({error.strerror}): check it")
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
        sha256=entry.sha256,
        stem=entry.stem,
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


def _corrected(rows: dict[str, Row], out: Path) -> dict[str, Row]:
    """Return rows with what is known of their corrections; raises as `corrections.read` does."""
    known = corrections.read(out)
    return rows | {image: _joined(rows[image], found) for image, found in known.items() if image in rows}


def _joined(row: Row, correction: Correction) -> Row:
    if corrections.is_stale(correction, row.sha256, row.stem):
        return replace(row, state=STALE)
    corrected = correction.corrected_count if correction.state == CHECKED else None
    return replace(row, state=correction.state, corrected=corrected)


def _stamp(path: Path) -> str:
    try:
        info = os.stat(path)  # noqa: PTH116 - once a second
    except OSError:
        return "0"
    # An empty log is one that a reader has just made
    return f"{info.st_ino:x}.{info.st_size:x}.{info.st_mtime_ns:x}" if info.st_size else "0"
