"""A ledger made anew from the files of an output folder: the tables of counts and what each label image was made from.

What it cannot vouch for it leaves out; such an image is simply counted again.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cellseg_device import files, results
from cellseg_device import ledger as ledgers
from cellseg_device.counting import Counts
from cellseg_device.errors import ImageError, OutputError
from cellseg_device.ledger import DONE, Entry, Ledger
from cellseg_device.output import COUNTS_NAME, held, set_counts_aside, utc
from cellseg_device.scan import mtime_ns, names_as_printed, original

_ASIDE = re.compile(r"counts-(\d+)\.csv")
_NEEDED = ("image", "count", "model", "labels")  # the other columns' absence is told row by row


@dataclass(frozen=True)
class Rebuilt:
    """What became of it.

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
    """Make the ledger of a folder anew; a former one is kept aside.

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
        If it is in use, one of its tables is not as it was written, or the disk does not let it.
    """
    try:
        with held(folder):
            return _rebuilt(folder, originals or folder.absolute().parent, step)
    except OSError as error:
        raise OutputError(f"{folder} cannot be read or written ({error.strerror}): mend it, then try again") from None


def _rebuilt(folder: Path, originals: Path, step: Callable[[int], object]) -> Rebuilt:
    rows, names = _rows(folder), cache(names_as_printed)
    temporary = folder / f".cellseg-{os.getpid()}-0.tmp"
    temporary.unlink(missing_ok=True)
    ledger, left_out, loses_counts = Ledger(temporary), [], False
    try:
        with ledger.transaction():
            for row in rows:
                try:
                    entry = _entry(folder, row.values, original(originals, row.image, names))
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
    """The latest row for each image, of all tables of counts: those kept aside, the present one last."""
    aside = [path for path in folder.iterdir() if _ASIDE.fullmatch(path.name)]
    aside.sort(key=lambda path: int(path.stem.split("-")[1]))
    latest: dict[str, _Row] = {}
    for path in (*aside, folder / COUNTS_NAME):
        for row in _table(path) if path.exists() else ():
            latest.pop(row.place, None)
            latest[row.place] = row
    return list(latest.values())


def _table(path: Path) -> list[_Row]:
    """Read a table of counts; one without the columns that tell its rows apart is refused, not taken for empty."""
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file)
            lacking = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            rows = [_Row(path.name, reader.line_num, values) for values in reader]
    except csv.Error as error:
        raise OutputError(f"{path} is damaged ({error}): mend it, or move it away, then try again") from None
    if lacking:
        raise OutputError(
            f"{path} has no column {lacking[0]}: it was saved with other separators, or is of another program; mend "
            "it, or move it away, then try again"
        )
    return rows


def _entry(folder: Path, row: dict[str, str], original: Path) -> Entry:
    """Make an entry of a row and the files it names; raises ImageError where they do not bear it out."""
    labels = row.get("labels") or ""
    stem = labels.removesuffix(results.LABELS)
    path = folder / labels
    if not row.get("image") or not stem or stem == labels or path.name != labels:
        raise ImageError("its row in the counts is damaged")
    if not path.is_file():
        raise ImageError(f"{labels} is missing")
    made_from = results.read_provenance(path)
    if made_from.image != Path(row["image"]).name or made_from.model != row.get("model"):
        raise ImageError(f"{labels} is of another image or model than its row")
    counts = _counts(row)
    cells = folder / (stem + results.CELLS)
    if not cells.is_file() or cells.read_bytes().count(b"\n") != counts.count + 1:
        raise ImageError(f"{cells.name} is not the table of these cells")
    named = [stem + suffix for suffix in results.SUFFIXES if (folder / (stem + suffix)).is_file()]
    return Entry(
        image=row["image"],
        size=made_from.image_bytes,
        mtime_ns=_mtime_ns(original, made_from.image_bytes, row.get("captured_at") or ""),
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
    )


def _counts(row: dict[str, str]) -> Counts:
    values: dict[str, object] = {}
    for field in dataclasses.fields(Counts):
        text = row.get(field.name) or ""
        try:
            if field.type == "str":
                values[field.name] = text
            elif field.type == "int":
                values[field.name] = number = int(text)
                if not 0 <= number <= ledgers.LARGEST:
                    raise ValueError
            else:
                values[field.name] = float(text) if text else None
        except ValueError:
            raise ImageError(f"its row in the counts is damaged ({field.name})") from None
    return Counts(**values)  # type: ignore[arg-type]


def _mtime_ns(original: Path, size: int, captured_at: str) -> int:
    """The time of the image file: to the nanosecond if it still is there as it was, else as the table has it."""
    try:
        info = original.stat()
    except (OSError, ValueError):
        info = None
    if info is not None and info.st_size == size and utc(mtime_ns(info)) == captured_at:
        return mtime_ns(info)
    try:
        time = datetime.strptime(captured_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return 0
    return int(time.timestamp()) * 1_000_000_000


def _set_aside(folder: Path) -> str | None:
    """Keep the former ledger under another name, with what belongs to it."""
    path = folder / ledgers.FILE_NAME
    if ledgers.is_new(path):
        return None
    number = 1
    while (aside := folder / f"{path.stem}-{number}{path.suffix}").exists():
        number += 1
    for ending in ("-wal", "-shm", "-journal", ""):
        part = Path(f"{path}{ending}")
        if part.exists():
            part.replace(f"{aside}{ending}")
    return aside.name
