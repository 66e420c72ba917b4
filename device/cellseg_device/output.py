"""The output folder: one process at a time, and its tables always those of the ledger.

The files of an image come first, then its row in a table, then the ledger's commit. So after a stop at any
instant the ledger names only images whose files are whole, and the tables, brought in line with it at the
next start, name each of them once.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cellseg_device import files, ledger, results
from cellseg_device.errors import ImageError, OutputError
from cellseg_device.ledger import DONE, FAILED, Entry, Ledger, Stamp
from cellseg_device.scan import Source, printable

COUNTS_NAME, FAILED_NAME, LOCK_NAME = "counts.csv", "failed.csv", ".cellseg.lock"
COUNTS_COLUMNS = (
    "image",
    "count",
    "count_in_frame",
    "flags",
    "concentration_per_ml",
    "concentration_low_per_ml",
    "concentration_high_per_ml",
    "density_per_mm2",
    "median_diameter_px",
    "median_diameter_um",
    "covered_fraction",
    "left_out",
    "height_px",
    "width_px",
    "pixel_size_um",
    "counted_area_px",
    "focus",
    "edge_sharpness",
    "saturated_fraction",
    "uneven_light",
    "at_border_fraction",
    "diameter_ratio",
    "captured_at",
    "model",
    "labels",
)
FAILED_COLUMNS = ("image", "reason", "failed_at")
COLUMNS = {COUNTS_NAME: COUNTS_COLUMNS, FAILED_NAME: FAILED_COLUMNS}


class Output:
    """An output folder, held by this process from `open` to `close`.

    Parameters
    ----------
    folder : Path
    warn : callable
        Receives a line for the user.
    keep_free_bytes : int
        With less room than this on its disk no work is taken.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None], keep_free_bytes: int = 0) -> None:
        self.folder = folder
        self.warn = warn
        self.keep_free_bytes = keep_free_bytes
        self.settings = "{}"  # `counting.Counting.key` of what is done now
        self.watched: Path | None = None  # a folder whose images are named by their place in it
        self.known: dict[str, tuple[int, int]] = {}  # size and mtime_ns by image, of what need not be done
        self._was_open = False
        self._lock: int | None = None
        self._ledger: Ledger | None = None
        self._stamps: dict[str, Stamp] = {}  # of the tables, as we left them

    @property
    def is_open(self) -> bool:
        """False before `open`, after `close`, and after a fault of the disk."""
        return self._ledger is not None

    def open(self) -> None:
        """Lock the folder, clear what a killed process left, bring the tables in line with the ledger.

        Does nothing when it is open. A missing folder is made, but not when coming back after a fault: the
        disk it lies on may be unplugged, and the folder would be made underneath.

        Raises
        ------
        OutputError
            If another process holds it, or its ledger is damaged or newer.
        OSError
            If the disk does not let it: full, read-only, gone.
        """
        if self.is_open:
            return
        if not self._was_open and not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True)
            files.sync_folder(self.folder.parent)
        try:
            self._lock = _locked(self.folder)
            with files.turn(self.folder):
                files.remove_leftovers(self.folder)
            if ledger.is_new(self.folder / ledger.FILE_NAME):
                self._set_aside()
            self._ledger = Ledger(self.folder / ledger.FILE_NAME)
            self._bring_tables_in_line()
            self.known = self._found()
            self._was_open = True
        except BaseException:
            self.close()
            raise

    def _found(self) -> dict[str, tuple[int, int]]:
        """What need not be done: the files of its results are there, or it never will have any."""
        names = set(os.listdir(self.folder))  # noqa: PTH208 - of 100,000 files their names alone
        found = {
            image: (size, mtime_ns)
            for image, size, mtime_ns, stem in self.ledger.known(self.settings)
            if stem is None or all(stem + suffix in names for suffix in results.ALWAYS)
        }
        if self.watched is None:
            return found
        inside = f"{_absolute(self.watched)}/"  # what `run` did of them has another name
        return {image.removeprefix(inside): seen for image, seen in found.items() if image.startswith(inside)} | found

    def close(self) -> None:
        """Let go of the folder; does nothing when it is closed."""
        try:
            if self._ledger is not None:
                self._ledger.close()
        except OSError:
            pass  # nothing is lost: what was committed is on the disk
        finally:
            self._ledger = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    @property
    def ledger(self) -> Ledger:
        """The ledger of the open folder."""
        assert self._ledger is not None, "the output folder is not open"
        return self._ledger

    def as_known(self, source: Source) -> Source:
        """A file under the name by which the ledger has it, if it has; lest one file be counted twice.

        `watch` names an image by its place in the watched folder, `run` by its whole path. Which folder was watched is
        not known, but for the usual one, that the results lie in: a file of the name, the size, the time and the bytes
        is taken for the same.
        """
        path, around = Path(source.image), f"{_absolute(self.folder.parent)}/"
        likely: list[str] = []
        if path.is_absolute():
            certain = [source.image, source.image.removeprefix(around)]
            likely = ["/".join(path.parts[start:]) for start in range(1, len(path.parts))]
        else:
            certain = [source.image, _absolute(source.path)]
        for name in certain:
            if self.ledger.get(name) is not None:
                return replace(source, image=name)
        for name in likely:
            entry = self.ledger.get(name)
            if entry is not None and entry.mtime_ns == source.mtime_ns and is_of_these_bytes(entry, source):
                return replace(source, image=name)
        return source

    def check_room(self) -> None:
        """Raise an OSError, as of a full disk, where there is less room than is to be kept free."""
        if self.keep_free_bytes and shutil.disk_usage(self.folder).free < self.keep_free_bytes:
            raise OSError(errno.ENOSPC, f"less than {self.keep_free_bytes / 1e9:.3g} GB is free")

    def stem_for(self, image: str) -> str:
        """Choose what the names of an image's result files begin with.

        It is the stem of the image's name, or its full name where another image has that stem. The name of an
        image in a folder below the watched one begins with that folder's: of ``day/a.png`` the stem is ``day-a``.

        Raises
        ------
        ImageError
            If all of them belong to other images, or are too long for a file name.
        """
        path = Path(image)
        names = [path.name] if path.is_absolute() else ["-".join(path.parts), path.name]
        stems = [stem for name in dict.fromkeys(names) for stem in (Path(name).stem, name) if results.fits(stem)]
        if not stems:
            raise ImageError("has too long a name for its result files: rename it")
        for stem in stems:
            if self.ledger.stem_owner(stem) in (None, image):
                return stem
        owner = self.ledger.stem_owner(stems[-1])
        raise ImageError(f"its results would overwrite those of {owner}: use another --out")

    def record(self, entry: Entry) -> None:
        """Write an image's row, in place of its former one; it is on the disk when this returns.

        Raises
        ------
        OSError
            On a fault of the disk: the folder is then closed, and once it is open again its tables say what
            they said before.
        """
        try:
            with self.ledger.transaction():
                former = self.ledger.get(entry.image)
                if former and former.stem and entry.stem is None:
                    results.remove(self.folder, result_names(former))
                self.ledger.put(entry)
                table = COUNTS_NAME if entry.status == DONE else FAILED_NAME
                if former is None and self._is_as_written(table):
                    self._append(table, entry)
                else:
                    self._write_tables()
                self.ledger.put_tables(self._stamps)
        except OSError:
            self.close()
            raise
        self.known[entry.image] = (entry.size, entry.mtime_ns)

    def _is_as_written(self, table: str) -> bool:
        """Whether a row can be appended: the table is there, and nobody has edited it."""
        return table in self._stamps and _stamp(self.folder / table, COLUMNS[table]) == self._stamps[table]

    def _append(self, table: str, entry: Entry) -> None:
        files.append(self.folder / table, _csv([_row(entry)]))
        self._note(table)

    def _bring_tables_in_line(self) -> None:
        """Make the tables anew, unless they are as the last commit left them: with many rows that takes seconds."""
        found = {table: _stamp(self.folder / table, columns) for table, columns in COLUMNS.items()}
        self._stamps = {table: stamp for table, stamp in found.items() if stamp is not None}
        if COUNTS_NAME not in self._stamps or self._stamps != self.ledger.tables():
            with self.ledger.transaction():
                self._write_tables()
                self.ledger.put_tables(self._stamps)

    def _write_tables(self) -> None:
        """Make the tables say what the ledger says; a table that does already is not touched."""
        self._write_table(COUNTS_NAME, list(self.ledger.entries(DONE)))
        failed = list(self.ledger.entries(FAILED))
        if failed:
            self._write_table(FAILED_NAME, failed)
        else:
            (self.folder / FAILED_NAME).unlink(missing_ok=True)
            self._stamps.pop(FAILED_NAME, None)

    def _write_table(self, table: str, entries: list[Entry]) -> None:
        _write_if_other(self.folder / table, table_bytes(table, entries))
        self._note(table)

    def _note(self, table: str) -> None:
        stamp = _stamp(self.folder / table, COLUMNS[table])
        if stamp is not None:
            self._stamps[table] = stamp

    def _set_aside(self) -> None:
        """Keep the counts of a ledger that is gone: the new one would drop their rows."""
        aside = set_counts_aside(self.folder)
        if aside is not None:
            self.warn(f"{self.folder} has counts but no ledger: its counts.csv is kept as {aside}")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold an output folder, without its ledger, and clear what a killed process left.

    Raises
    ------
    OutputError
        If another process holds it.
    OSError
        If the disk does not let it.
    """
    lock = _locked(folder)
    try:
        with files.turn(folder):
            files.remove_leftovers(folder)
        yield
    finally:
        os.close(lock)


def result_names(entry: Entry) -> list[str]:
    """Names of an image's result files; from an older version, which did not note them, all that there may be."""
    if entry.stem is None:
        return []
    return list(entry.digests()) or [entry.stem + suffix for suffix in results.SUFFIXES]


