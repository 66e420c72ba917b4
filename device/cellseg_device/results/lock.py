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
