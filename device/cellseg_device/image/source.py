"""An image file on disk: its name in the ledger, its size and time, and its bytes."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cellseg_device.errors import MAY_NOT_READ, ImageError
from cellseg_device.image.decode import check_bytes
from cellseg_device.image.opencv import reason

# Of PNG and JPEG, and of TIFF: BigTIFF has three, Zeiss's LSM and MetaMorph have one each
SUFFIXES = frozenset((
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".lsm", ".stk",
))  # fmt: skip
# Of images that are not read: common ones, those of microscopes, of slide scanners and of photographers' cameras
OTHER_SUFFIXES = frozenset((
    ".bmp", ".gif", ".webp", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".jxr", ".pbm", ".pgm",
    ".ppm", ".pnm", ".psd", ".fits",
    ".czi", ".zvi", ".nd2", ".lif", ".lof", ".oib", ".oif", ".oir", ".vsi", ".ims", ".dv", ".r3d", ".ics", ".ids",
    ".mrc", ".dm3", ".dm4", ".spe", ".dcm",
    ".svs", ".ndpi", ".scn", ".bif", ".mrxs", ".qptiff",
    ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf",
))  # fmt: skip
MAX_FILE_BYTES = 2 * 1024**3  # a 12,000 × 12,000 16-bit RGB TIFF is 0.86 GB
LARGEST = 2**63 - 1  # the largest integer in SQLite, and so in the ledger

_NEVER_OPENS = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR)
_NOT_REGULAR = "is not a regular file (pipe, socket or device): copy the image into a file first"
# Opening a pipe would wait for its other end, and a terminal would become this process's own
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_LEASE_S = 5.0


@dataclass(frozen=True)
class Source:
    """An image file, with its size and time when it was last looked at.

    Attributes
    ----------
    image : str
        Its name in the ledger and the tables.
    path : Path
    size, mtime_ns : int
    """

    image: str
    path: Path
    size: int
    mtime_ns: int


def is_image_name(name: str) -> bool:
    """Return whether a file of this name counts as an image: it has a known suffix and is not hidden."""
    return not name.startswith(".") and _suffix(name) in SUFFIXES


def is_other_image_name(name: str) -> bool:
    """Return whether a file of this name is an image of a kind that is not read, and so passed over in a folder."""
    return not name.startswith(".") and _suffix(name) in OTHER_SUFFIXES


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - ten times as fast


def read(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises
    ------
    ImageError
        If it is missing, not a regular file, empty, larger than `MAX_FILE_BYTES`, or much larger than the image in it.
    OSError
        If the disk or network fails: the caller may try again.
    """
    with opened(path) as file:
        return contents(file)


def opened(path: Path) -> BinaryIO:
    """Return an image file, opened and looked at: it is a regular file of a possible size, whatever comes to its path.

    Raises
    ------
    ImageError, OSError
        As `read` does.
    """
    try:
        descriptor = _descriptor(path)
    except FileNotFoundError:
        raise ImageError("no such file: check the path") from None
    except PermissionError:
        raise ImageError(MAY_NOT_READ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            if error.errno == errno.ENXIO:
                raise ImageError(_NOT_REGULAR) from None
            if error.errno not in _NEVER_OPENS:
                raise
        raise ImageError(f"cannot be opened ({reason(error)}): check the link or the path") from None
    try:
        _check(os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")


def _descriptor(path: Path) -> int:
    """Open a file without waiting for what is not a file."""
    end = time.monotonic() + _LEASE_S
    while True:
        try:
            return os.open(path, _OPEN_FLAGS)
        except BlockingIOError:  # another program, such as Samba, has a lease on the file, and was now asked to end it
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _check(info: os.stat_result) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise ImageError("is a folder, not an image: name a file, or give the folder to 'cellseg-device run'")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(_NOT_REGULAR)
    if info.st_size == 0:
        raise ImageError("is empty (0 bytes): copy or capture it again")
    if info.st_size > MAX_FILE_BYTES:
        raise ImageError(f"is {info.st_size / 1e9:.1f} GB, over the limit of 2 GB: crop or split it")


def contents(file: BinaryIO) -> bytes:
    """Return the bytes of a file from `opened`; those of a large one only if the image in it is large.

    Raises
    ------
    ImageError
        If it is much larger than the image in it.
    OSError
        If the disk or network fails.
    """
    size = os.fstat(file.fileno()).st_size
    check_bytes(file, size)
    file.seek(0)
    return file.read(size)


def source_at(path: Path, image: str) -> Source | None:
    """Return a file with its size and time now, or None if there is none.

    A link that cannot be followed, such as one in a loop, has the size and time of the link itself.
    """
    try:
        info = path.stat()
    except OSError:
        try:
            info = path.lstat()
        except OSError:
            return None
    return Source(image, path, info.st_size, mtime_ns(info))


def mtime_ns(info: os.stat_result) -> int:
    """Return when a file was last changed; for a time after the year 2262, the latest that the ledger can hold."""
    return min(info.st_mtime_ns, LARGEST)


def printable(name: str) -> str:
    r"""Return a file name as one line of UTF-8, with ``\xNN`` for what cannot be printed."""
    if name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def original(folder: Path, image: str, names: Callable[[Path], dict[str, str]]) -> Path:
    """Return where an image's file is, or was, if its name in the ledger may have been made printable.

    Parameters
    ----------
    folder : Path
        The watched folder.
    image : str
        Its name in the ledger.
    names : callable
        `names_as_printed`, or a cached version of it.
    """
    path = folder
    for part in Path(image).parts:
        is_as_printed = "\\" in part and not os.path.lexists(path / part)
        path /= names(path).get(part, part) if is_as_printed else part
    return path


def names_as_printed(folder: Path) -> dict[str, str]:
    """Return the names in a folder that `printable` changes, by what it makes of them."""
    try:
        return {printed: name for name in os.listdir(folder) if (printed := printable(name)) != name}  # noqa: PTH208
    except OSError:
        return {}
