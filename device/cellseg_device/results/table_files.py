"""The tables of an open output folder, kept in line with its ledger.

A new image's row is appended at once. Where a row has to be replaced or removed, the whole table is written again,
which takes long if it has many rows: the ledger then notes that the table is behind, in the same commit as the image,
and the table is written soon after, when the folder is closed, or at the next start.
"""

from __future__ import annotations

import errno
import math
import os
import time
from pathlib import Path

from cellseg_device.errors import OutputError
from cellseg_device.results import tables
from cellseg_device.results.entry import Entry
from cellseg_device.results.ledger import BEHIND, Ledger, Stamp
from cellseg_device.results.tables import LastWriting
from cellseg_device.system import files

_SHARED = -2  # in place of the time of a table that has another name as well


class TableFiles:
    """The files of an output folder's tables; brought in line with its ledger here.

    Parameters
    ----------
    folder : Path
    ledger : Ledger

    Raises
    ------
    OSError
        On a fault of the disk.
    """

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self._folder = folder
        self._ledger = ledger
        self._writing = LastWriting()
        found = {table: _stamp(folder / table, columns) for table, columns in tables.COLUMNS.items()}
        self._stamps = {table: stamp for table, stamp in found.items() if stamp is not None}  # as we left them
        left = ledger.tables()
        self._behind = {table for table, stamp in found.items() if stamp != left.get(table)}
        if tables.COUNTS_NAME not in self._stamps or ledger.in_doubt():
            self._behind.add(tables.COUNTS_NAME)
        self.refresh(now=True)  # unless they are as the last commit left them: with many rows that takes seconds
        self._writing = LastWriting()  # the next one comes at once

    @property
    def behind(self) -> list[str]:
        """The names of the tables that differ from the ledger."""
        return sorted(self._behind)

    def record(self, entry: Entry, *others: Entry | None) -> None:
        """Give an entry its row, or note that a table is behind; within a transaction of the ledger.

        Parameters
        ----------
        entry : Entry
        *others : Entry or None
            Those that it takes the place of.
        """
        table = tables.table_of(entry)
        self._behind |= {tables.table_of(other) for other in others if other is not None}
        if table not in self._behind and self._is_as_left(table):
            files.append(self._folder / table, tables.row_bytes(entry))
            self._note(table)
        else:
            self._behind.add(table)
        self._ledger.put_tables(self._stamps | dict.fromkeys(self._behind, BEHIND))

    def remove(self, entry: Entry) -> None:
        """Note that an entry's row is to go; within a transaction of the ledger."""
        self._behind.add(tables.table_of(entry))
        self._ledger.put_tables(self._stamps | dict.fromkeys(self._behind, BEHIND))

    def refresh(self, *, is_idle: bool = False, now: bool = False) -> bool:
        """Write the tables that are behind the ledger, if it is time to do so; returns whether all are up to date.

        To be called often. The first writing comes at once. The next ones come 2 s later at the earliest: when there is
        no other work, 5 times as long after a writing as it took; while there is, when that work has taken 20 times as
        much of the processor's time, or after a minute.

        Parameters
        ----------
        is_idle : bool
            Whether there is no other work.
        now : bool
            Whether to write them whatever the time.

        Raises
        ------
        OSError
            On a fault of the disk; to be called again then.
        """
        if not self._behind:
            return True
        if not (now or self._writing.is_due(is_idle=is_idle)):
            return False
        start, start_cpu = time.monotonic(), time.process_time()
        for table in sorted(self._behind):
            self._write(table)
        with self._ledger.transaction():
            self._ledger.put_tables(self._stamps)
        self._behind.clear()
        self._writing = LastWriting.since(start, start_cpu)
        return True

    def refresh_in_s(self) -> float:
        """Return in how many seconds the tables should be written if there is no work; infinity if none is behind."""
        return self._writing.idle_in_s() if self._behind else math.inf

    def _is_as_left(self, table: str) -> bool:
        """Whether a row can be appended: the table is there, and nobody has edited it."""
        stamp = _stamp(self._folder / table, tables.COLUMNS[table])
        return stamp is not None and stamp == self._stamps.get(table) and stamp[2] != _SHARED

    def _write(self, table: str) -> None:
        """Write a table from the ledger; one that has that content already is not touched."""
        path = self._folder / table
        if not tables.is_ours(path):
            raise OSError(errno.EEXIST, f"{table} is of another program: move it away", str(path))
        content = tables.table_bytes(table, self._ledger.entries(tables.STATUS[table]))
        if table == tables.FAILED_NAME and content == tables.table_bytes(table, []):
            path.unlink(missing_ok=True)
            self._stamps.pop(table, None)
            return
        _write_if_other(path, content)
        self._note(table)

    def _note(self, table: str) -> None:
        stamp = _stamp(self._folder / table, tables.COLUMNS[table])
        if stamp is not None:
            self._stamps[table] = stamp


def check(folder: Path) -> None:
    """Raise OutputError where another program's file has the name of a table."""
    for table in tables.COLUMNS:
        if not tables.is_ours(folder / table):
            raise OutputError(f"{folder / table} is not a table of cellseg: move it away, or use another --out")


def set_counts_aside(folder: Path) -> str | None:
    """Keep ``counts.csv`` under another name, which is returned; None where there is none."""
    path = folder / tables.COUNTS_NAME
    if not path.exists():
        return None
    number = 1
    while os.path.lexists(aside := folder / f"counts-{number}.csv"):
        number += 1
    path.rename(aside)
    return aside.name


def _stamp(path: Path, columns: str) -> Stamp | None:
    try:
        info = path.lstat()
    except FileNotFoundError:
        return None
    if info.st_nlink > 1:  # somebody keeps it under another name as well, as a backup: to be replaced, not added to
        return columns, info.st_size, _SHARED
    return columns, info.st_size, info.st_mtime_ns


def _write_if_other(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    files.write(path, data)
