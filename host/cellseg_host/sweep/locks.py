"""Locks between processes, released when the process that holds them ends, however it ends.

Between machines they need a file system that shares ``flock``, as NFS 4 does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a file's lock and yield True; without `wait`, yield False if another process holds it."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class JournalLock:
    """A lock for Optuna's journal; Optuna's own locks outlive a killed process by half a minute.

    It first removes a record that a full disk left half-written at the journal's end: Optuna would refuse all records
    after it.

    Parameters
    ----------
    journal : Path
        Absolute.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file: IO[bytes] | None = None

    def acquire(self) -> bool:
        """Wait for the lock and take it."""
        self._file = self._journal.with_name(f".{self._journal.name}.lock").open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        with self._journal.open("rb") as journal:
            size = journal.seek(0, os.SEEK_END)
            journal.seek(max(size - 1, 0))
            if journal.read() not in (b"", b"\n"):
                os.truncate(self._journal, self._journal.read_bytes().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Release the lock."""
        assert self._file is not None
        self._file.close()
