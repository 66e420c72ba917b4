"""Folders that are either whole or absent: made under a temporary name, which becomes the folder when all is in it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellseg_device.errors import InputError, OutputError


def check_new(folder: Path, hint: str = "choose a new folder") -> None:
    """Raise InputError for what is not a new or empty folder; what a killed command left in it does not count."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file: {hint}")
    if folder.exists() and any(path.name != _part_name(folder) for path in folder.iterdir()):
        raise InputError(f"{folder}: is not empty: {hint}")


def check_place(path: Path) -> None:
    """Raise OutputError if a file or folder of this path cannot be made: before the work, and nothing is made yet."""
    place = _place(path)
    if not place.is_dir():
        raise OutputError(f"{path}: cannot be made, since {place} is a file: choose another place")
    if not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: cannot be made, since {place} may not be written: choose another place")


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, whose content is that of `folder` from the end of the block on.

    After an error nothing is left of it, nor of the folders above it; after a kill a hidden folder, which the next
    attempt removes.

    Parameters
    ----------
    folder : Path
        New or empty.

    Raises
    ------
    InputError
        If it is not.
    OutputError
        If it cannot be made, or another process is making it.
    """
    check_new(folder)
    check_place(folder)
    target = folder.resolve()
    part = _place(target) / _part_name(target)
    with _claimed(part, folder):
        try:
            yield part
            with _said_of(folder):
                _move(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


@contextmanager
def _said_of(folder: Path) -> Iterator[None]:
    """Raise faults of the disk as OutputErrors about the folder."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}): make room, or choose another place") from None


def _part_name(folder: Path) -> str:
    return f".{folder.resolve().name}.cellseg-part"


def _place(path: Path) -> Path:
    """Return the path, or the first above it that exists: on the same disk, for a rename."""
    while not path.exists():
        path = path.parent
    return path


@contextmanager
def _claimed(part: Path, folder: Path) -> Iterator[None]:
    """Make the temporary folder and hold its lock, so that only what a killed process left is removed."""
    with _said_of(folder):
        part.mkdir(exist_ok=True)
        descriptor = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with _said_of(folder):
            _lock(descriptor, folder)
            _empty(part)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"{folder}: is being made by another process: wait for it, or choose another") from None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move(part: Path, target: Path) -> None:
    """Give the temporary folder its name; into an empty folder that is there, its content, the manifest last."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        part.rename(target)
        return
    for path in sorted(part.iterdir(), key=lambda path: (path.name == "manifest.csv", path.name)):
        path.rename(target / path.name)
    part.rmdir()
