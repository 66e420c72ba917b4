"""The ledger: what has been done with which image, in one SQLite file.

One row per source image. It is committed last, after the files and the tables: an image without a row has to
be done (again).
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg_device.counting import Counts
from cellseg_device.errors import TRIED_AGAIN, OutputError

FILE_NAME = "cellseg.sqlite"
SCHEMA_VERSION = 3
DONE, FAILED = "done", "failed"
LARGEST = 2**63 - 1  # number that SQLite holds

_FIRST_SCHEMA = f"""
CREATE TABLE images (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of processing
    image TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT,
    status TEXT NOT NULL CHECK (status IN ('{DONE}', '{FAILED}')),
    reason TEXT,
    stem TEXT UNIQUE COLLATE NOCASE,  -- some file systems hold A and a for one name
    model TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    recorded_at TEXT NOT NULL,
    total_ms REAL NOT NULL,
    count INTEGER,
    count_in_frame INTEGER,
    height_px INTEGER,
    width_px INTEGER,
    pixel_size_um REAL,
    covered_fraction REAL,
    median_diameter_px REAL,
    median_diameter_um REAL,
    density_per_mm2 REAL
);
"""

# What a later version added; a ledger of an earlier one gets it when it is opened. Unknown (NULL) in its old rows.
_ADDED = {
    2: """
ALTER TABLE images ADD COLUMN settings TEXT;  -- counting.Counting.key
ALTER TABLE images ADD COLUMN files TEXT;  -- JSON: SHA-256 by name, of the result files
ALTER TABLE images ADD COLUMN left_out INTEGER;
ALTER TABLE images ADD COLUMN counted_area_px INTEGER;
ALTER TABLE images ADD COLUMN concentration_per_ml REAL;
ALTER TABLE images ADD COLUMN concentration_low_per_ml REAL;
ALTER TABLE images ADD COLUMN concentration_high_per_ml REAL;
ALTER TABLE images ADD COLUMN focus REAL;
ALTER TABLE images ADD COLUMN edge_sharpness REAL;
ALTER TABLE images ADD COLUMN saturated_fraction REAL;
ALTER TABLE images ADD COLUMN uneven_light REAL;
ALTER TABLE images ADD COLUMN at_border_fraction REAL;
ALTER TABLE images ADD COLUMN diameter_ratio REAL;
ALTER TABLE images ADD COLUMN flags TEXT DEFAULT '';
""",
    3: """
