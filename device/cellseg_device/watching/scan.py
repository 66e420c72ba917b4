"""What lies in a folder: its images as they are now, and which of them have been still for long enough."""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

from cellseg_device.errors import InputError
from cellseg_device.image.source import Source, is_image_name, is_other_image_name, mtime_ns, printable, source_at
from cellseg_device.results import ledger
from cellseg_device.results.image_files import SUMMARY_NAMES, is_result_name
from cellseg_device.results.places import OWN_FOLDERS
from cellseg_device.system.natural_order import natural_key

_Identity = tuple[int, int]  # device and inode

# The rest after a pass, as a multiple of the processor's time that it took: 2 % of a core for sweeps, 1 % for others
_PER_SWEEP_CPU, _PER_CHECK_CPU = 50.0, 100.0
_PER_PASS = 4.0  # and of the time by the clock, to leave disk and network to others
# The time of a folder may be told in steps of so much (FAT): for so long after a change another one may not show in it
_LONGEST_TICK_S = 2.0


def scan(
    folder: Path, out: Path, *, recursive: bool = False, known: Mapping[str, tuple[int, int]] | None = None
) -> list[Source]:
    """List the images in a folder, in the natural order of their names.

    Parameters
    ----------
    folder : Path
    out : Path
        The output folder: neither it nor, where it is `folder` itself, its results are images.
    recursive : bool
        Whether to look into the folders below, too. Links to folders are followed, but each folder is listed once, and
        by a link only where there is no other way to it. Hidden folders are left out, and so are those that cannot be
        listed. An image there is named by its path within `folder`; results in another output folder are no images.
    known : mapping of str to (int, int), or None
        By name, size and mtime_ns of images to leave out unless they have changed.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    return Scanner(folder, out, recursive=recursive).scan(known or {})


class Scanner:
    """Lists the images of a folder that need work, again and again, at 3 % of a core or less while nothing changes.

    A pass looks at the time of each folder, which changes when a name comes into it, and lists those where it has
    changed; so it finds a new file whether or not there are file events. A sweep looks at every file, and so finds all
    else: files overwritten in place, and those on drives that do not keep a folder's time. After a sweep, the next one
    comes when 50 times the processor's time that it took have passed, and 4 times the time: with 1,000 files every pass
    is one, with 100,000 one comes every 15 s. Until then, of known files only those that events name are looked at.

    Parameters
    ----------
    folder, out, recursive
        As for `scan`.
    clock, cpu_clock : callable
        Seconds of a monotonic clock, and of this thread on the processor.

    Attributes
    ----------
    folder : Path
        As given.
    rest_s : float
        How long to wait before the next pass, unless an event comes.
    passed_over : Counter of str
        How many images of each suffix the folder has that are not read.
    """

    def __init__(
        self,
        folder: Path,
        out: Path,
        *,
        recursive: bool = False,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.rest_s = 0.0
        self.passed_over: Counter[str] = Counter()
        self.folder, self._out, self._recursive = folder, out, recursive
        self._clock, self._cpu_clock = clock, cpu_clock
        self._known: Mapping[str, tuple[int, int]] = {}
        self._listings: dict[str, _Listing] = {}  # by prefix
        self._sweep_at = -math.inf

    @property
    def known_count(self) -> int:
        """How many of the known images the folder had when it was last listed."""
        return sum(listing.content.known_count for listing in self._listings.values())

    def known_among(self, names: Iterable[str]) -> int:
        """How many of the known images that the folder has have one of these names, and need no work."""
        here = (name for name in names if name[: name.rfind("/") + 1] in self._listings)
        sources = (source_at(self.folder / name, name) for name in here)
        return sum(s is not None and self._known.get(s.image) == (s.size, s.mtime_ns) for s in sources)

    def scan(self, known: Mapping[str, tuple[int, int]], touched: Collection[str] = ()) -> list[Source]:
        """Return the images that need work, in the natural order of their names.

        Parameters
        ----------
        known : mapping of str to (int, int)
            As for `scan`; another object than the last time asks for a sweep.
        touched : collection of str
            Paths within the folder of files that events named.

        Raises
        ------
        OSError
            If the folder cannot be listed; the next pass is then a sweep.
        """
        start, start_cpu = self._clock(), self._cpu_clock()
        sweep_at = -math.inf if known is not self._known else self._sweep_at
        self._known, self._sweep_at = known, -math.inf
        found, has_listed = self._walked(_by_folder(touched), is_sweep=start >= sweep_at)
        if has_listed:
            self.passed_over = Counter()
            for listing in self._listings.values():
                self.passed_over.update(listing.content.passed_over)
        end = self._clock()
        rest_s, took_cpu_s = _PER_PASS * (end - start), self._cpu_clock() - start_cpu
        if start >= sweep_at:
            self._sweep_at = end + max(rest_s, _PER_SWEEP_CPU * took_cpu_s)
        else:
            self._sweep_at = sweep_at
            self.rest_s = rest_s if has_listed else max(rest_s, _PER_CHECK_CPU * took_cpu_s)
        return sorted(found, key=lambda source: natural_key(source.image))

    def _walked(self, touched: Mapping[str, set[str]], *, is_sweep: bool) -> tuple[list[Source], bool]:
        """Return the images that need work, and whether a folder had to be listed."""
        former, self._listings = self._listings, {}
        found, has_listed = [], False
        out = _identity(self._out)
        passed = {out}
        ahead = [_Place(is_link=False, prefix="", path=self.folder)]
        while ahead:
            place = heapq.heappop(ahead)
            with (
                contextlib.suppress(OSError) if place.prefix else contextlib.nullcontext(),
                _opened(place.path) as opened,
            ):
                info, now = os.fstat(opened), self._clock()
                identity = (info.st_dev, info.st_ino)
                if place.prefix and identity in passed:
                    continue
                passed.add(identity)
                here = _Here(opened, place, identity, self._known, out, self._recursive)
                listing, stamp = former.get(place.prefix), (identity, info.st_mtime_ns)
                wanted = {*touched.get(place.prefix, ()), *(listing.waiting if listing else ())}
                since = listing.since if listing and listing.stamp == stamp else now
                if listing and listing.stamp == stamp and listing.is_final and not is_sweep:
                    images, content = here.named(wanted), listing.content
                else:
                    images, content = here.listed(wanted, is_sweep=is_sweep)
                    has_listed = True
                waiting = [image.path.name for image in images]
                is_final = now - since > _LONGEST_TICK_S
                self._listings[place.prefix] = _Listing(stamp, since, is_final, waiting, content)
                found += images
                for one in content.below:
                    heapq.heappush(ahead, one)
        return found, has_listed


class _Place(NamedTuple):
    """A folder; in this order they are gone into, so that names stay as they are when links come and go."""

    is_link: bool
    prefix: str  # what its images' names begin with
    path: Path


@dataclass(frozen=True)
class _Content:
    """What a folder has beside the images that need work.

    Attributes
    ----------
    below : list of _Place
        Its folders, if they are gone into.
    known_count : int
        How many known images.
    passed_over : Counter of str
        How many images of each suffix that are not read.
    """

    below: list[_Place]
    known_count: int
    passed_over: Counter[str]


@dataclass(frozen=True)
class _Listing:
    """A folder as it was last looked at.

    Attributes
    ----------
    stamp : tuple
        Which folder it is, and its mtime_ns.
    since : float
        When it was first seen with this stamp.
    is_final : bool
        Whether names that come later change the stamp.
    waiting : list of str
        Names of the images that need work.
    content : _Content
        When it was last listed.
    """

    stamp: tuple[_Identity, int]
    since: float
    is_final: bool
    waiting: list[str]
    content: _Content


@dataclass(frozen=True)
class _Here:
    """A folder that is open."""

    descriptor: int
    place: _Place
    identity: _Identity
    known: Mapping[str, tuple[int, int]]
    out: _Identity | None
    recursive: bool

    def listed(self, wanted: Collection[str], *, is_sweep: bool) -> tuple[list[Source], _Content]:
        """Return the images that need work, and what else there is.

        Of known files those that are wanted are looked at, in a sweep all.
        """
        if self._is_of_results:
            return [], _Content([], 0, Counter())
        images, below, others = [], [], Counter[str]()
        known_count, recursive = 0, self.recursive
        known, prefix = self.known, self.place.prefix
        with os.scandir(self.descriptor) as entries:
            for entry in entries:
                name = entry.name
                former = known.get(prefix + name)
                if former is not None:
                    known_count += 1
                    if not is_sweep and name not in wanted:
                        continue
                    info = _followed(entry.stat)
                    if info is not None and (info.st_size, mtime_ns(info)) == former:
                        continue
                    known_count -= 1
                if recursive and not name.startswith(".") and _is_folder(entry):
                    below.append(_Place(entry.is_symlink(), f"{prefix}{name}/", self.place.path / name))
                elif (image := self._image(name, entry.stat)) is not None:
                    images.append(image)
                elif is_other_image_name(name):
                    others[Path(name).suffix.lower()] += 1
        return images, _Content(below, known_count, others)

    def named(self, names: Iterable[str]) -> list[Source]:
        """Return the images that need work among these names."""
        looks = {} if self._is_of_results else {name: partial(os.stat, name, dir_fd=self.descriptor) for name in names}
        images = [self._image(name, look) for name, look in looks.items()]
        return [image for image in images if image is not None]

    def _image(self, name: str, look: Callable[..., os.stat_result]) -> Source | None:
        """Return an image if it needs work."""
        # A summary's plots are never images: 'summary --out' can put them into any folder
        if not is_image_name(name) or name in SUMMARY_NAMES or (is_result_name(name) and self._has_results):
            return None
        image, info = printable(self.place.prefix + name), _followed(look)
        if info is None or (info.st_dev, info.st_ino) == self.out:
            return None
        if self.recursive and stat.S_ISDIR(info.st_mode):  # of which an event told
            return None
        changed = mtime_ns(info)
        if self.known.get(image) == (info.st_size, changed):
            return None
        return Source(image, self.place.path / name, info.st_size, changed)

    @cached_property
    def _is_of_results(self) -> bool:
        """Whether it is one of `OWN_FOLDERS` of a results folder, under whatever name it was found."""
        if not self._is_there(f"../{ledger.FILE_NAME}"):
            return False
        around = [_followed(partial(os.stat, f"../{name}", dir_fd=self.descriptor)) for name in OWN_FOLDERS]
        return self.identity in [(info.st_dev, info.st_ino) for info in around if info is not None]

    @cached_property
    def _has_results(self) -> bool:
        """Whether it is an output folder, this one's or another's."""
        return self._is_there(ledger.FILE_NAME) or self.identity == self.out

    def _is_there(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open a folder; unlike a look at its path, this asks a network drive's server for its time."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _by_folder(paths: Iterable[str]) -> dict[str, set[str]]:
    """Return names by the prefix of their folder."""
    names: dict[str, set[str]] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        names.setdefault(folder + slash, set()).add(name)
    return names


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """False for a loop of links, and what else cannot be followed: it is no reason to give up its neighbours."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _followed(look: Callable[..., os.stat_result]) -> os.stat_result | None:
    """See `source_at`."""
    try:
        return look()
    except OSError:
        try:
            return look(follow_symlinks=False)
        except OSError:
            return None


def _identity(folder: Path) -> _Identity | None:
    """What is the same for all paths to a folder; None where there is none."""
    try:
        info = folder.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def checked(scanner: Scanner) -> list[Source]:
    """List all images of a scanner's folder; raise InputError where that fails."""
    try:
        return scanner.scan({})
    except OSError as error:
        raise InputError(f"{scanner.folder} went away ({error.strerror}): try again when it is back") from None


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


class Settling:
    """Finds out which files have been still for long enough.

    Parameters
    ----------
    settle_s : float
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: dict[str, tuple[Source, float]] = {}  # with the time from which it is ready

    def ready(self, sources: list[Source], now: float, wall: float) -> list[Source]:
        """Return the files that have been still for long enough, in their order.

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
        """Return in how many seconds the next file may be ready; infinity if none is waiting."""
        waits = (ready_at - now for _, ready_at in self._seen.values())
        return min((wait for wait in waits if wait > 0), default=math.inf)
