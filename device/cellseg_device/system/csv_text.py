"""Text in CSV files, written so that no spreadsheet takes it for a formula, and read back as it was.

A spreadsheet computes a cell that begins with ``=``, ``+``, ``-`` or ``@``, so a file name could do something on the
computer of whoever opens the table (CWE-1236), and quotes do not help. Such a text gets one apostrophe in front, with
which it is a text everywhere. So does one that begins so after apostrophes or spaces: taking away one apostrophe gives
each of them back. The same is done after a semicolon, which begins a cell where the comma is the decimal mark. Numbers
and all other texts are written as they are.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

# What tells a spreadsheet that a file is UTF-8: only what it is to open has it, since it is in the way elsewhere
BYTE_ORDER_MARK = codecs.BOM_UTF8

# Characters that begin a formula, by themselves or because a spreadsheet drops them: OWASP's list, and the wide forms
_FORMULA = re.compile(r"[' ]*[=+\-@＝＋－＠\t\r\n\0]")


def escaped(text: str) -> str:
    """Return a text as it is to stand in a CSV file.

    Examples
    --------
    >>> print(escaped("=1+1.png"), escaped("'=1.png"), escaped("a;=1.png"), escaped("'a-1.png"))
    '=1+1.png ''=1.png a;'=1.png 'a-1.png
    """
    return ";".join(["'" + cell if is_formula(cell) else cell for cell in text.split(";")])


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would compute a cell with this text, or take it for something else."""
    return _FORMULA.match(text) is not None


def unescaped(text: str) -> str:
    """Return the text that `escaped` made this of; what it would not have made is returned as it is."""
    return ";".join([cell[1:] if cell[:1] == "'" and is_formula(cell) else cell for cell in text.split(";")])


def heading_of(start: bytes) -> frozenset[str]:
    """Return the names in the first line of a table, whatever separators a spreadsheet saved it with."""
    line, *_ = start.split(b"\n")
    return frozenset(name.strip('" ') for name in re.split(r"[,;\t]", line.decode("utf-8-sig", "replace").strip()))


def csv_bytes(rows: Iterable[Iterable[object]], *, float_format: str = "", line_end: str = "\r\n") -> bytes:
    """Return a table as CSV in UTF-8, its texts escaped; what is None is an empty cell.

    Parameters
    ----------
    rows : iterable of iterable
        The header first, if there is one. A str is a text; numbers are to be given as such.
    float_format : str
        As for `format`.
    line_end : str
    """

    def shown(cell: object) -> object:
        if isinstance(cell, str):
            return escaped(cell)
        return format(cell, float_format) if isinstance(cell, float) else cell

    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end).writerows([shown(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


class Rows(Iterator[dict[str, str]]):
    """The rows of a CSV file with a header, as `csv.DictReader` gives them, its texts as they were before `csv_bytes`.

    Parameters
    ----------
    lines : iterable of str
        A file opened with ``newline=""``.

    Attributes
    ----------
    as_written : dict of str to str
        The last row, its texts as they stand in the file.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._reader = csv.DictReader(lines)
        self.as_written: dict[str, str] = {}

    @property
    def line_num(self) -> int:
        """Number of lines read."""
        return self._reader.line_num

    @property
    def columns(self) -> list[str]:
        """The header; empty for an empty file."""
        return [unescaped(name) for name in self._reader.fieldnames or ()]

    def __next__(self) -> dict[str, str]:
        self.as_written = next(self._reader)
        return {_text(name): _text(cell) for name, cell in self.as_written.items()}


def _text(cell: Any) -> Any:
    """Leave alone what `csv.DictReader` gives for a row with too few cells, or too many."""
    return unescaped(cell) if isinstance(cell, str) else cell
