"""Files that are whole or not there: written under a temporary name, synced to the disk, then renamed.

The temporary names are short, so that there is room for them where an image's name is long, and hidden, so that
neither a scan nor a file browser takes them for results.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

TURN_NAME = ".cellseg.turn"
_TURN_PATIENCE_S = 10.0

_TEMPORARY = re.compile(r"\.cellseg-\d+-\d+\.tmp(-\w+)?")  # with the ending of what SQLite writes beside its own


def write_all(folder: Path, contents: Mapping[str, Callable[[BinaryIO], object]]) -> dict[str, str]:
    """Write files that belong together: they take their names when all are whole and on the disk.

    Parameters
    ----------
    folder : Path
    contents : mapping of str to callable
        By file name, what writes into the open file. Files of these names are replaced.

    Returns
    -------
    dict of str to str
        SHA-256 by file name.

    Raises
    ------
    OSError
        What the disk met; former files stay as they were, and no temporary file stays.
    """
    names = {folder / f".cellseg-{os.getpid()}-{index}.tmp": name for index, name in enumerate(contents)}
    digests = {}
    try:
        for temporary, name in names.items():
            with open(temporary, "w+b") as file:
                contents[name](file)
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        for temporary, name in names.items():
            temporary.replace(folder / name)
    except BaseException:
        for temporary in names:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise
    sync_folder(folder)
    return digests


@contextlib.contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Keep other processes from writing results into a folder while the block changes files that belong together.

    Unlike the lock of the output folder it is held for moments: an export takes its turns beside a watch.

    Raises
    ------
    OSError
        EBUSY, if another process keeps its turn for more than 10 s (it may have been halted); and what the disk met.
    """
    descriptor = os.open(folder / TURN_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        deadline = time.monotonic() + _TURN_PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, "another process is writing there", str(folder)) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes) -> None:
    """Write one file whole, on the disk when this returns."""
    write_all(path.parent, {path.name: holding(data)})


def holding(data: bytes) -> Callable[[BinaryIO], object]:
    """Make what `write_all` takes of a file's content."""
    return lambda file: file.write(data)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, read a part at a time."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

    Call it only while holding the folder's lock and in one's `turn`: every temporary file then belongs to a dead
    process.

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
