"""Write the files of a report, each whole and all at once."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cellseg_device.errors import OutputError
from cellseg_device.system import csv_text, files
from cellseg_host.json_text import to_json
from cellseg_host.report.build import Report

Rows = Sequence[Mapping[str, Any]]

PAGE, SUMMARY, SCORES = "index.html", "summary.json", "scores.csv"


def write(folder: Path, report: Report) -> None:
    """Write the page, summary.json and the tables as CSV.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    _write(folder, {PAGE: report.page.encode()}, report.tables, report.document)


def write_scores(folder: Path, rows: Rows, document: Mapping[str, Any]) -> None:
    """Write scores.csv and summary.json, where there is no page; raises OutputError as `write`."""
    _write(folder, {}, {SCORES: rows}, document)


def _write(folder: Path, contents: dict[str, bytes], tables: Mapping[str, Rows], document: Mapping[str, Any]) -> None:
    contents = {**contents, SUMMARY: json_bytes(document), **{name: csv_bytes(rows) for name, rows in tables.items()}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_all(folder, {name: partial(_put, data) for name, data in contents.items()})
    except OSError as error:
        raise OutputError(f"{folder}: the report cannot be written ({error.strerror}): choose another --out") from None


def csv_bytes(rows: Rows) -> bytes:
    """Return a table as CSV: fractions with six decimals, nothing where a number is undefined."""
    return csv_text.csv_bytes([list(rows[0]), *([_cell(row.get(k)) for k in rows[0]] for row in rows)])


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON, with null for numbers that are not finite."""
    return (json.dumps(finite(json.loads(to_json(document))), indent=2, ensure_ascii=False) + "\n").encode()


def finite(value: Any) -> Any:
    """Return the same document with None for NaN and infinities, which JSON cannot express."""
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