CREATE TABLE tables (  -- the CSV files as they were left
    name TEXT PRIMARY KEY,
    columns TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
);
""",
}

# SQLite's primary result codes that mean the disk, not the data
_DISK_FAULTS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_CANTOPEN: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_LOCKED: errno.EBUSY,
    sqlite3.SQLITE_PROTOCOL: errno.EIO,
}


Stamp = tuple[str, int, int]  # of a table: its columns, size and mtime_ns


@dataclass(frozen=True)
class Entry:
    """What the ledger knows about one source image.

    Attributes
    ----------
    image : str
        Its name: the path within the watched folder, or the absolute path for ``run``.
    size, mtime_ns : int
        Of the file, when it was processed.
    sha256 : str or None
        Of its bytes; None where they could not be read.
    status : str
        `DONE` or `FAILED`.
    reason : str or None
        Why it failed.
    stem : str or None
        What its result files begin with; None where it failed.
    model, model_sha256 : str
        Name of the model, and the digest of its file.
    recorded_at : str
        ISO 8601, UTC.
    total_ms : float
        From reading the file to its results on the disk.
    settings : str or None
        `counting.Counting.key`; None in a row of an older version.
    files : str or None
        JSON: SHA-256 by name, of the result files; empty of one that was about to be written.
    counts : Counts or None
    """

    image: str
    size: int
    mtime_ns: int
    sha256: str | None
    status: str
    reason: str | None
    stem: str | None
    model: str
    model_sha256: str
    recorded_at: str
    total_ms: float
    settings: str | None = None
    files: str | None = None
    counts: Counts | None = None

    def digests(self) -> dict[str, str]:
        """SHA-256 by name, of the result files; none in a row of an older version."""
        known: dict[str, str] = json.loads(self.files or "{}")
        return known


_OWN = tuple(field.name for field in dataclasses.fields(Entry) if field.name != "counts")
_COUNTS = tuple(field.name for field in dataclasses.fields(Counts))
_COLUMNS = ", ".join(_OWN + _COUNTS)


class Ledger:
    """The ledger of one output folder, open.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    is_for_reading : bool
        Whether it is to stay as it is; it may then lie where nothing can be written.

    Raises
    ------
    OutputError
        If it is damaged, no ledger, or of a newer version; it is never changed then.
    OSError
        On a fault of the disk.
    """

    def __init__(self, path: Path, is_for_reading: bool = False) -> None:
        self.path = path
        target = _uri_for_reading(path) if is_for_reading else path
        with self._faults():
            # Transactions are begun and ended by `transaction` alone.
            self._connection = sqlite3.connect(target, isolation_level=None, timeout=5, uri=is_for_reading)
        try:
            with self._faults():
                self._prepare(is_for_reading)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close it; what is not committed is dropped."""
        with self._faults():
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block writes when it ends well, drop it otherwise."""
        with self._faults():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._faults():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def get(self, image: str) -> Entry | None:
        """Look an image up; None where it has no entry."""
        return next(self._entries("WHERE image = ?", image), None)

    def stem_owner(self, stem: str) -> str | None:
        """Name the image whose result files begin with `stem`; None where there is none."""
        with self._faults():
            row = self._connection.execute("SELECT image FROM images WHERE stem = ?", (stem,)).fetchone()
        return str(row[0]) if row else None

    def entries(self, status: str) -> Iterator[Entry]:
        """Read all entries of a status, in the order of processing."""
        return self._entries("WHERE status = ? ORDER BY seq", status)

    def known(self, settings: str) -> list[tuple[str, int, int, str | None]]:
        """Read the name, size, mtime_ns and stem of all images but those whose failure is to be tried again."""
        query = "SELECT image, size, mtime_ns, stem FROM images WHERE status = ? OR ifnull(settings, '{}') = ?"
        query += f" AND reason NOT IN ({', '.join('?' * len(TRIED_AGAIN))})"
        with self._faults():
            return self._connection.execute(query, (DONE, settings, *TRIED_AGAIN)).fetchall()

    def count_made_otherwise(self, model_sha256: str, settings: str) -> int:
        """Count the images that were done with another model file, or other settings."""
        query = "SELECT count(*) FROM images WHERE status = ? AND (model_sha256 != ? OR ifnull(settings, '{}') != ?)"
        with self._faults():
            return int(self._connection.execute(query, (DONE, model_sha256, settings)).fetchone()[0])

    def put(self, entry: Entry) -> None:
        """Write an entry in place of the image's former one, as the latest; within a `transaction`."""
        own = [getattr(entry, name) for name in _OWN]
        counted = [getattr(entry.counts, name) if entry.counts else None for name in _COUNTS]
        marks = ", ".join("?" * (len(own) + len(counted)))
        with self._faults():
            self._connection.execute("DELETE FROM images WHERE image = ?", (entry.image,))
            self._connection.execute(f"INSERT INTO images ({_COLUMNS}) VALUES ({marks})", own + counted)

    def add_files(self, entry: Entry, digests: Mapping[str, str]) -> None:
        """Note further result files of an entry, if it still is of the result that `entry` is; commits."""
        if not digests:
            return
        with self.transaction():
            now = self.get(entry.image)
            if now is not None and now.files is not None and entry.digests().items() <= now.digests().items():
                self._put_files(entry.image, now.digests() | dict(digests))

    def announce(self, image: str, names: Collection[str]) -> None:
        """Note names of result files that are about to be written for an image with an entry; commits."""
        if not names:
            return
        with self.transaction():
            now = self.get(image)
            if now is not None and now.files is not None:
                self._put_files(image, dict.fromkeys(names, "") | now.digests())

    def _put_files(self, image: str, digests: Mapping[str, str]) -> None:
        with self._faults():
            self._connection.execute("UPDATE images SET files = ? WHERE image = ?", (json.dumps(digests), image))

    def drop_file(self, entry: Entry, name: str) -> None:
        """Forget a result file of an entry, which is gone; within a `transaction`."""
        self._put_files(entry.image, {other: digest for other, digest in entry.digests().items() if other != name})

    def tables(self) -> dict[str, Stamp]:
        """Read how the tables were left, by name."""
        with self._faults():
            rows = self._connection.execute("SELECT name, columns, size, mtime_ns FROM tables").fetchall()
        return {name: (columns, size, mtime_ns) for name, columns, size, mtime_ns in rows}

    def put_tables(self, tables: Mapping[str, Stamp]) -> None:
        """Note how the tables are left; within a `transaction`."""
        with self._faults():
            self._connection.execute("DELETE FROM tables")
            self._connection.executemany("INSERT INTO tables VALUES (?, ?, ?, ?)", [(n, *s) for n, s in tables.items()])

    def _entries(self, where: str, value: str) -> Iterator[Entry]:
        with self._faults():
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM images {where}", (value,)).fetchall()
        for row in rows:
            counts = Counts(*row[len(_OWN) :]) if row[_OWN.index("status")] == DONE else None
            yield Entry(**dict(zip(_OWN, row, strict=False)), counts=counts)

    def _prepare(self, is_for_reading: bool) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise OutputError(
                f"{self.path} was written by a newer cellseg-device (ledger version {version}): update "
                "cellseg-device, or use another --out"
            )
        if version == 0 and self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise self._damaged("is another program's database")
        if not is_for_reading:
            # A write-ahead log costs one sync a commit instead of three; FULL syncs it at every commit.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
        elif version < SCHEMA_VERSION:
            self._go_on_in_memory()
        if version < SCHEMA_VERSION:
            steps = [_FIRST_SCHEMA] * (version == 0) + [text for number, text in _ADDED.items() if number > version]
            self._connection.executescript(f"BEGIN; {' '.join(steps)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        # Names a missing column now rather than in the middle of the work
        self._connection.execute(f"SELECT seq, {_COLUMNS} FROM images LIMIT 1").fetchone()

    def _go_on_in_memory(self) -> None:
        """Leave the file for a copy of it."""
        copy = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.backup(copy)
        self._connection.close()
        self._connection = copy

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """SQLite's errors as ours: a fault of the disk may pass, a damaged ledger needs a person."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # a bug of ours
        except sqlite3.DatabaseError as error:
            code: Any = getattr(error, "sqlite_errorcode", 0)
            number = _DISK_FAULTS.get(code & 0xFF)
            if number is None:
                raise self._damaged(f"is damaged ({error})") from None
            raise OSError(number, f"{error} ({FILE_NAME})") from error

    def _damaged(self, what: str) -> OutputError:
        return OutputError(
            f"the ledger {self.path} {what}: move it away to begin a new one (counts.csv is kept aside), "
            "or use another --out"
        )


def _uri_for_reading(path: Path) -> str:
    uri = path.absolute().as_uri()
    if os.access(path.parent, os.W_OK):
        return f"{uri}?mode=rw"  # so that SQLite takes away what it makes beside the file
    is_at_rest = is_new(Path(f"{path}-wal")) and not Path(f"{path}-shm").exists()
    return f"{uri}?mode=ro" + ("&immutable=1" if is_at_rest else "")


def is_new(path: Path) -> bool:
    """Whether no ledger has been begun at this path: there is none, or an empty file."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True
