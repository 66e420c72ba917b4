"""Files that are whole or not there: written under a temporary name, synced to the disk, then renamed.

The temporary name is short and the same for every file of a process, so that a long image name leaves room
for it, and hidden, so that neither a scan nor a file browser takes it for a result.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.cellseg-\d+\.tmp")


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when the block ends well.

    The rename itself is not on the disk yet: call `sync_folder` after the last file that belongs together.

    Parameters
    ----------
    path : Path
        Replaced if it exists.

    Raises
    ------
    OSError
        What writing, syncing or renaming met; no temporary file stays.
    """
    temporary = path.parent / f".cellseg-{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write(path: Path, data: bytes) -> None:
    """Write one file whole, on the disk when this returns."""
    with atomic(path) as file:
        file.write(data)
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append `data` in a single write, on the disk when this returns; a part of it is taken back.

    Raises
    ------
    OSError
        Where the disk is full or faulty; what was there before is unchanged, as far as the disk allows.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder (files made, renamed or removed) to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> int:
    """Remove temporary files of processes that were killed.

    Call it only while holding the folder's lock: every temporary file then belongs to a dead process.

    Returns
    -------
    int
        How many there were.
    """
    with os.scandir(folder) as entries:
        leftovers = [Path(entry.path) for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)
