"""Files that are either whole or absent: written under a temporary name, synced to the disk, then renamed.

The temporary names are short, so that they fit even if an image's name is long; hidden, so that neither a scan nor a
file browser takes them for results; and random, so that nobody can lay a link in their way. No file is written through
a link: what is opened is checked, not what a name stood for before.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

TURN_NAME = ".cellseg.turn"
_LOCK_TIMEOUT_S = 10.0
_LONGEST_START = 1 << 16

_TEMPORARY = re.compile(r"\.cellseg-[0-9a-f-]+\.tmp(-\w+)?")  # or such a name with an ending that SQLite adds


def temporary_name() -> str:
    """Return a new name for a file that is not whole yet."""
    return f".cellseg-{secrets.token_hex(8)}.tmp"


def write_all(
    folder: Path,
    contents: Mapping[str, Callable[[BinaryIO], object]],
    *,
    before_renames: Callable[[], object] = lambda: None,
) -> dict[str, str]:
    """Write files that belong together: they get their names only when all are whole and on the disk.

    Parameters
    ----------
    folder : Path
    contents : mapping of str to callable
        By file name, a function that writes into the open file. Files of these names are replaced.
    before_renames : callable
        Called when all are on the disk and none has its name. If it raises, the former files stay as they were.

    Returns
    -------
    dict of str to str
        SHA-256 by file name.

    Raises
    ------
    OSError
        If the disk fails. Temporary files are removed; until the first file is renamed, the former ones stay.
    """
    digests = {}
    temporaries: dict[str, str] = {}  # by the name to come
    with opened_folder(folder) as within:
        try:
            for name, write_content in contents.items():
                temporaries[name] = temporary_name()
                # With a name, which tifffile wants to know
                with open(temporaries[name], "w+b", opener=lambda path, _: new_file(path, dir_fd=within)) as file:
                    write_content(file)
                    file.flush()
                    os.fsync(file.fileno())
                    file.seek(0)
                    digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
            before_renames()
            for name, temporary in temporaries.items():
                os.replace(temporary, name, src_dir_fd=within, dst_dir_fd=within)
        except BaseException:
            for temporary in temporaries.values():
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=within)
            raise
        os.fsync(within)
    return digests


def new_file(name: str | Path, *, dir_fd: int | None = None) -> int:
    """Make a file for reading and writing, and return its descriptor.

    Raises
    ------
    FileExistsError
        If there is anything of that name, be it a link to nowhere.
    OSError
        If the disk fails.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o666, dir_fd=dir_fd)


def open_regular(path: Path, flags: int, *, follows: bool = False) -> int:
    """Open a regular file, which is made if `flags` say so, and return its descriptor; never waits for a pipe.

    Parameters
    ----------
    path : Path
    flags : int
        Of `os.open`.
    follows : bool
        Whether it may be a link to one.

    Raises
    ------
    OSError
        ELOOP if there is a link of that name, EINVAL if there is a pipe, a device or a folder.
    """
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP and not follows:
            raise OSError(errno.ELOOP, f"{path.name} is a link: remove it", str(path)) from None
        if error.errno in (errno.EISDIR, errno.ENXIO):
            raise OSError(errno.EINVAL, f"{path.name} is not a file: move it away", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{path.name} is not a file: move it away", str(path))
    return descriptor


def regular(path: str, flags: int) -> int:
    """Open a regular file, or a link to one: an opener for `open`, which then never waits for a pipe."""
    return open_regular(Path(path), flags, follows=True)


def is_regular(path: Path) -> bool:
    """Whether there is a regular file of that name; a link is none, wherever it leads."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_irregular(path: Path) -> bool:
    """Whether there is something of that name that is no regular file: looked at once, since files come and go."""
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def may_replace(path: Path, begins_as_ours: Callable[[bytes], bool]) -> bool:
    """Whether a file may be written under a name: there is none, an empty one, or one that begins as ours do.

    Parameters
    ----------
    path : Path
    begins_as_ours : callable
        Is given the first bytes of a file that is there, at most 64 KiB.
    """
    if not os.path.lexists(path):
        return True
    if not is_regular(path):
        return False
    with open(path, "rb") as file:
        start = file.read(_LONGEST_START)
    return not start or begins_as_ours(start)


@contextlib.contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """Give the descriptor of a folder: what is done within it stays there if its name gets another meaning."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from writing results into a folder while the block changes files that belong together.

    Unlike the lock of the output folder it is held only for moments, so that an export can work beside a watch.

    Raises
    ------
    OSError
        EBUSY if another process holds the lock for more than 10 s, because it was halted for example; any other error
        if the disk fails.
    """
    descriptor = open_regular(folder / TURN_NAME, os.O_RDWR | os.O_CREAT)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
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
    """Write one file, which is whole and on the disk when this returns."""
    write_all(path.parent, {path.name: holding(data)})


def write_unsynced(path: Path, data: bytes) -> None:
    """Write a file that is whole or absent to whoever looks, though not if the power fails."""
    temporary = temporary_name()
    with opened_folder(path.parent) as within:
        try:
            with open(new_file(temporary, dir_fd=within), "wb") as file:
                file.write(data)
            os.replace(temporary, path.name, src_dir_fd=within, dst_dir_fd=within)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=within)
            raise


def holding(data: bytes) -> Callable[[BinaryIO], object]:
    """Return a function, as `write_all` takes it, that writes these bytes."""
    return lambda file: file.write(data)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, reading a part at a time.

    Raises
    ------
    OSError
        If it cannot be read; EINVAL if it is a pipe, a device or a folder.
    """
    with open(path, "rb", opener=regular) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append(path: Path, data: bytes) -> None:
    """Append `data` in a single write, which is on the disk when this returns; a partial write is undone.

    Raises
    ------
    OSError
        If the disk is full or faulty; the former content is unchanged, as far as the disk allows.
    """
    descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        size = os.fstat(descriptor).st_size
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that files made, renamed or removed in it are so on the disk."""
    with opened_folder(folder) as descriptor:
        os.fsync(descriptor)


def is_temporary(name: str) -> bool:
    """Whether a name is that of a file that is not whole."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> int:
    """Remove temporary files of processes that were killed.

    Call it only while holding both the output folder's lock and its `write_lock`: then every temporary file belongs to
    a dead process.

    Returns
    -------
    int
        How many there were.
    """
    with os.scandir(folder) as entries:
        leftovers = [e for e in entries if is_temporary(e.name) and e.is_file(follow_symlinks=False)]
    for leftover in leftovers:
        Path(leftover.path).unlink(missing_ok=True)
    return len(leftovers)
