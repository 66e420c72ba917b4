"""``cellseg-device summary``: the results of many images, summed up in a table, a CSV file and two charts."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command
from cellseg_device.commands.common import PATH, results_argument
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError
from cellseg_device.stderr import say
from cellseg_device.units import plural

if TYPE_CHECKING:
    from cellseg_device.summary.pool import Diameters, Group
    from cellseg_device.summary.tables import Field

_MOST_SHOWN = 5


@click.command(cls=Command, short_help="Sum up the results in a table, a CSV file and charts.")
@results_argument
@click.option(
    "--group",
    "pattern",
    metavar="REGEX",
    help="Pool the images for which this pattern matches the same text in the name: its first (...), its named groups "
    "joined by -, or else the whole match.",
)
@click.option("--cells", "with_cells", is_flag=True, help="Also write summary-cells.csv: all cells of all images.")
@click.option(
    "--xlsx",
    "with_book",
    is_flag=True,
    help="Also write summary.xlsx, a workbook of the groups and the images and, with --cells, of the cells.",
)
@click.option("--as-counted", is_flag=True, help="Use the machine's counts also where a person corrected them.")
@click.option("--out", "to", type=PATH, help="Folder for the files.  [default: RESULTS]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def summary(
    *,
    out: Path,
    pattern: str | None,
    with_cells: bool,
    with_book: bool,
    as_counted: bool,
    to: Path | None,
    as_json: bool,
) -> None:
    """Sum up the results in the folder RESULTS: a table, summary.csv, and two charts.

    The charts are summary-counts.png (cells per image) and summary-sizes.png (diameters of the cells). RESULTS may also
    be the folder that was watched, if the results are in cellseg-results there. Only tables are read, so this works
    beside a running watch, and on a copy of the folder on another computer.

    What is headed "in the counting frame", and cells/mm2 and cells/mL with it, is of the cells by the counting-frame
    rule; what is headed "all cells" is of all. The dispersion is about 1 if the images of a group differ by chance
    alone. Images that a person has checked have the corrected counts and cells. If something has to be left out, it is
    named, and the exit code is 1.

    \b
    Examples:
      cellseg-device summary /captures
      cellseg-device summary cellseg-results --cells --xlsx
      cellseg-device summary /results --group '^([A-H][0-9]+)_' --out report
      cellseg-device summary /results --group '(?P<day>[0-9]{8})_(?P<dish>[^_]+)' --json
    """
    from cellseg_device.summary import corrected, group_table, tables, workbook
    from cellseg_device.summary import pool as pooling
    from cellseg_device.summary.contents import Summed, contents
    from cellseg_device.summary.save import save

    if with_book:
        workbook.check_library()
    compiled = pooling.compile_pattern(pattern) if pattern is not None else None
    lost: list[str] = []
    checked = corrected.Checked({}) if as_counted else corrected.read(out)
    fields = checked.applied(tables.read_fields(out, lost.append))
    diameters = _diameters(out, fields, lost.append)
    images = [field.image for field in fields]
    names = pooling.group_names(images, compiled) if compiled is not None else [pooling.TOTAL] * len(images)
    groups = _pooled(fields, names, diameters) if compiled is not None else []
    total = pooling.pool(pooling.TOTAL, fields, diameters)
    rows = [*groups, total] if len(groups) != 1 else groups
    whole = Summed(out, fields, names, diameters, rows, checked)
    written = save(to or out, contents(whole, with_cells=with_cells, with_book=with_book, warn=lost.append))
    for line in [*checked.notes, *lost[:_MOST_SHOWN]]:
        say(line)
    if len(lost) > _MOST_SHOWN:
        say(f"and {len(lost) - _MOST_SHOWN:,} more (--json names all)")
    if as_json:
        result = {
            "groups": [dataclasses.asdict(group) for group in groups],
            "total": dataclasses.asdict(total),
            "left_out": lost,
            "notes": checked.notes,
            "files": [str(path) for path in written],
        }
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        click.echo(group_table.text(rows))
        if total.checked:
            click.echo(
                f"\nchecked: {plural(total.checked, 'image')} counted as a person corrected them (--as-counted for the "
                "machine's counts)"
            )
        _warn_of_uneven(groups or [total])
        click.echo(f"\nwritten: {', '.join(str(path) for path in written)}")
    raise SystemExit(EXIT_IMAGES_FAILED if lost else EXIT_OK)


def _warn_of_uneven(groups: Sequence[Group]) -> None:
    """Name the groups whose images differ by more than chance."""
    from cellseg_device.summary.group_table import shown

    uneven = [group for group in groups if group.exceeds_chance]
    if uneven:
        has_interval = any(group.concentration_per_ml is not None for group in uneven)
        meaning = "; there the interval of cells/mL, which assumes chance alone, is too narrow" if has_interval else ""
        click.echo(f"\nimages differ by more than chance in {', '.join(shown(g.group) for g in uneven)}{meaning}")


def _diameters(out: Path, fields: Sequence[Field], warn: Callable[[str], None]) -> list[Diameters]:
    """Return the diameters of each field's cells; empty, with a warning, if they cannot be read."""
    import numpy as np

    from cellseg_device.summary import tables

    found = []
    hidden = len(fields) < 2 or sys.stderr is None or not sys.stderr.isatty()
    with click.progressbar(fields, label="reading cells", file=sys.stderr, hidden=hidden) as bar:
        for field in bar:
            try:
                found.append(tables.read_diameters(out, field))
            except InputError as error:
                warn(error.message)
                found.append(np.zeros(0, np.float32))
    return found


def _pooled(fields: Sequence[Field], names: Sequence[str], diameters: Sequence[Diameters]) -> list[Group]:
    from cellseg_device.summary import pool as pooling

    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    return [
        pooling.pool(name, [fields[i] for i in members[name]], [diameters[i] for i in members[name]])
        for name in pooling.in_order(members)
    ]
