"""What lies in a folder: its images as they are now, and which of them have been still for long enough."""

from __future__ import annotations

import contextlib
import heapq
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cellseg_device import ledger
from cellseg_device.errors import InputError
from cellseg_device.image import is_image_name
from cellseg_device.results import SUMMARY_NAMES, is_result_name

_Identity = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class Source:
    """A file to be taken for an image, as last seen.

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


def scan(
    folder: Path, out: Path, recursive: bool = False, known: Mapping[str, tuple[int, int]] | None = None
) -> list[Source]:
    """List the images in a folder, by name.

    Parameters
    ----------
    folder : Path
    out : Path
        The output folder: neither it nor, where it is `folder` itself, its results are images.
    recursive : bool
        Whether to look into the folders below, too, links to folders included, but each folder once, and by a link
        only where there is no other way to it; not into hidden ones, nor into those that cannot be listed. An image
        there is named by its path within `folder`, and results in another output folder are no images.
    known : mapping of str to (int, int), or None
        By name, size and mtime_ns of images to leave out unless they have changed: 100,000 take half a second.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    identity = _identity(out)
    found, folders = _listed(folder, "", recursive, identity, known or {})
    heapq.heapify(folders)
    passed = {identity, _identity(folder)}
    while folders:
        _, prefix, below = heapq.heappop(folders)
        if (here := _identity(below)) in passed:
            continue
        passed.add(here)
        with contextlib.suppress(OSError):
            images, deeper = _listed(below, prefix, recursive, identity, known or {})
            found += images
            for one in deeper:
                heapq.heappush(folders, one)
    return sorted(found, key=lambda source: source.image)


def _listed(
    folder: Path, prefix: str, recursive: bool, out: _Identity | None, known: Mapping[str, tuple[int, int]]
) -> tuple[list[Source], list[tuple[bool, str, Path]]]:
    """The images of one folder, and if `recursive` the folders in it.

    Of each of these whether it is a link, and what its images' names begin with: in this order they are to be gone
    into, so that names stay as they are when links come and go.
    """
    found, folders = [], []
    with os.scandir(folder) as listing:
        entries = list(listing)
    has_results = _identity(folder) == out or any(entry.name == ledger.FILE_NAME for entry in entries)
    for entry in entries:
        name = entry.name
        if recursive and not name.startswith(".") and _is_folder(entry):
            folders.append((entry.is_symlink(), f"{prefix}{name}/", folder / name))
        elif is_image_name(name) and name not in SUMMARY_NAMES and not (has_results and is_result_name(name)):
            # A summary's plots are never images: 'summary --to' can put them into any folder
            image, info = printable(prefix + name), _followed(entry)
            if info is None or (info.st_dev, info.st_ino) == out:
                continue
            changed = mtime_ns(info)
            if known.get(image) != (info.st_size, changed):
                found.append(Source(image, folder / name, info.st_size, changed))
    return found, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """False for a loop of links, and what else cannot be followed: it is no reason to give up its neighbours."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _followed(entry: os.DirEntry[str]) -> os.stat_result | None:
    """See `source_at`."""
    try:
        return entry.stat()
    except OSError:
        try:
            return entry.stat(follow_symlinks=False)
        except OSError:
            return None


def _identity(folder: Path) -> _Identity | None:
    """What is the same for all paths to a folder; None where there is none."""
    try:
        info = folder.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def check_folder(folder: Path) -> None:
    """Raise InputError unless there is such a folder and it can be listed."""
    try:
        with os.scandir(folder):
            pass
    except FileNotFoundError:
        raise InputError(f"{folder}: no such folder: check the path, or make it") from None
    except NotADirectoryError:
        raise InputError(f"{folder} is not a folder: for files use 'cellseg-device run'") from None
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}): check the path") from None


def source_at(path: Path, image: str) -> Source | None:
    """See a file as it is now; None if there is none.

    What cannot be followed, such as a loop of links, is seen as the link that it is.
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
    """When a file was changed; of a time after the year 2262 the latest that the ledger takes."""
    return min(info.st_mtime_ns, ledger.LARGEST)


def printable(name: str) -> str:
    r"""Make a file name fit for one line of UTF-8: what is not printable becomes ``\xNN``."""
    if name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def original(folder: Path, image: str, names: Callable[[Path], dict[str, str]]) -> Path:
    """Where the file of an image is, or was; its name may have been made printable.

    Parameters
    ----------
    folder : Path
        That was watched.
    image : str
        As in the ledger.
    names : callable
        `names_as_printed`, or that with a cache around it.
    """
    path = folder
    for part in Path(image).parts:
        is_as_printed = "\\" in part and not os.path.lexists(path / part)
        path /= names(path).get(part, part) if is_as_printed else part
    return path


def names_as_printed(folder: Path) -> dict[str, str]:
    """What is in a folder, by its name made printable, where that is another."""
    try:
        return {printed: name for name in os.listdir(folder) if (printed := printable(name)) != name}  # noqa: PTH208
    except OSError:
        return {}


class Settling:
    """Tells which files have been still for long enough.

    Parameters
    ----------
    settle_s : float
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: dict[str, tuple[Source, float]] = {}  # with the time from which it is ready

    def ready(self, sources: list[Source], now: float, wall: float) -> list[Source]:
        """Choose the still ones, in their order.

        Parameters
        ----------
        sources : list of Source
            The files of this scan that are to be done.
        now : float
            Seconds of a monotonic clock.
        wall : float
            Seconds since 1970. A file seen for the first time is still if it was changed long enough before.
        """
        seen = {}
        for source in sources:
            before = self._seen.get(source.image)
            if before is None:
                old = self._settle_s <= wall - source.mtime_ns * 1e-9
                seen[source.image] = (source, now if old else now + self._settle_s)
            else:
                seen[source.image] = before if before[0] == source else (source, now + self._settle_s)
        self._seen = seen
        return [source for source, ready_at in seen.values() if ready_at <= now]

    def next_s(self, now: float) -> float:
        """Tell in how many seconds the next file may be ready; infinity if none is waiting."""
        waits = (ready_at - now for _, ready_at in self._seen.values())
        return min((wait for wait in waits if wait > 0), default=math.inf)
