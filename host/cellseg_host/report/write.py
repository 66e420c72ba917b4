"""The files of a report: they appear together, each whole."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cellseg_device import files
from cellseg_device.errors import InputError, OutputError
from cellseg_host.console import to_json
from cellseg_host.report.build import Report

PAGE, SUMMARY = "index.html", "summary.json"


def check_new(folder: Path) -> None:
    """Refuse a folder that holds something, before any work is done.

    Raises
    ------
    InputError
        If there is anything, or something that is no folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not empty: choose a new folder for --out")


def write(folder: Path, report: Report) -> None:
    """Write the page, summary.json and the tables as CSV.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    contents = {PAGE: report.page.encode(), SUMMARY: json_bytes(report.document)}
    contents |= {name: csv_bytes(rows) for name, rows in report.tables.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_all(folder, {name: partial(_put, data) for name, data in contents.items()})
    except OSError as error:
        raise OutputError(f"{folder}: the report cannot be written ({error.strerror}): choose another --out") from None


def csv_bytes(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A table as CSV: fractions with six decimals, nothing where a number is not finite."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({k: _cell(v) for k, v in row.items()} for row in rows)
    return text.getvalue().encode()


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as JSON, with null for numbers that are not finite."""
    return (json.dumps(finite(json.loads(to_json(document))), indent=2, ensure_ascii=False) + "\n").encode()


def finite(value: Any) -> Any:
    """The same document with None for NaN and infinities, which JSON has no words for."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _put(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else ""
