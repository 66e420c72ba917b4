"""The ledger: what has been done with which image, in one SQLite file.

It has one row per image, which is committed last, after the files and the tables: an image without a row has to be done
(again). Before the files of a result get their names, their names are noted (`Ledger.announce`): until the row is
committed, that result is in doubt, which counts as not done.

An image is also noted before its turn (`Ledger.take_in_hand`), so that one which gets the process killed is known.
"""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellseg_device.cells.counts import Counts
from cellseg_device.errors import TRIED_AGAIN, OutputError
from cellseg_device.results import schema
from cellseg_device.results.entry import DONE, UNKNOWN, Entry, has_right_types, is_plain_name
from cellseg_device.system import files

if TYPE_CHECKING:
    from cellseg_device.image.source import Source

FILE_NAME = "cellseg.sqlite"
SQLITE_ENDINGS = ("-wal", "-shm", "-journal")  # of SQLite's own files, beside the ledger

# Of the images whose result files are whole, and of one result
_NOT_IN_DOUBT = "image NOT IN (SELECT image FROM in_hand WHERE files IS NOT NULL)"

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
BEHIND: Stamp = ("", -1, -1)  # of a table that differs from the ledger, until it is written again


_OWN = tuple(field.name for field in dataclasses.fields(Entry) if field.name != "counts")
_COUNTS = tuple(Counts.storage())
_COLUMNS = ", ".join(_OWN + _COUNTS)


