"""Captures on the disk: whole or not there, named by time and number, kept for good or until they are counted."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import cv2

from cellseg_device.camera.source import Pixels
from cellseg_device.errors import OutputError
from cellseg_device.image.source import Source, source_at
from cellseg_device.results.capture_names import FOLDER_NAME, KEPT, PASSING, capture_name, capture_number
from cellseg_device.system import files

_IN_MEMORY = Path("/dev/shm")


class Captures:
    """The captures that belong to an output folder, which this process holds.

    Parameters
    ----------
    out : Path
    keep : bool
        Whether new captures stay, in ``OUT/captures``, as PNG. Otherwise they are in memory (``/dev/shm``, where the
        system has it) until their results are on the disk, as uncompressed TIFF, which takes no time.

    Attributes
    ----------
    folder : Path
        Where new ones go.
    """

    def __init__(self, out: Path, *, keep: bool) -> None:
        self._kept = out / FOLDER_NAME
        self._passing = _passing_folder(out)
        self.folder = self._kept if keep else self._passing
        self._keep = keep
        self._number = 0

    def unfinished(self, known: Collection[str]) -> list[Source]:
        """Clear up after a process that was killed, and return the captures that it has not counted.

        Parameters
        ----------
        known : collection of str
            The images that the ledger has. None of their numbers is used again.

        Returns
        -------
        list of Source
            In the order of their numbers.

        Raises
        ------
        OSError
            On a fault of the disk.
        """
        self._number = max([self._number, *(number for _, number in _numbered(known))])
        waiting = []
        for folder in (self._kept, self._passing):
            with contextlib.suppress(FileNotFoundError):
                if folder == self._passing:
                    _check_owner(folder)
                files.remove_leftovers(folder)
                for name, number in _numbered(path.name for path in folder.iterdir()):
                    self._number = max(self._number, number)
                    if name not in known:
                        waiting.append((number, source_at(folder / name, name)))
                    elif folder == self._passing:
                        (folder / name).unlink(missing_ok=True)
        return [source for _, source in sorted(waiting, key=itemgetter(0)) if source is not None]

    def write(self, pixels: Pixels, time_ns: int) -> Source:
        """Write a capture; it is on the disk when this returns.

        Parameters
        ----------
        pixels : ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
        time_ns : int
            When it was taken, since 1970.

        Raises
        ------
        OSError
            On a fault of the disk.
        """
        folder = self.folder
        folder.mkdir(mode=0o777 if self._keep else 0o700, exist_ok=True)
        if not self._keep:
            _check_owner(folder)  # again, since anybody may make a folder there; once it is ours it stays so
        suffix = KEPT if self._keep else PASSING
        name = capture_name(time_ns, self._number + 1, suffix)
        data = encoded(pixels, suffix)

        def write(file: BinaryIO) -> None:
            file.write(data)
            file.flush()
            os.utime(file.fileno(), ns=(time_ns, time_ns))  # the time of capture in the tables

        files.write_all(folder, {name: write})
        self._number += 1
        source = source_at(folder / name, name)
        if source is None:
            raise FileNotFoundError(2, "the capture is gone", name)
        return source

    def finish(self, source: Source) -> None:
        """Remove a capture that has its results, unless it is to be kept."""
        if source.path.parent == self._passing:
            with contextlib.suppress(OSError):
                source.path.unlink()

    def close(self) -> None:
        """Remove the folder in memory, unless captures in it wait for the next start."""
        with contextlib.suppress(OSError):
            self._passing.rmdir()


def encoded(pixels: Pixels, suffix: str) -> bytes:
    """Return an image encoded without loss: as PNG, or for ``.tif`` as TIFF without compression.

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
    suffix : str

    Notes
    -----
    OpenCV's own settings for PNG (fast filter and compression) halve a noisy image as well as slow ones do: of RGB with
    12 megapixels 37 MB become 20 MB.
    """
    if suffix in (".tif", ".tiff"):
        import tifffile

        with io.BytesIO() as file:
            tifffile.imwrite(file, pixels, photometric="minisblack" if pixels.ndim == 2 else "rgb", metadata=None)
            return file.getvalue()
    _, data = cv2.imencode(".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def _numbered(names: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Yield the names that are those of captures, each with its number."""
    for name in names:
        number = capture_number(name)
        if number is not None:
            yield name, number


def _passing_folder(out: Path) -> Path:
    """Return the folder in memory for this user and output folder; it is the same after a restart."""
    base = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(os.path.realpath(out))).hexdigest()[:16]
    folder = base / f"cellseg-{os.getuid()}-{digest}"
    with contextlib.suppress(FileNotFoundError):
        _check_owner(folder)
    return folder


def _check_owner(folder: Path) -> None:
    """Raise OutputError unless a folder is one, no link, and this user's alone."""
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise OutputError(f"{folder} belongs to somebody else: remove it")
