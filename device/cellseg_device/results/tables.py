"""The tables of an output folder, ``counts.csv`` and ``failed.csv``: their content, and when to write them again."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cellseg_device.cells.counts import Counts
from cellseg_device.results.entry import DONE, FAILED, LABELS, Entry
from cellseg_device.system import files
from cellseg_device.system.csv_text import csv_bytes, heading_of

COUNTS_NAME, FAILED_NAME = "counts.csv", "failed.csv"
_STORED = {stored.heading or name: stored for name, stored in Counts.storage().items()}  # by heading
_PLACES = {name: stored.column for name, stored in _STORED.items() if stored.column is not None}
COUNTS_COLUMNS = ("image", *sorted(_PLACES, key=_PLACES.__getitem__), "modified_at", "model", "labels")
FILE = "file"  # in `captured_from`: nothing says when the image was taken, and the time is that of its file
TEXT_COLUMNS = {  # of those; the others hold numbers
    *("image", "modified_at", "model", "labels"),
    *(name for name, stored in _STORED.items() if stored.sql.startswith("TEXT")),
}
FAILED_COLUMNS = ("image", "reason", "failed_at")
_HEADERS = {COUNTS_NAME: COUNTS_COLUMNS, FAILED_NAME: FAILED_COLUMNS}
# What the ledger notes of a table: that of an earlier version, with other columns or with formulas in them, is another,
# and the table is written again
COLUMNS = {table: ",".join((*header, "(escaped)")) for table, header in _HEADERS.items()}
STATUS = {COUNTS_NAME: DONE, FAILED_NAME: FAILED}  # of the images whose rows a table has
_ALWAYS_HAS = {COUNTS_NAME: {"image", "count", "model", "labels"}, FAILED_NAME: {"image", "reason", "failed_at"}}

# Between two writings of the tables at least this long passes, and while there is other work, also this many times the
# processor's time that a writing took: a twentieth of the whole, however long the tables are.
_REST_S, _LONGEST_REST_S = 2.0, 60.0
_BUSY_PER_WRITING, _IDLE_PER_WRITING = 20.0, 5.0


def table_of(entry: Entry) -> str:
    """Return the name of the table that an entry's row belongs to."""
    return COUNTS_NAME if entry.status == DONE else FAILED_NAME


def table_bytes(table: str, entries: Iterable[Entry]) -> bytes:
    """Return the content of a table."""
    return _csv([_HEADERS[table], *map(_row, entries)])


def is_ours(path: Path) -> bool:
    """Whether a table of this name may be written again: it begins as ours do, has no content, or does not exist.

    It may have other columns, of an older version, or other separators, of a spreadsheet that it was saved with.
    """
    return files.may_replace(path, lambda start: heading_of(start) >= _ALWAYS_HAS[path.name])


def row_bytes(entry: Entry) -> bytes:
    """Return an entry's line in the table that it belongs to."""
    return _csv([_row(entry)])


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    return csv_bytes(rows, float_format=".6g", line_end="\n")


def _row(entry: Entry) -> list[object]:
    if entry.counts is None:
        return [entry.image, entry.reason, entry.recorded_at]
    modified_at = utc(entry.mtime_ns)
    values = {
        **{stored.heading or name: getattr(entry.counts, name) for name, stored in Counts.storage().items()},
        "captured_at": entry.counts.captured_at or modified_at,
        "captured_from": entry.counts.captured_from or FILE,
        "image": entry.image,
        "modified_at": modified_at,
        "model": entry.model,
        "labels": f"{entry.stem}{LABELS}",
    }
    return [values[name] for name in COUNTS_COLUMNS]


def utc(time_ns: int) -> str:
    """Return a time as ISO 8601 in whole seconds, UTC; empty for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""


@dataclass(frozen=True)
class LastWriting:
    """When the tables were last written and how long it took, by the clock and by the processor's time."""

    end: float = -math.inf
    end_cpu: float = 0.0
    took_s: float = 0.0
    took_cpu_s: float = 0.0

    @classmethod
    def since(cls, start: float, start_cpu: float) -> LastWriting:
        """Return the writing that began then and has ended now."""
        end, end_cpu = time.monotonic(), time.process_time()
        return cls(end, end_cpu, end - start, end_cpu - start_cpu)

    def is_due(self, *, is_idle: bool) -> bool:
        """Whether it is time for the next writing."""
        if is_idle:
            return not self.idle_in_s()
        passed_s, passed_cpu_s = time.monotonic() - self.end, time.process_time() - self.end_cpu
        is_paid_for = passed_cpu_s >= _BUSY_PER_WRITING * self.took_cpu_s
        return passed_s >= _LONGEST_REST_S or (passed_s >= _REST_S and is_paid_for)

    def idle_in_s(self) -> float:
        """Return in how many seconds it is time for the next writing if there is no work."""
        return max(self.end + max(_REST_S, _IDLE_PER_WRITING * self.took_s) - time.monotonic(), 0.0)
