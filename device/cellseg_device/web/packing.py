"""The process that writes one download to standard output, a part at a time: tables of all images, or a ZIP of some.

What is left out is said on standard error, and the exit code is 1 if nothing can be written.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from cellseg_device.correcting import teaching
from cellseg_device.errors import CellsegError, InputError
from cellseg_device.results import correction_file
from cellseg_device.results.entry import DONE
from cellseg_device.results.folder import result_names
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.stderr import say_error
from cellseg_device.summary import corrected, tables, workbook
from cellseg_device.summary.cells import CellTable, cell_table
from cellseg_device.summary.contents import with_corrected
from cellseg_device.summary.pool import TOTAL
from cellseg_device.summary.workbook import Sheet
from cellseg_device.system import files
from cellseg_device.web import answering

_NICE = 10  # counting goes first
_DEFLATED = (".csv", ".txt", ".geojson", ".json")  # the others are compressed already
_BLOCK_BYTES = 1 << 18
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the same results give the same archive


def cells(out: Path, to: BinaryIO) -> None:
    """Write all cells of all images in one table, as CSV."""
    _cells(out).write_csv(to, say_error)


def book(out: Path, to: BinaryIO) -> None:
    """Write a workbook of the images and, as far as a sheet holds them, their cells."""
    workbook.check_library()
    table = _cells(out)
    images = {field.image for field in table.fields}
    columns, rows = with_corrected(*tables.read_image_rows(out, images), corrected.read(out))
    sheets = [Sheet("images", columns, rows)]
    if table.number <= workbook.MOST_ROWS:
        sheets.append(Sheet("cells", table.columns, table.rows(say_error)))
    with tempfile.TemporaryFile() as file:
        workbook.write(file, sheets)
        file.seek(0)
        shutil.copyfileobj(file, to, _BLOCK_BYTES)


def _cells(out: Path) -> CellTable:
    fields = corrected.read(out).applied(tables.read_fields(out, say_error))
    return cell_table(out, fields, [TOTAL] * len(fields))


def results(out: Path, images: Sequence[str], to: BinaryIO) -> None:
    """Write the result files of some images, by their names in the ledger, into a ZIP archive."""
    with closing(Ledger(out / FILE_NAME, is_for_reading=True)) as ledger, zipfile.ZipFile(to, "w") as archive:
        for image in images:
            entry = ledger.get(image)
            for name in result_names(entry) if entry is not None and entry.status == DONE else ():
                _add(archive, out / name)


def corrections(out: Path, folder: Path | None, to: BinaryIO) -> None:
    """Write what was checked, as a file of corrections; what cannot be had is said.

    Parameters
    ----------
    out : Path
        The output folder.
    folder : Path or None
        Where the images are; None for where `export` looks for them.
    to : file
    """
    found = teaching.material(out)
    with answering.originals_of(out, folder) as originals, tempfile.TemporaryDirectory() as temporary:
        parts = teaching.Teaching(out, found, originals)
        path = Path(temporary) / correction_file.FILE_NAME
        try:
            correction_file.write(path, parts, card=found.card, model_sha256=found.model_sha256)
        except InputError as error:
            image, reason = next(iter(parts.left_out.items()), ("", ""))
            raise InputError(f"{image} {reason}" if reason else error.message) from None
        with open(path, "rb") as file:
            shutil.copyfileobj(file, to, _BLOCK_BYTES)
        for image, reason in parts.left_out.items():
            say_error(f"{image} {reason}")


def _add(archive: zipfile.ZipFile, path: Path) -> None:
    """Add a file to an archive, a part at a time; one that is gone is left out."""
    try:
        file = open(path, "rb", opener=files.regular)  # noqa: SIM115 - closed below
    except OSError:
        return
    about = zipfile.ZipInfo(path.name, _EARLIEST)
    about.compress_type = zipfile.ZIP_DEFLATED if path.name.endswith(_DEFLATED) else zipfile.ZIP_STORED
    with file, archive.open(about, "w", force_zip64=True) as inside:
        shutil.copyfileobj(file, inside, _BLOCK_BYTES)


def main(kind: str, out: Path) -> int:
    """Write a download, and return the exit code; for ``results`` the names come as JSON on standard input."""
    os.nice(_NICE)
    writers: dict[str, Callable[[BinaryIO], None]] = {
        "cells": lambda to: cells(out, to),
        "book": lambda to: book(out, to),
        "results": lambda to: results(out, json.load(sys.stdin), to),
        "corrections": lambda to: corrections(out, _path(sys.stdin.buffer.read()), to),
    }
    try:
        writers[kind](sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except CellsegError as error:
        say_error(error.message)
        return 1
    except OSError as error:
        say_error(f"cannot be read or written ({error.strerror}): check the disk")
        return 1
    return 0


def _path(given: bytes) -> Path | None:
    return Path(os.fsdecode(given)) if given else None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2])))