class Ledger:
    """The ledger of one output folder, open.

    Parameters
    ----------
    path : Path
        Made if it does not exist.
    is_for_reading : bool
        Whether it must not be changed; it may then lie where nothing can be written.

    Raises
    ------
    OutputError
        If it is damaged, not a ledger, or of a newer version; the file is then left as it is.
    OSError
        On a fault of the disk.
    """

    def __init__(self, path: Path, *, is_for_reading: bool = False) -> None:
        self.path = path
        self._check_files()
        if not is_for_reading:
            with suppress(FileExistsError):
                os.close(files.new_file(path))  # here, since SQLite would follow a link
        target = _uri_for_reading(path) if is_for_reading else path
        with self._faults():
            # Transactions are begun and ended by `transaction` alone.
            self._connection = sqlite3.connect(target, isolation_level=None, timeout=5, uri=is_for_reading)
        try:
            with self._faults():
                self._prepare(is_for_reading=is_for_reading)
            self._check_files()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the ledger; what is not committed is lost."""
        with self._faults():
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what the block writes, or roll it back if the block raises."""
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
        """Return the entry of an image; None where it has none."""
        return next(self._entries("WHERE image = ?", image), None)

    def places_of(self, place: str, names: Collection[str]) -> dict[str, str | None]:
        """Return by name the places of the images that lie at a place or have one of these names."""
        query = f"SELECT image, place FROM images WHERE place = ? OR image IN ({', '.join('?' * len(names))})"
        with self._faults():
            return dict(self._connection.execute(query, (place, *names)).fetchall())

    def entries_of(self, size: int, mtime_ns: int) -> Iterator[Entry]:
        """Yield the entries of files of this size and time."""
        return self._entries("WHERE size = ? AND mtime_ns = ?", size, mtime_ns)

    def stem_owner(self, stem: str) -> str | None:
        """Return the image whose result files begin with `stem`; None where there is none."""
        with self._faults():
            row = self._connection.execute("SELECT image FROM images WHERE stem = ?", (stem,)).fetchone()
        return str(row[0]) if row else None

    def recorded_after(self, number: int) -> Iterator[tuple[int, Entry]]:
        """Yield the entries that were written after the one of this number, each with its own, in that order."""
        with self._faults():
            rows = self._connection.execute("SELECT image, seq FROM images WHERE seq > ?", (number,))
            numbers = dict(rows.fetchall())
        for entry in self._entries("WHERE seq > ? ORDER BY seq", number):
            if entry.image in numbers:  # else it came between the two
                yield numbers[entry.image], entry

    def count(self) -> int:
        """Return how many images have an entry."""
        with self._faults():
            return int(self._connection.execute("SELECT count(*) FROM images").fetchone()[0])

    def begun(self) -> list[str]:
        """Return the images that a process has in hand, or had when it was killed."""
        with self._faults():
            rows = self._connection.execute("SELECT image FROM in_hand WHERE is_begun ORDER BY image")
            return [str(row[0]) for row in rows]

    def places_of_bytes(self, sha256: str) -> list[tuple[str, str | None]]:
        """Return name and place of all images with this content, in the order of processing."""
        query = "SELECT image, place FROM images WHERE sha256 = ? ORDER BY seq"
        with self._faults():
            return self._connection.execute(query, (sha256,)).fetchall()

    def entries(self, status: str) -> Iterator[Entry]:
        """Yield all entries with a status, in the order of processing; none whose result is in doubt."""
        return self._entries(f"WHERE status = ? AND {_NOT_IN_DOUBT} ORDER BY seq", status)

    def known(self, settings: str) -> list[tuple[str, int, int, str | None, str | None]]:
        """Return name, size, mtime_ns, stem and place of all images that are not to be done (again).

        Those are to be that failed and are tried again, and those whose result is in doubt.
        """
        passing = " OR ".join(["substr(reason, 1, ?) = ?"] * len(TRIED_AGAIN))
        query = f"""
            SELECT image, size, mtime_ns, stem, place FROM images
            WHERE {_NOT_IN_DOUBT}
            AND (status = ? OR ifnull(settings, '{{}}') = ? AND NOT ({passing}))
        """
        with self._faults():
            beginnings = [value for text in TRIED_AGAIN for value in (len(text), text)]
            return self._connection.execute(query, (DONE, settings, *beginnings)).fetchall()

    def count_made_otherwise(self, counters: Mapping[str, str], gate_sha256: str | None, settings: str) -> int:
        """Return how many images were done with another model file, another gate, or other settings.

        Parameters
        ----------
        counters : mapping of str to str
            SHA-256 of what an image is counted by now, by its class; not empty.
        gate_sha256 : str or None
        settings : str
            `counting.Counting.key`.
        """
        query = f"""
            SELECT count(*) FROM images
            WHERE status = ? AND (
                (class_name, model_sha256) NOT IN (VALUES {", ".join(["(?, ?)"] * len(counters))})
                OR gate_sha256 IS NOT ? OR ifnull(settings, '{{}}') != ?
            )
        """
        with self._faults():
            values = (DONE, *itertools.chain(*counters.items()), gate_sha256, settings)
            return int(self._connection.execute(query, values).fetchone()[0])

    def put(self, entry: Entry) -> None:
        """Write an entry in place of the image's former one, as the latest; within a `transaction`.

        The image is then no longer in hand, and its result not in doubt.
        """
        own = [getattr(entry, name) for name in _OWN]
        counted = [getattr(entry.counts, name) if entry.counts else None for name in _COUNTS]
        marks = ", ".join("?" * (len(own) + len(counted)))
        self.remove(entry.image)
        with self._faults():
            self._connection.execute(f"INSERT INTO images ({_COLUMNS}) VALUES ({marks})", own + counted)
        self._take_from_others({name.casefold() for name in entry.digests()})

    def remove(self, image: str) -> None:
        """Remove all that is known of an image; within a `transaction`."""
        with self._faults():
            self._connection.execute("DELETE FROM images WHERE image = ?", (image,))
            self._connection.execute("DELETE FROM in_hand WHERE image = ?", (image,))

    def _take_from_others(self, names: Collection[str]) -> None:
        """Remove names, which some file systems hold for equal with others, from what is announced for other images."""
        for image in self.in_doubt():
            announced = self.announced(image)
            left = [name for name in announced if name.casefold() not in names]
            if left != announced:
                with self._faults():
                    files_left = json.dumps(left) if left else None
                    self._connection.execute("UPDATE in_hand SET files = ? WHERE image = ?", (files_left, image))

    def take_in_hand(self, sources: Collection[Source]) -> None:
        """Note which images this process has in hand from now on, and none but these; commits.

        The note outlives the process. It is synced with the next commit, and so may be lost in a power cut.
        """
        self._synchronous("NORMAL")
        try:
            with self.transaction(), self._faults():
                self._connection.execute("DELETE FROM in_hand WHERE kills = 0 AND files IS NULL")
                self._connection.execute("UPDATE in_hand SET is_begun = 0 WHERE is_begun")
                self._connection.executemany(
                    """
                    INSERT INTO in_hand VALUES (?, ?, ?, 1, 0, NULL) ON CONFLICT (image) DO UPDATE SET
                    kills = iif(size = excluded.size AND mtime_ns = excluded.mtime_ns, kills, 0),
                    size = excluded.size, mtime_ns = excluded.mtime_ns, is_begun = 1
                    """,
                    [(source.image, source.size, source.mtime_ns) for source in sources],
                )
        finally:
            self._synchronous("FULL")

    def note_kills(self) -> dict[str, tuple[int, int, int]]:
        """Note that what was in hand is so no more since its process was killed; commits.

        Returns
        -------
        dict of str to (int, int, int)
            By image, size and mtime_ns of its file, and how many processes were killed while they had it in hand.
        """
        with self.transaction(), self._faults():
            self._connection.execute("UPDATE in_hand SET kills = kills + 1, is_begun = 0 WHERE is_begun")
        with self._faults():
            rows = self._connection.execute("SELECT image, size, mtime_ns, kills FROM in_hand WHERE kills").fetchall()
        return {image: (size, mtime_ns, kills) for image, size, mtime_ns, kills in rows}

    def announce(self, image: str, names: Collection[str]) -> None:
        """Note names of an image's result files before they get another content or none; commits.

        Its result is then in doubt, until its entry is written or removed.
        """
        query = "INSERT INTO in_hand VALUES (?, 0, 0, 0, 0, ?) ON CONFLICT (image) DO UPDATE SET files = excluded.files"
        with self.transaction(), self._faults():
            all_names = json.dumps(sorted({*names, *self.announced(image)}))
            self._connection.execute(query, (image, all_names))

    def announced(self, image: str) -> list[str]:
        """Return the names of the result files that make the result of an image doubtful; none if it is not."""
        with self._faults():
            row = self._connection.execute("SELECT files FROM in_hand WHERE image = ?", (image,)).fetchone()
        return self._file_names(row[0] if row else None, list)

    def in_doubt(self) -> list[str]:
        """Return the images whose results are in doubt."""
        with self._faults():
            rows = self._connection.execute("SELECT image FROM in_hand WHERE files IS NOT NULL ORDER BY image")
            return [str(row[0]) for row in rows]

    def end_doubt(self, image: str) -> None:
        """Note that the result of an image is whole, or that there is none; commits."""
        with self.transaction(), self._faults():
            self._connection.execute("UPDATE in_hand SET files = NULL WHERE image = ?", (image,))

    def add_files(self, entry: Entry, digests: Mapping[str, str]) -> None:
        """Note further result files of an entry, unless the image was done again since `entry` was read; commits."""
        if not digests:
            return
        with self.transaction():
            now = self.get(entry.image)
            others = {item for item in entry.digests().items() if item[0] not in digests}
            if now is not None and now.files is not None and others <= now.digests().items():
                self._put_files(entry.image, now.digests() | dict(digests))

    def announce_files(self, image: str, names: Collection[str]) -> None:
        """Note the names of further result files of an entry before they are written; commits."""
        with self.transaction():
            now = self.get(image)
            if now is not None and now.files is not None:
                self._put_files(image, now.digests() | dict.fromkeys(names, UNKNOWN))

    def _put_files(self, image: str, digests: Mapping[str, str]) -> None:
        with self._faults():
            self._connection.execute("UPDATE images SET files = ? WHERE image = ?", (json.dumps(digests), image))

    def drop_file(self, entry: Entry, name: str) -> None:
        """Remove a result file that is gone from an entry; commits."""
        with self.transaction():
            now = self.get(entry.image)
            if now is not None:
                self._put_files(now.image, {other: digest for other, digest in now.digests().items() if other != name})

    def tables(self) -> dict[str, Stamp]:
        """Return how the tables were left, by name."""
        with self._faults():
            rows = self._connection.execute("SELECT name, columns, size, mtime_ns FROM tables").fetchall()
        return {name: (columns, size, mtime_ns) for name, columns, size, mtime_ns in rows}

    def put_tables(self, tables: Mapping[str, Stamp]) -> None:
        """Note how the tables are left; within a `transaction`."""
        with self._faults():
            self._connection.execute("DELETE FROM tables")
            self._connection.executemany("INSERT INTO tables VALUES (?, ?, ?, ?)", [(n, *s) for n, s in tables.items()])

    def _entries(self, where: str, *values: str | int) -> Iterator[Entry]:
        with self._faults():  # one row at a time: 100,000 of them take much memory
            for row in self._connection.execute(f"SELECT {_COLUMNS} FROM images {where}", values):
                counts = Counts(*row[len(_OWN) :]) if row[_OWN.index("status")] == DONE else None
                entry = Entry(**dict(zip(_OWN, row, strict=False)), counts=counts)
                if not has_right_types(entry):
                    raise self._damaged("is damaged (a value is of another kind than its column)")
                self._file_names(entry.files, dict)
                if entry.stem is not None and not is_plain_name(entry.stem):
                    raise self._damaged("is damaged (it names a file outside of its folder)")
                yield entry

    def _file_names(self, text: str | None, kind: type[list[str]] | type[dict[str, str]]) -> list[str]:
        """Return the file names in a list or a dict as JSON; raises OutputError for names of files anywhere else."""
        if text is None:
            return []
        try:
            names = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            names = None
        if not isinstance(names, kind) or not all(isinstance(name, str) and is_plain_name(name) for name in names):
            raise self._damaged("is damaged (it names a file outside of its folder)")
        return list(names)

    def _synchronous(self, how: str) -> None:
        with self._faults():
            self._connection.execute(f"PRAGMA synchronous = {how}")

    def _prepare(self, *, is_for_reading: bool) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > schema.VERSION:
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
        elif version < schema.VERSION:
            self._go_on_in_memory()
        if version < schema.VERSION:
            steps = [schema.migration(number) for number in range(version + 1, schema.VERSION + 1)]
            self._migrate(f"{' '.join(steps)} PRAGMA user_version = {schema.VERSION};")
        # So that a missing column is found now and not in the middle of the work
        self._connection.execute(f"SELECT seq, {_COLUMNS} FROM images LIMIT 1").fetchone()

    def _migrate(self, sql: str) -> None:
        """Bring it to the present version, unless another process has just done that."""
        try:
            self._connection.executescript(f"BEGIN IMMEDIATE; {sql} COMMIT;")
        except sqlite3.OperationalError:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if self._connection.execute("PRAGMA user_version").fetchone()[0] != schema.VERSION:
                raise

    def _check_files(self) -> None:
        """Raise OutputError where SQLite would follow a link, or wait for a pipe."""
        for ending in ("", *SQLITE_ENDINGS):
            path = Path(f"{self.path}{ending}")
            if files.is_irregular(path):
                raise OutputError(f"{path} is a link, or not a file: remove it, or use another --out")

    def _go_on_in_memory(self) -> None:
        """Go on with a copy of the file in memory, which can be migrated."""
        copy = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.backup(copy)
        self._connection.close()
        self._connection = copy

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Raise SQLite's errors as ours: OSError for a fault of the disk, which may pass, OutputError for damage."""
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
