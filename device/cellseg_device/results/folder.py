"""The output folder: used by one process at a time, its tables at most some seconds behind its ledger.

The files of an image come first, then its row in a table, then the ledger's commit. So after a stop at any
instant the ledger names only images whose files are whole, and the tables, brought in line with it at the
next start, name each of them once.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cellseg_device.errors import ImageError, OutputError
from cellseg_device.image.source import Source
from cellseg_device.results import image_files, ledger, places, table_files
from cellseg_device.results.capture_names import capture_number
from cellseg_device.results.entry import Entry
from cellseg_device.results.ledger import Ledger
from cellseg_device.results.lock import locked
from cellseg_device.results.stems import stems
from cellseg_device.results.table_files import TableFiles
from cellseg_device.system import files


class Output:
    """An output folder, held by this process from `open` to `close`.

    Parameters
    ----------
    folder : Path
    warn : callable
        Receives a line for the user.
    settings : str
        `counting.Counting.key` of what is done now.
    watched : Path or None
        The folder that is watched, whose images are named by their place in it.
    keep_free_bytes : int
        With less room than this on its disk no work is taken.
    """

    def __init__(
        self,
        folder: Path,
        warn: Callable[[str], None],
        *,
        settings: str = "{}",
        watched: Path | None = None,
        keep_free_bytes: int = 0,
    ) -> None:
        self.folder = folder
        self.warn = warn
        self._settings = settings
        self._watched = watched
        self._keep_free_bytes = keep_free_bytes
        self._known: dict[str, tuple[int, int]] = {}
        self._failed: list[str] = []
        self._kills: dict[str, tuple[int, int, int]] = {}  # as `Ledger.note_kills` returns them
        self._was_open = False
        self._lock: int | None = None
        self._ledger: Ledger | None = None
        self._tables: TableFiles | None = None

    @property
    def is_open(self) -> bool:
        """False before `open`, after `close`, and after a fault of the disk."""
        return self._ledger is not None

    def open(self) -> None:
        """Lock the folder, clear what a killed process left, bring the tables in line with the ledger.

        Does nothing when it is open. A missing folder is made, but not after a fault: the disk that it lies on may be
        unplugged, and a folder made then would hide under the disk when that is back.

        Raises
        ------
        OutputError
            If another process holds it, its ledger is damaged or of a newer version, or another program's file has the
            name of a table.
        OSError
            If the disk refuses: it is full, read-only or gone.
        """
        if self.is_open:
            return
        if not self._was_open and not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            files.sync_folder(self.folder.parent)
        places.forget_links()
        try:
            self._lock = locked(self.folder)
            with files.write_lock(self.folder):
                files.remove_leftovers(self.folder)
            table_files.check(self.folder)
            is_new = ledger.is_new(self.folder / ledger.FILE_NAME)
            # A new ledger would drop the rows of one that is gone
            aside = table_files.set_counts_aside(self.folder) if is_new else None
            if aside is not None:
                self.warn(f"{self.folder} has counts but no ledger: its counts.csv is kept as {aside}")
            self._ledger = Ledger(self.folder / ledger.FILE_NAME)
            if not self._was_open:
                self._kills = self._ledger.note_kills()
            self._settle_doubts()
            self._tables = TableFiles(self.folder, self._ledger)
            self._known = self._found()
            self._was_open = True
        except BaseException:
            self.release()
            raise

    def _found(self) -> dict[str, tuple[int, int]]:
        """Return the images that need no work: those with the files of a result, and those that failed for good."""
        names = set(os.listdir(self.folder))  # noqa: PTH208 - of 100,000 files their names alone
        failed = []
        found: dict[str, tuple[int, int]] = {}
        by_place: dict[str, tuple[int, int]] = {}
        watched = self._watched_place()
        for image, size, mtime_ns, stem, place in self.ledger.known(self._settings):
            if stem is not None and not all(stem + suffix in names for suffix in image_files.ALWAYS):
                continue
            # What `run` did of the watched folder may have another name
            name = None if watched is None else watched.name_of(image, place)
            if name is not None:
                kind = by_place
            elif watched is None or place is None or not _is_in_parent(image, place):
                kind, name = found, image
            else:
                continue
            kind[name] = (size, mtime_ns)
            if stem is None:
                failed.append((kind, name))
        self._failed = [name for kind, name in failed if kind is by_place or name not in by_place]
        return found | by_place

    def _watched_place(self) -> places.Watched | None:
        """Where the watched folder lies now."""
        return None if self._watched is None else places.Watched.at(self._watched, self.folder)

    def close(self) -> None:
        """Bring the tables up to date and close the folder; does nothing when it is closed.

        Raises
        ------
        OutputError
            If the tables cannot be written. The folder is closed even so, and the next start brings them up to date.
        """
        behind = [] if self._tables is None else self._tables.behind
        try:
            self.refresh_tables(now=True)
        except OSError as error:
            raise OutputError(
                f"{self.folder}: {' and '.join(behind)} cannot be brought up to date ({error.strerror}): make room or "
                "fix the disk, then start again; no count is lost"
            ) from None
        finally:
            self.release()

    def release(self) -> None:
        """Close the folder as it is, as after a fault of its disk; `open` then repairs the tables."""
        try:
            if self._ledger is not None:
                with suppress(OSError):
                    self._ledger.take_in_hand(())  # it is not killed that this ends
                self._ledger.close()
        except OSError:
            pass  # nothing is lost: what was committed is on the disk
        finally:
            self._ledger = self._tables = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    @property
    def ledger(self) -> Ledger:
        """The ledger of the open folder."""
        assert self._ledger is not None, "the output folder is not open"
        return self._ledger

    @property
    def known(self) -> Mapping[str, tuple[int, int]]:
        """Size and mtime_ns, by name, of the images that need no work unless they change."""
        return self._known

    @property
    def failed(self) -> Collection[str]:
        """Those of the known images that had failed for good when the folder was opened."""
        return self._failed

    def leave(self, source: Source) -> None:
        """Take note that an image needs no work unless its file changes."""
        self._known[source.image] = (source.size, source.mtime_ns)

    def admit(self, source: Source) -> Source:
        """Open the folder if need be, check its room, and return a source under its name in the ledger.

        Raises
        ------
        OutputError, OSError
            As `open` and `check_room` do.
        """
        self.open()
        self.check_room()
        return self.as_known(source)

    def take_in_hand(self, *sources: Source) -> None:
        """Note which images are in hand from now on: should they get this process killed, the next start knows.

        Raises
        ------
        OSError
            On a fault of the disk; the folder is then closed.
        """
        try:
            self.ledger.take_in_hand(sources)
        except OSError:
            self.release()
            raise

    def kills(self, source: Source) -> int:
        """Return how many processes were killed while they had a file, as it is now, in hand."""
        size, mtime_ns, kills = self._kills.get(source.image, (0, 0, 0))
        return kills if (size, mtime_ns) == (source.size, source.mtime_ns) else 0

    def has_files(self, stem: str) -> bool:
        """Whether the files are there that every result has."""
        return all((self.folder / (stem + suffix)).exists() for suffix in image_files.ALWAYS)

    def has_result_of(self, source: Source) -> bool:
        """Whether there is a whole result of a file as it is now."""
        entry = self.ledger.get(source.image)
        if entry is None or entry.stem is None or self.ledger.announced(source.image):
            return False
        is_same = (entry.size, entry.mtime_ns) == (source.size, source.mtime_ns) or is_of_these_bytes(entry, source)
        return is_same and self.has_files(entry.stem)

    def as_known(self, source: Source) -> Source:
        """Return a source under its name in the ledger, so that one file is not counted twice.

        `watch` gives it its path within the watched folder, `run` its whole path, which is shortened here. The ledger
        knows where the file of an image lies. A file that was moved since is known by its size, time and bytes, and by
        the end of its path. One whose name is another file's is named by its whole path.
        """
        absolute, place = places.absolute(source.path), self.place(source)
        own = self._own_name(source, place)
        known = self.ledger.places_of(place, {own, absolute})
        for name in sorted(known, key=lambda name: (known[name] != place, name != own)):
            if known[name] in (place, None) or name == absolute or self._was_moved(name, source):
                return replace(source, image=name)
        if os.path.isabs(source.image):  # noqa: PTH117 - of every image
            for entry in self.ledger.entries_of(source.size, source.mtime_ns):
                if source.image.endswith(f"/{entry.image}") and is_of_these_bytes(entry, source):
                    return replace(source, image=entry.image)
        return replace(source, image=absolute if own in known else own)

    def _own_name(self, source: Source, place: str) -> str:
        """Return the name of an image that the ledger does not know."""
        if not os.path.isabs(source.image):  # noqa: PTH117 - of every image
            return source.image
        watched = self._watched_place()
        name = None if watched is None else watched.name_of(source.image, place)
        return places.name_of(source.path, self.folder) if name is None else name

    def _was_moved(self, name: str, source: Source) -> bool:
        """Whether the image of this name, which lay elsewhere, is a source's."""
        entry = self.ledger.get(name)
        if entry is None or entry.place is None or places.is_another(self.folder, entry.place, source.path):
            return False
        # Of a watched folder that was moved, size and time will do; another folder may have its names
        is_as_it_was = (entry.size, entry.mtime_ns) == (source.size, source.mtime_ns)
        is_within = source.image == name or self._watched is not None
        is_of_moved_folder = is_as_it_was and is_within and not _is_in_parent(entry.image, entry.place)
        return is_of_moved_folder or is_of_these_bytes(entry, source)

    def renamed_from(self, source: Source, sha256: str | None) -> Entry | None:
        """Return the entry that a result takes the place of: of a file that is gone and had the same bytes.

        Else an image that was renamed after it was counted would be counted twice. The entry of a file that is merely
        gone stays, and two files of the same bytes that both exist are two images.

        Parameters
        ----------
        source : Source
            The image, under its name in the ledger.
        sha256 : str or None
            Of its bytes.
        """
        own = self.ledger.get(source.image)
        if sha256 is None or (own is not None and own.sha256 == sha256):
            return None
        gone = (image for image, place in self.ledger.places_of_bytes(sha256) if self._is_gone(image, place))
        former = next(gone, None)
        return None if former is None else self.ledger.get(former)

    def _is_gone(self, image: str, place: str | None) -> bool:
        """Whether an image's file no longer exists, wherever it may have been.

        False where that is not known, and for a capture: those are removed when they are counted, and two of the same
        bytes are two.
        """
        if capture_number(image) is not None:
            return False
        candidates = [] if place is None else [(self.folder, place)]
        if os.path.isabs(image):  # noqa: PTH117 - of thousands of equal images each one is looked at
            candidates.append((Path("/"), image))
        else:
            candidates += [] if self._watched is None else [(self._watched, image)]
            candidates += [] if place is not None else [(self.folder.absolute().parent, image)]
        return bool(candidates) and all(places.is_missing(folder, name) for folder, name in candidates)

    def _settle_doubts(self) -> None:
        """End the doubt about results that are as they were, and about those of images that are gone without a row."""
        for image in self.ledger.in_doubt():
            entry = self.ledger.get(image)
            if self._is_gone(image, None) if entry is None else self._is_whole(entry):
                self.ledger.end_doubt(image)

    def _is_whole(self, entry: Entry) -> bool:
        """Whether the files of an entry are those that it had, and there are no others that were being written."""
        digests = entry.digests()
        others = [name for name in self.ledger.announced(entry.image) if name not in digests]
        if not digests or any(os.path.lexists(self.folder / name) for name in others):
            return False
        try:
            return all(files.sha256(self.folder / name) == digest for name, digest in digests.items())
        except OSError:
            return False

    def place(self, source: Source) -> str:
        """Return where a source lies, as the ledger notes it."""
        return places.place_of(source.path, self.folder)

    def check_room(self) -> None:
        """Raise an OSError, as of a full disk, where there is less room than is to be kept free."""
        if self._keep_free_bytes and shutil.disk_usage(self.folder).free < self._keep_free_bytes:
            raise OSError(errno.ENOSPC, f"less than {self._keep_free_bytes / 1e9:.3g} GB is free")

    def stem_for(self, image: str) -> str:
        """Return what the names of an image's result files begin with.

        It stays what it is. At first it is the stem of the image's name, with those of the folders that it is in where
        another image has that stem; of one in a folder below the watched one it always begins with them.

        Raises
        ------
        ImageError
            If it would be too long for a file name.
        """
        own = self.ledger.get(image)
        if own is not None and own.stem is not None:
            return own.stem
        for stem in stems(image, is_watched=self._watched is not None):
            if self.ledger.stem_owner(stem) in (None, image):
                return stem
        raise ImageError("has too long a name for its result files: rename it")

    def record(self, entry: Entry, *, former: Entry | None = None) -> None:
        """Record an image, in place of its former entry; its entry is on the disk when this returns.

        So is its row, unless a whole table has to be written for it: then `refresh_tables` does that.

        Parameters
        ----------
        entry : Entry
        former : Entry or None
            A further one that it takes the place of: `renamed_from`.

        Raises
        ------
        OSError
            On a fault of the disk: the folder is then closed, and when it is opened again its tables have the rows
            that they had before.
        """
        assert self._tables is not None, "the output folder is not open"
        try:
            before = self.ledger.get(entry.image)
            if entry.stem is None:
                self._remove_files(entry.image, before)
            if former is not None:
                self._remove_files(former.image, former)
            with self.ledger.transaction():
                if former is not None:
                    self.ledger.remove(former.image)
                self.ledger.put(entry)
                self._tables.record(entry, before, former)
        except OSError:
            self.release()
            raise
        if former is not None:
            self._known.pop(former.image, None)
            watched = self._watched_place()
            name = None if watched is None else watched.name_of(former.image, former.place)
            self._known.pop(name or former.image, None)
        self._known[entry.image] = (entry.size, entry.mtime_ns)

    def remove(self, image: str) -> None:
        """Remove all that is known of an image: its result files and its entry, then its row; its own file stays.

        Raises
        ------
        OSError
            On a fault of the disk, as from `record`.
        """
        assert self._tables is not None, "the output folder is not open"
        try:
            entry = self.ledger.get(image)
            self._remove_files(image, entry)
            with self.ledger.transaction():
                self.ledger.remove(image)
                if entry is not None:
                    self._tables.remove(entry)
        except OSError:
            self.release()
            raise
        self._known.pop(image, None)

    def _remove_files(self, image: str, entry: Entry | None) -> None:
        """Remove the result files of an image, whose result is then in doubt until its entry goes, too."""
        names = [*(result_names(entry) if entry is not None else []), *self.ledger.announced(image)]
        if names:
            self.ledger.announce(image, names)
            image_files.remove(self.folder, names)

    def refresh_tables(self, *, is_idle: bool = False, now: bool = False) -> bool:
        """Write the tables that are behind, if it is time to do so (`TableFiles.refresh`); True if none is behind.

        Raises
        ------
        OSError
            On a fault of the disk; to be called again then.
        """
        return self._tables is None or self._tables.refresh(is_idle=is_idle, now=now)

    def refresh_in_s(self) -> float:
        """Return in how many seconds the tables should be written if there is no work; infinity if none is behind."""
        return math.inf if self._tables is None else self._tables.refresh_in_s()


def result_names(entry: Entry) -> list[str]:
    """Names of an image's result files; from an older version, which did not note them, all that there may be."""
    if entry.stem is None:
        return []
    return list(entry.digests()) or [entry.stem + suffix for suffix in image_files.SUFFIXES]


def _is_in_parent(image: str, place: str) -> bool:
    """Whether an image is named by its path within the folder that the output folder is in."""
    return place == f"../{image}"


def is_of_these_bytes(entry: Entry, source: Source) -> bool:
    """Whether an entry is of a file with the same content."""
    if entry.sha256 is None or entry.size != source.size:
        return False
    try:
        return files.sha256(source.path) == entry.sha256
    except OSError:
        return False
