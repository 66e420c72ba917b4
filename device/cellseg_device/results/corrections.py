"""The store of corrections: what people made of the machine's labels, in ``OUT/corrections/`` of a results folder.

| file               | what it holds                                                                              |
|--------------------|--------------------------------------------------------------------------------------------|
| corrections.csv    | a row for each corrected image: both counts, the state, when and by whom it was checked     |
| STEM.labels.tif    | the corrected labels as of some revision, which its provenance names                        |
| STEM.cells.csv     | the table of those cells of it that count                                                   |
| STEM.edits.jsonl   | the journal (`correction_journal`): every edit with the change that it made                 |

STEM is that of the image's result. The corrected labels are those of the label image with the journal's later changes:
`corrected_labels.current` joins them. Nothing outside of this folder is written. Cells keep their numbers from edit to
edit, so the numbers may have gaps.

How to use it:

- `read(out)` returns all rows by image, from the one table; `get(out, entry)` that of one image.
- `standing(entry, correction)` is `AS_BEGUN`; `RECOUNTED` if the machine's labels have changed since, so that the
  correction stays and that is to be said; or `STALE` if the image was replaced: to be shown, never applied.
- `counts_of(entry, correction)` is the corrected count and count in the frame, where they take the machine's place: the
  image is checked and the correction not stale. What is only begun, or left out, does not change a count.
- `corrected_labels.current(out, stem)` returns the labels of an image as they are now.
- To change something: `correcting.work.Work`. It begins a correction, makes edits, and marks it as checked or left out.
- To write by other means: within `writing(out)`, which makes the folder, keeps other processes out for moments, and
  refuses a folder that is a link.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.errors import InputError
from cellseg_device.results.correction_journal import CHECKED, LEFT_OUT
from cellseg_device.results.entry import CELLS, LABELS, Entry, is_plain_name
from cellseg_device.system import files
from cellseg_device.system.csv_text import Rows, csv_bytes, heading_of

FOLDER_NAME, TABLE_NAME, EDITS = "corrections", "corrections.csv", ".edits.jsonl"
BEGUN = "begun"
STATES = (BEGUN, CHECKED, LEFT_OUT)
AS_BEGUN, RECOUNTED, STALE = "as begun", "recounted", "stale"


@dataclass(frozen=True)
class Correction:
    """A row of the table: the correction of one image, as of its last writing.

    Attributes
    ----------
    image : str
        Its name in the ledger.
    stem : str
        What the names of its files begin with.
    count, count_in_frame : int
        By the machine, when the correction began.
    corrected_count, corrected_in_frame : int
        The same of the corrected labels.
    state : str
        Of `STATES`.
    checked_at : str
        When it was last marked as checked or left out, ISO 8601 in UTC; empty if it is begun.
    by : str
        Who did that, or made the last edit; empty if nobody gave a name.
    image_sha256, labels_sha256 : str
        Digests of the image file, and of the machine's label image that it began from.
    revision : int
        Lines of the journal that the counts are of.
    """

    image: str
    stem: str
    count: int
    corrected_count: int
    count_in_frame: int
    corrected_in_frame: int
    state: str
    checked_at: str
    by: str
    image_sha256: str
    labels_sha256: str
    revision: int


COLUMNS = tuple(item.name for item in dataclasses.fields(Correction))
_NUMBERS = tuple(item.name for item in dataclasses.fields(Correction) if item.type == "int")


def folder_of(out: Path) -> Path:
    """Return the folder of the corrections of a results folder."""
    return out / FOLDER_NAME


def labels_path(out: Path, stem: str) -> Path:
    """Return the path of a corrected label image."""
    return folder_of(out) / f"{stem}{LABELS}"


def journal_path(out: Path, stem: str) -> Path:
    """Return the path of a journal."""
    return folder_of(out) / f"{stem}{EDITS}"


def read(out: Path) -> dict[str, Correction]:
    """Return all corrections by image, in the order of the table; none if there is no table.

    Raises
    ------
    InputError
        If the table is not one that cellseg wrote, or was damaged.
    OSError
        If it cannot be read, or a link leads to it.
    """
    path = folder_of(out) / TABLE_NAME
    try:
        _check_folder(folder_of(out))
        with open(path, newline="", encoding="utf-8", opener=lambda n, f: files.open_regular(Path(n), f)) as file:
            rows = Rows(file)
            if not set(rows.columns) >= set(COLUMNS):
                raise InputError(f"{path}: lacks columns of corrections: restore it, or move it away")
            found = [_parsed(path, rows.line_num, row) for row in rows]
    except FileNotFoundError:
        return {}
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is damaged ({error}): restore it, or move it away") from None
    return {correction.image: correction for correction in found}


def _parsed(path: Path, line: int, row: dict[str, str]) -> Correction:
    try:
        values = {name: int(row[name]) if name in _NUMBERS else str(row[name]) for name in COLUMNS}
        correction = Correction(**values)  # type: ignore[arg-type]  # the numbers are int
        if correction.state not in STATES or not is_plain_name(correction.stem):
            raise ValueError("unknown state or stem")
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: line {line} is not of a correction: restore it, or remove that line") from None
    return correction


def get(out: Path, entry: Entry) -> Correction | None:
    """Return the correction of an image; None if it has none. Raises as `read` does."""
    return read(out).get(entry.image)


def standing(entry: Entry, correction: Correction) -> str:
    """Return how a correction stands to what the ledger has of its image now: `AS_BEGUN`, `RECOUNTED` or `STALE`."""
    if is_stale(correction, entry.sha256, entry.stem):
        return STALE
    return AS_BEGUN if entry.digests().get(f"{entry.stem}{LABELS}", "") == correction.labels_sha256 else RECOUNTED


def is_stale(correction: Correction, image_sha256: str | None, stem: str | None) -> bool:
    """Whether a correction is of another image than the one with this digest and stem, which took its place."""
    return image_sha256 != correction.image_sha256 or stem != correction.stem


def counts_of(entry: Entry, correction: Correction | None) -> tuple[int, int] | None:
    """Return the corrected count and count in the frame where they take the place of the machine's; None elsewhere."""
    if correction is None or correction.state != CHECKED or standing(entry, correction) == STALE:
        return None
    return correction.corrected_count, correction.corrected_in_frame


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Give the folder of the corrections, which is made, while no other process writes there.

    Raises
    ------
    OSError
        If it is a link or no folder, the disk refuses, or another process writes there for more than 10 s.
    """
    folder = folder_of(out)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        files.sync_folder(out)
    _check_folder(folder)
    with files.write_lock(folder):
        files.remove_leftovers(folder)
        yield folder


def put(folder: Path, corrections: dict[str, Correction]) -> None:
    """Write the table; to be called within `writing`, with its folder and all rows.

    Raises
    ------
    OSError
        If the disk refuses, or another program's file has its name; the former table is as it was.
    """
    path = folder / TABLE_NAME
    if not files.may_replace(path, lambda start: heading_of(start) >= set(COLUMNS)):
        raise OSError(errno.EEXIST, f"{TABLE_NAME} is not of cellseg: move it away", str(path))
    files.write(path, table_bytes(corrections))


def table_bytes(corrections: dict[str, Correction]) -> bytes:
    """Return the content of the table."""
    return csv_bytes([COLUMNS, *map(dataclasses.astuple, corrections.values())], line_end="\n")


def set_aside(out: Path, stem: str) -> list[str]:
    """Give the files of a correction other names, under which they are kept, and return those.

    ``STEM.edits.jsonl`` becomes ``STEM.former-1.edits.jsonl``, or with the next number that is free. To be called
    within `writing`; its row is to be removed or replaced there, too.
    """
    folder = folder_of(out)
    names = [name for end in (EDITS, LABELS, CELLS) if os.path.lexists(folder / (name := f"{stem}{end}"))]
    number = 1
    while any(os.path.lexists(folder / _former(name, stem, number)) for name in names):
        number += 1
    for name in names:  # the journal goes first: without one there is no correction
        (folder / name).rename(folder / _former(name, stem, number))
    files.sync_folder(folder)
    return [_former(name, stem, number) for name in names]


def _former(name: str, stem: str, number: int) -> str:
    return f"{stem}.former-{number}{name.removeprefix(stem)}"


def _check_folder(folder: Path) -> None:
    """Raise an OSError if it is a link, which may lead anywhere, or no folder."""
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise OSError(errno.ENOTDIR, f"{folder.name} is not a folder: move it away", str(folder))
