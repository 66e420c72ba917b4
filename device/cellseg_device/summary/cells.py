"""All cells of all images in one table, an image at a time: of 10,000 images they would fill the memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cellseg_device.cells.measure import FIRST_COLUMNS
from cellseg_device.errors import InputError
from cellseg_device.summary import tables
from cellseg_device.summary.group_table import shown
from cellseg_device.summary.pool import TOTAL
from cellseg_device.summary.tables import Field
from cellseg_device.system.csv_text import BYTE_ORDER_MARK, csv_bytes


@dataclass(frozen=True)
class CellTable:
    """The table of all cells, which is read as it is written.

    Attributes
    ----------
    out : Path
        The output folder.
    fields : sequence of Field
        The images, those whose tables of cells are known to be whole.
    groups : sequence of str
        Name of the group of each; all `pool.TOTAL` if there are no groups.
    columns : tuple of str
        Of the table: image, group if there are groups, the columns that every image's table has, and those that
        only some have.
    """

    out: Path
    fields: Sequence[Field]
    groups: Sequence[str]
    columns: tuple[str, ...]

    @property
    def number(self) -> int:
        """How many cells there are."""
        return sum(field.count for field in self.fields)

    def write_csv(self, file: BinaryIO, warn: Callable[[str], None]) -> None:
        """Write the table as CSV; what cannot be read any more is left out, with a line for `warn`."""
        file.write(BYTE_ORDER_MARK + csv_bytes([self.columns], line_end="\n"))
        for names, lines in self._parts(warn):
            start = csv_bytes([names], line_end="").decode()
            file.write("".join([f"{start},{line}\n" for line in lines]).encode())

    def rows(self, warn: Callable[[str], None]) -> Iterator[list[object]]:
        """Yield a row for each cell; its numbers are numbers, and what is unknown is None."""
        for names, lines in self._parts(warn):
            for line in lines:
                yield [*names, *map(tables.number_or_text, line.split(","))]

    def _parts(self, warn: Callable[[str], None]) -> Iterator[tuple[list[str], list[str]]]:
        """Yield for each image its names, and its lines with the columns of all."""
        wanted = self.columns[len(self._names(0)) :] if self.fields else ()
        for index, field in enumerate(self.fields):
            try:
                columns, lines = tables.read_cells(self.out, field)
            except InputError as error:
                warn(error.message)
                continue
            yield self._names(index), [*_arranged(lines, columns, wanted)]

    def _names(self, index: int) -> list[str]:
        image, group = self.fields[index].image, self.groups[index]
        return [image] if group == TOTAL else [image, shown(group)]


def cell_table(out: Path, fields: Sequence[Field], groups: Sequence[str]) -> CellTable:
    """Return the table of the cells of some images; as for `CellTable`."""
    columns: dict[str, None] = dict.fromkeys(FIRST_COLUMNS)
    for field in fields:
        with contextlib.suppress(InputError):  # found again as it is read
            columns |= dict.fromkeys(tables.read_cell_columns(out, field))
    names = ["image"] if set(groups) <= {TOTAL} else ["image", "group"]
    return CellTable(out, fields, groups, (*names, *columns))


def _arranged(lines: Iterable[str], columns: Sequence[str], wanted: Sequence[str]) -> Iterator[str]:
    """Yield lines with other columns than they have; those that they lack are empty."""
    if [*columns] == [*wanted]:
        yield from lines
        return
    places = [columns.index(name) if name in columns else None for name in wanted]
    for line in lines:
        values = line.split(",")
        yield ",".join(["" if place is None else values[place] for place in places])