def _absolute(path: Path) -> str:
    """As `run` names images: a link keeps its own name."""
    return printable(os.path.abspath(path))  # noqa: PTH100


def is_of_these_bytes(entry: Entry, source: Source) -> bool:
    """Whether an entry is of a file with the same content."""
    if entry.sha256 is None or entry.size != source.size:
        return False
    try:
        return files.sha256(source.path) == entry.sha256
    except OSError:
        return False


def set_counts_aside(folder: Path) -> str | None:
    """Keep ``counts.csv`` under another name, which is returned; None where there is none."""
    path = folder / COUNTS_NAME
    if not path.exists():
        return None
    number = 1
    while (aside := folder / f"counts-{number}.csv").exists():
        number += 1
    path.rename(aside)
    return aside.name


def _locked(folder: Path) -> int:
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
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


def _stamp(path: Path, columns: tuple[str, ...]) -> Stamp | None:
    try:
        info = path.stat()
    except FileNotFoundError:
        return None
    return ",".join(columns), info.st_size, info.st_mtime_ns


def _write_if_other(path: Path, data: bytes) -> None:
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    files.write(path, data)


def table_bytes(table: str, entries: list[Entry]) -> bytes:
    """Make the content of a table."""
    return _csv([COLUMNS[table], *map(_row, entries)])


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _row(entry: Entry) -> list[object]:
    """Make the entry's row: in ``counts.csv`` if it is done, else in ``failed.csv``."""
    if entry.counts is None:
        return [entry.image, entry.reason, entry.recorded_at]
    values = {
        **{name: _shown(value) for name, value in vars(entry.counts).items()},
        "image": entry.image,
        "captured_at": utc(entry.mtime_ns),
        "model": entry.model,
        "labels": f"{entry.stem}{results.LABELS}",
    }
    return [values[name] for name in COUNTS_COLUMNS]


def _shown(value: float | None) -> object:
    """Show an unknown value as an empty cell, a fraction to six digits."""
    return f"{value:.6g}" if isinstance(value, float) else value


def utc(time_ns: int) -> str:
    """ISO 8601 in whole seconds, UTC; empty for a time no calendar has."""
    try:
        return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""
