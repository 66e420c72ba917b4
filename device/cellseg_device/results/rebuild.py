"""Rebuilding a ledger from the files of an output folder: the tables of counts and the label images.

An image whose files do not agree with its row is left out, and so counted again.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import numpy as np

from cellseg_device.cells.counts import Counts
from cellseg_device.errors import ImageError, OutputError
from cellseg_device.image.dates import as_iso
from cellseg_device.image.source import LARGEST, mtime_ns, names_as_printed, original
from cellseg_device.results import image_files
from cellseg_device.results import ledger as ledgers
from cellseg_device.results.entry import DONE, Entry
from cellseg_device.results.formats import FORMATS, Content
from cellseg_device.results.ledger import Ledger
from cellseg_device.results.lock import held
from cellseg_device.results.places import place_of
from cellseg_device.results.table_files import set_counts_aside
from cellseg_device.results.tables import COUNTS_NAME, FILE, utc
from cellseg_device.system import csv_text, files

_ASIDE = re.compile(r"counts-(\d+)\.csv")
_NEEDED = ("image", "count", "model", "labels")  # without another column, its rows are left out one by one


@dataclass(frozen=True)
class Rebuilt:
    """The outcome of a rebuild.

    Attributes
    ----------
    images : int
        How many the ledger has now.
    left_out : tuple of str
        A line for each row of the tables that it does not have, with the reason.
    aside : str or None
        File name under which the former ledger is kept.
    counts_aside : str or None
        File name under which the former ``counts.csv`` is kept: where rows of it were left out.
    """

    images: int
    left_out: tuple[str, ...]
    aside: str | None
    counts_aside: str | None


@dataclass(frozen=True)
class _Row:
    table: str
    line: int
    values: dict[str, str]

    @property
    def image(self) -> str:
        return self.values.get("image") or ""

    @property
    def place(self) -> str:
        return self.image or f"{self.table} line {self.line}"


def rebuild(folder: Path, originals: Path | None, step: Callable[[int], object]) -> Rebuilt:
    """Rebuild the ledger of a folder; a former one is kept under another name.

    Parameters
    ----------
    folder : Path
        It must not be in use by another process.
    originals : Path or None
        The folder that was watched, so that images which have not changed are not counted again. None for the one
        that `folder` is in.
    step : callable
        Called after each image with the number of all.

    Raises
    ------
    OutputError
        If it is in use, one of its tables is damaged, or the disk refuses.
    """
    try:
        with held(folder):
            return _rebuilt(folder, originals or folder.absolute().parent, step)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be read or written ({error.strerror}): fix the disk, then try again"
        ) from None


def _rebuilt(folder: Path, originals: Path, step: Callable[[int], object]) -> Rebuilt:
    rows, names = _rows(folder), cache(names_as_printed)
    in_doubt = _in_doubt(folder / ledgers.FILE_NAME)
    temporary = folder / files.temporary_name()
    ledger, left_out, loses_counts = Ledger(temporary), [], False
    try:
        with ledger.transaction():
            for row in rows:
                try:
                    if row.image in in_doubt:
                        raise ImageError("was being counted when cellseg was stopped")
                    # Besides the watched folder, images are named by their path within the folder that this one is in
                    files_there = [
                        original(around, row.image, names) for around in (originals, folder.absolute().parent)
                    ]
                    entry = _entry(folder, row.values, next(filter(os.path.isfile, files_there), files_there[0]))
                    owner = ledger.stem_owner(entry.stem or "")
                    if owner is not None:
                        raise ImageError(f"{row.values['labels']} is that of {owner}")
                    ledger.put(entry)
                except ImageError as error:
                    left_out.append(f"{row.place}: {error.message}")
                    loses_counts |= row.table == COUNTS_NAME  # the other tables stay
                step(len(rows))
    except BaseException:
        ledger.close()
        temporary.unlink(missing_ok=True)
        raise
    ledger.close()  # which brings all of it into the one file
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    aside = _set_aside(folder)
    counts_aside = set_counts_aside(folder) if loses_counts else None
    temporary.replace(folder / ledgers.FILE_NAME)
    files.sync_folder(folder)
    return Rebuilt(len(rows) - len(left_out), tuple(left_out), aside, counts_aside)


def _rows(folder: Path) -> list[_Row]:
    """Return the latest row of each image in all tables of counts: those kept aside, and the present one last."""
    aside = [path for path in folder.iterdir() if _ASIDE.fullmatch(path.name)]
    aside.sort(key=lambda path: int(path.stem.split("-")[1]))
    latest: dict[str, _Row] = {}
    for path in (*aside, folder / COUNTS_NAME):
        for row in _table(path) if path.exists() else ():
            latest.pop(row.place, None)
            latest[row.place] = row
    return list(latest.values())


def _table(path: Path) -> list[_Row]:
    """Return the rows of a table of counts; raises OutputError for one without the columns that are needed."""
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="replace", opener=files.regular) as file:
            found = csv_text.Rows(file)
            lacking = [name for name in _NEEDED if name not in found.columns]
            rows = [(found.line_num, values, found.as_written) for values in found]
    except csv.Error as error:
        raise OutputError(f"{path} is damaged ({error}): fix it, or move it away, then try again") from None
    if lacking:
        raise OutputError(
            f"{path} has no column {lacking[0]}: it was saved with other separators, or is of another program; fix "
            "it, or move it away, then try again"
        )
    is_earlier = any(_is_of_earlier_version(path.parent, values, as_written) for _, values, as_written in rows)
    return [_Row(path.name, line, as_written if is_earlier else values) for line, values, as_written in rows]


def _is_of_earlier_version(folder: Path, values: dict[str, str], as_written: dict[str, str]) -> bool:
    """Whether a row is of a version that wrote texts as they are: its name is a formula, or only so are there files."""
    if csv_text.escaped(values["image"] or "") != (as_written["image"] or ""):
        return True
    labels, escaped = values["labels"] or "", as_written["labels"] or ""
    return labels != escaped and (folder / escaped).is_file() and not (folder / labels).is_file()


def _entry(folder: Path, row: dict[str, str], original: Path) -> Entry:
    """Return the entry that follows from a row and its files; raises ImageError where they do not agree."""
    labels = row.get("labels") or ""
    stem = labels.removesuffix(image_files.LABELS)
    path = folder / labels
    if not row.get("image") or not stem or stem == labels or path.name != labels:
        raise ImageError("its row in the counts is damaged")
    if not path.is_file():
        raise ImageError(f"{labels} is missing")
    made_from = image_files.read_provenance(path)
    if made_from.image != Path(row["image"]).name or made_from.model != row.get("model"):
        raise ImageError(f"{labels} is of another image or model than its row")
    counts = _counts(row)
    content = _content(row["image"], path, folder / (stem + image_files.CELLS), counts.count)
    named = [stem + suffix for suffix in image_files.ALWAYS]
    named += [stem + suffix for suffix in image_files.PICTURES.values() if files.is_regular(folder / (stem + suffix))]
    # One that was made otherwise is somebody else's, and is not replaced
    named += [
        stem + form.suffix
        for form in FORMATS.values()
        if image_files.holds(folder / (stem + form.suffix), partial(form.encode, content))
    ]
    return Entry(
        image=row["image"],
        size=made_from.image_bytes,
        # In a row of an older version, captured_at is the time of the file
        mtime_ns=_mtime_ns(original, made_from.image_bytes, row.get("modified_at", row.get("captured_at")) or ""),
        sha256=made_from.image_sha256,
        status=DONE,
        reason=None,
        stem=stem,
        model=made_from.model,
        model_sha256=made_from.model_sha256,
        recorded_at=utc(path.stat().st_mtime_ns),
        total_ms=0.0,
        settings=made_from.settings,
        files=json.dumps({name: files.sha256(folder / name) for name in named}),
        counts=counts,
        gate_sha256=made_from.gate_sha256,
        # Path.is_file raises where it may not look, or the name is too long
        place=place_of(original, folder) if os.path.isfile(original) else None,  # noqa: PTH113
    )


def _content(image: str, labels: Path, cells: Path, count: int) -> Content:
    """Return what is stored of an image; raise ImageError unless the table is that of the labels: the areas agree."""
    import tifffile

    try:
        with open(cells, encoding="utf-8", opener=files.regular) as file:
            text = file.read()
        heading, *lines = text.splitlines()
        column = heading.split(",").index("area_px")
        areas = [int(line.split(",")[column]) for line in lines]
        pixels = np.ascontiguousarray(tifffile.imread(labels))
        if len(areas) != count or np.bincount(pixels.ravel(), minlength=count + 1)[1:].tolist() != areas:
            raise ValueError
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - of a damaged file; tifffile raises many kinds
        raise ImageError(f"{cells.name} is not the table of these cells") from None
    return Content(image, pixels, text)


def _in_doubt(path: Path) -> frozenset[str]:
    """Return the images whose results the former ledger has in doubt; none if it cannot be read."""
    if ledgers.is_new(path):
        return frozenset()
    try:
        with closing(Ledger(path, is_for_reading=True)) as ledger:
            return frozenset(ledger.in_doubt())
    except (OSError, OutputError):
        return frozenset()


def _counts(row: dict[str, str]) -> Counts:
    values: dict[str, object] = {}
    for name, stored in Counts.storage().items():
        text = row.get(stored.heading or name) or ""
        try:
            if stored.sql.startswith("TEXT"):
                values[name] = text
            elif stored.sql.startswith("INTEGER"):
                values[name] = number = int(text)
                if not 0 <= number <= LARGEST:
                    raise ValueError
            else:
                values[name] = float(text) if text else None
        except ValueError:
            raise ImageError(f"its row in the counts is damaged ({name})") from None
    if values["captured_from"] in ("", FILE) or as_iso(str(values["captured_at"])) is None:
        values |= {"captured_at": "", "captured_from": ""}  # as of a file that does not say when it was taken
    return Counts(**values)  # type: ignore[arg-type]


def _mtime_ns(original: Path, size: int, modified_at: str) -> int:
    """Return the time of the image file: to the nanosecond if it has not changed, else to the second, by the table."""
    try:
        info = original.stat()
    except (OSError, ValueError):
        info = None
    if info is not None and info.st_size == size and utc(mtime_ns(info)) == modified_at:
        return mtime_ns(info)
    try:
        time = datetime.strptime(modified_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return int(time.timestamp()) * 1_000_000_000


def _set_aside(folder: Path) -> str | None:
    """Copy the former ledger to another name, which is returned, and move SQLite's files beside it there.

    It stays under its own name until the new one takes its place: there is a whole ledger at every instant.
    """
    path = folder / ledgers.FILE_NAME
    if ledgers.is_new(path):
        return None
    number = 1
    while os.path.lexists(aside := folder / f"{path.stem}-{number}{path.suffix}"):
        number += 1
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that all of it is in the one file
    with open(path, "rb") as former:
        files.write_all(folder, {aside.name: lambda file: shutil.copyfileobj(former, file)})
    for ending in ledgers.SQLITE_ENDINGS:  # of a damaged one
        part = Path(f"{path}{ending}")
        if part.exists():
            part.replace(f"{aside}{ending}")
    return aside.name
