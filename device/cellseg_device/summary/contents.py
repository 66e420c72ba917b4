"""The files of one summary, each as what writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cellseg_device.results import image_files
from cellseg_device.summary import figures, group_table, tables, workbook
from cellseg_device.summary.cells import CellTable, cell_table
from cellseg_device.summary.corrected import COLUMNS, Checked
from cellseg_device.summary.pool import TOTAL, Diameters, Group
from cellseg_device.summary.tables import Field
from cellseg_device.summary.workbook import Sheet
from cellseg_device.system import files
from cellseg_device.system.csv_text import BYTE_ORDER_MARK, csv_bytes


@dataclass(frozen=True)
class Summed:
    """What a summary is of.

    Attributes
    ----------
    out : Path
        The output folder.
    fields : sequence of Field
    names : sequence of str
        Name of the group of each; all `pool.TOTAL` if there are no groups.
    diameters : sequence of ndarray of float32
        In pixels, of the cells of each; empty where they could not be read.
    groups : sequence of Group
        The rows of the table.
    checked : Checked
        The corrections that the fields have.
    """

    out: Path
    fields: Sequence[Field]
    names: Sequence[str]
    diameters: Sequence[Diameters]
    groups: Sequence[Group]
    checked: Checked = field(default_factory=lambda: Checked({}))


def contents(
    summed: Summed, *, with_cells: bool, with_book: bool, warn: Callable[[str], None]
) -> dict[str, Callable[[BinaryIO], object]]:
    """Return by file name what writes each file of a summary, as `save.save` takes it.

    Parameters
    ----------
    summed : Summed
    with_cells : bool
        Whether to write the table of all cells.
    with_book : bool
        Whether to write a workbook.
    warn : callable
        Receives a line for all that is left out.
    """
    fields, names = summed.fields, summed.names
    table = csv_bytes([group_table.COLUMNS, *group_table.rows(summed.groups)], float_format=".6g", line_end="\n")
    made: dict[str, Callable[[BinaryIO], object]] = {
        image_files.SUMMARY_TABLE: files.holding(BYTE_ORDER_MARK + table),
        image_files.SUMMARY_COUNTS: files.holding(figures.counts_per_image(fields, names)),
        image_files.SUMMARY_SIZES: files.holding(figures.sizes(fields, names, summed.diameters)),
    }
    cells = _cells(summed) if with_cells else None
    if cells is not None:
        made[image_files.SUMMARY_CELLS] = lambda file: cells.write_csv(file, warn)
    if with_book:
        made[image_files.SUMMARY_BOOK] = lambda file: workbook.write(file, _sheets(summed, cells, warn))
    return made


def _cells(summed: Summed) -> CellTable:
    """Return the table of the cells of those images whose tables could be read."""
    read = [at for at, field in enumerate(summed.fields) if len(summed.diameters[at]) == field.count]
    return cell_table(summed.out, [summed.fields[at] for at in read], [summed.names[at] for at in read])


def _sheets(summed: Summed, cells: CellTable | None, warn: Callable[[str], None]) -> Iterator[Sheet]:
    yield Sheet("groups", group_table.COLUMNS, group_table.rows(summed.groups))
    yield _images(summed)
    if cells is not None and cells.number > workbook.MOST_ROWS:
        warn(
            f"{image_files.SUMMARY_BOOK} is without the {cells.number:,} cells, since a sheet holds "
            f"{workbook.MOST_ROWS:,}: they are in {image_files.SUMMARY_CELLS}"
        )
    elif cells is not None:
        yield Sheet("cells", cells.columns, cells.rows(_said_before))


def _said_before(_line: str) -> None:
    """Receive what has been said of the same cells in the other table."""


def _images(summed: Summed) -> Sheet:
    """Return the sheet of the images: their rows in ``counts.csv``, with the group of each."""
    group_of = {one.image: name for one, name in zip(summed.fields, summed.names, strict=True)}
    columns, rows = with_corrected(*tables.read_image_rows(summed.out, group_of), summed.checked)
    if set(summed.names) <= {TOTAL}:
        return Sheet("images", columns, rows)
    at = columns.index("image") + 1
    named = [[*row[:at], group_table.shown(group_of[str(row[at - 1])]), *row[at:]] for row in rows]
    return Sheet("images", [*columns[:at], "group", *columns[at:]], named)


def with_corrected(
    columns: list[str], rows: list[list[object]], checked: Checked
) -> tuple[list[str], list[list[object]]]:
    """Return columns and rows of ``counts.csv`` with the corrected counts beside the machine's, if there are any."""
    if not checked.by_image:
        return columns, rows
    image, at = columns.index("image"), columns.index("count_in_frame") + 1
    added = [[*row[:at], *checked.values(str(row[image])), *row[at:]] for row in rows]
    return [*columns[:at], *COLUMNS, *columns[at:]], added
