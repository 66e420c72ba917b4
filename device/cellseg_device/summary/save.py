"""Writing the files of a summary: all of one summary, and none over a file of somebody else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import BinaryIO

from cellseg_device.errors import InputError, OutputError
from cellseg_device.results.image_files import SUMMARY_BOOK, SUMMARY_CELLS, SUMMARY_NAMES, SUMMARY_TABLE
from cellseg_device.summary import chart, workbook
from cellseg_device.system import files
from cellseg_device.system.csv_text import heading_of

_TABLES_HAVE = {
    SUMMARY_TABLE: {"group", "images", "flagged", "cells", "cells_in_frame"},
    SUMMARY_CELLS: {"image", "label", "area_px"},
}
_LONGEST_START = 1 << 12
_LONG = {SUMMARY_CELLS, SUMMARY_BOOK}  # what may take minutes to write, for which a running watch cannot wait


def save(to: Path, contents: Mapping[str, Callable[[BinaryIO], object]]) -> list[Path]:
    """Write the files, and return their paths; files of a former summary are replaced or removed.

    They are removed first: if this is stopped, some files may be missing, but those that are there belong together.

    Parameters
    ----------
    to : Path
        The folder; made if it does not exist.
    contents : mapping of str to callable
        By the names of `image_files.SUMMARY_NAMES`, as `files.write_all` takes them.

    Raises
    ------
    InputError
        If a file that is not a summary's has one of the names, or `to` is not a folder.
    OutputError
        If the disk refuses.
    """
    try:
        to.mkdir(parents=True, exist_ok=True)
        for name in contents:
            if not _is_ours(to / name):
                raise InputError(f"{to / name} is not of a summary: move it away, or choose another folder with --out")
        with _safe_from_a_start(to) if contents.keys().isdisjoint(_LONG) else contextlib.nullcontext():
            _write(to, contents)
    except FileExistsError:
        raise InputError(f"{to} is not a folder: choose another --out") from None
    except OSError as error:
        raise OutputError(f"{to} cannot be written to ({error.strerror}): choose another folder with --out") from None
    return [to / name for name in contents]


def _write(to: Path, contents: Mapping[str, Callable[[BinaryIO], object]]) -> None:
    try:
        files.write_all(to, contents, before_renames=lambda: _remove_former(to, contents))
    except FileNotFoundError:
        raise OutputError(f"a cellseg-device that was started in {to} meanwhile cleared it up: try again") from None


def _safe_from_a_start(to: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the write lock, if the folder has one: a watch that starts there removes temporary files only within it."""
    return files.write_lock(to) if (to / files.TURN_NAME).exists() else contextlib.nullcontext()


def _remove_former(to: Path, names: Collection[str]) -> None:
    for name in SUMMARY_NAMES:
        path = to / name
        if files.is_regular(path) and _is_ours(path) and (name in names or path.stat().st_size):
            path.unlink()
    files.sync_folder(to)


def _is_ours(path: Path) -> bool:
    """Whether a file may be replaced: it begins as ours do, has no content, or does not exist."""

    def begins_as_ours(start: bytes) -> bool:
        if path.name in _TABLES_HAVE:
            return heading_of(start) >= _TABLES_HAVE[path.name]
        if path.name == SUMMARY_BOOK:
            return _ends_with(path, workbook.MADE_BY)
        return "\0".join(chart.MADE_BY).encode() in start[:_LONGEST_START]

    return files.may_replace(path, begins_as_ours)


def _ends_with(path: Path, end: bytes) -> bool:
    """Whether a file ends so: that of a workbook which somebody has saved since is theirs."""
    with open(path, "rb") as file:
        file.seek(-min(len(end), path.stat().st_size), 2)
        return file.read() == end
