"""A summary as a workbook for spreadsheets (.xlsx), whose texts are texts and whose numbers are numbers."""

from __future__ import annotations

import importlib.util
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from cellseg_device.errors import InputError
from cellseg_device.system.csv_text import is_formula

MADE_BY = b"made by cellseg-device, and not saved since"  # the archive's comment: a spreadsheet's own has none
MOST_ROWS = 2**20 - 1  # of a sheet, beside its heading
_MOST_TEXT = 32_767  # of a cell


@dataclass(frozen=True)
class Sheet:
    """A sheet of a workbook: at most `MOST_ROWS` rows, of texts, numbers and None."""

    name: str
    columns: Sequence[str]
    rows: Iterable[Sequence[object]]


def check_library() -> None:
    """Raise InputError if what writes workbooks is not installed."""
    if importlib.util.find_spec("xlsxwriter") is None:
        raise InputError("--xlsx needs the package XlsxWriter: install it with 'pip install XlsxWriter'")


def write(file: BinaryIO, sheets: Iterable[Sheet]) -> None:
    """Write a workbook; its rows go through a temporary file and not through the memory."""
    import xlsxwriter  # here, since it is an extra

    with xlsxwriter.Workbook(file, {"constant_memory": True}) as book:
        bold, literal = book.add_format({"bold": True}), book.add_format({"quote_prefix": True})
        for sheet in sheets:
            page = book.add_worksheet(sheet.name)
            page.freeze_panes(1, 0)
            page.set_column(0, 0, 32)
            page.set_column(1, max(len(sheet.columns) - 1, 1), 16)
            for column, name in enumerate(sheet.columns):
                page.write_string(0, column, name, bold)
            for number, row in enumerate(sheet.rows, 1):
                for column, value in enumerate(row):
                    _put(page, number, column, value, literal)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = MADE_BY


def _put(page: Any, row: int, column: int, value: object, literal: object) -> None:
    """Write a value as what it is: a text that looks like a formula stays a text, even when somebody edits it."""
    if isinstance(value, str):
        page.write_string(row, column, value[:_MOST_TEXT], *([literal] if is_formula(value) else []))
    elif isinstance(value, int | float) and math.isfinite(value):
        page.write_number(row, column, value)
