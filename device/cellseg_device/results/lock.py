"""The lock of an output folder: one process at a time works in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellseg_device.errors import OutputError
from cellseg_device.system import files

LOCK_NAME = ".cellseg.lock"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold an output folder without opening its ledger, and clear what a killed process left.

    Raises
    ------
    OutputError
        If another process holds it.
    OSError
        If the disk refuses.
    """
    lock = locked(folder)
    try:
        with files.write_lock(folder):
            files.remove_leftovers(folder)
        yield
    finally:
        os.close(lock)


def locked(folder: Path) -> int:
    """Lock a folder, and return the descriptor that holds the lock until it is closed.

    Raises
    ------
    OutputError
        If another process holds it.
    OSError
        If the disk refuses.
    """
    descriptor = files.open_regular(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OutputError(
            f"{folder} is in use by another cellseg-device: stop that one, or use another --out"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_held(folder: Path) -> bool | None:
    """Whether a process works in a folder, without disturbing one that is about to; None if the system hides it."""
    try:
        info = (folder / LOCK_NAME).stat()
        locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return False if Path("/proc/locks").exists() else None
    except OSError:
        return None
    place = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    return any(place in line.split() and "FLOCK" in line for line in locks)
