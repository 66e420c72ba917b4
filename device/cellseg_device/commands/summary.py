"""``cellseg-device summary``: what many images come to, as a table, a CSV file and two charts."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.commands.common import PATH
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError, OutputError
from cellseg_device.quiet import say

if TYPE_CHECKING:
    from cellseg_device.summary import Diameters, Group
    from cellseg_device.tables import Field

_MOST_TOLD = 5


@click.command()
@click.argument("out", type=PATH)
@click.option(
    "--group",
    "pattern",
    metavar="REGEX",
    help="Pool the images in whose names this finds the same: its first (...), its named ones joined by -, or all.",
)
@click.option("--to", type=PATH, help="Folder for the files.  [default: OUT]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def summary(out: Path, pattern: str | None, to: Path | None, as_json: bool) -> None:
    """Sum up the results in the folder OUT: a table, summary.csv, and two charts.

    The charts are summary-counts.png (cells per image over time) and summary-sizes.png (diameters of the cells).
    Only tables are read, so it works beside a running watch, and on a copy of the folder on another computer.

    Means and concentrations are of the cells by the counting-frame rule. var/mean is about 1 where the images of a
    group differ by chance alone. Exit code 1 where something had to be left out: it is named.

    \b
    Examples:
      cellseg-device summary cellseg-results
      cellseg-device summary /results --group '^([A-H][0-9]+)_' --to report
      cellseg-device summary /results --group '(?P<day>[0-9]{8})_(?P<dish>[^_]+)' --json
    """
    from cellseg_device import summary as pooling
    from cellseg_device import tables

    compiled = pooling.compile_pattern(pattern) if pattern is not None else None
    lost: list[str] = []
    fields = tables.read_fields(out, lost.append)
    diameters = _diameters(out, fields, lost.append)
    images = [field.image for field in fields]
    names = pooling.group_names(images, compiled) if compiled is not None else [pooling.TOTAL] * len(images)
    groups = _pooled(fields, names, diameters) if compiled is not None else []
    total = pooling.pool(pooling.TOTAL, fields, diameters)
    written = _write(to or out, fields, names, diameters, [*groups, total] if len(groups) != 1 else groups)
    for line in lost[:_MOST_TOLD]:
        say(line)
    if len(lost) > _MOST_TOLD:
        say(f"and {len(lost) - _MOST_TOLD:,} more (--json names all)")
    if as_json:
        told = {
            "groups": [dataclasses.asdict(group) for group in groups],
            "total": dataclasses.asdict(total),
            "left_out": lost,
            "files": [str(path) for path in written],
        }
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        rows = [*groups, total] if len(groups) != 1 else groups
        click.echo(_table(rows))
        _tell_uneven(groups or [total])
        click.echo(f"\nwritten: {', '.join(str(path) for path in written)}")
    raise SystemExit(EXIT_IMAGES_FAILED if lost else EXIT_OK)


def _tell_uneven(groups: Sequence[Group]) -> None:
    uneven = [group for group in groups if group.exceeds_chance]
    if uneven:
        has_interval = any(group.concentration_per_ml is not None for group in uneven)
        meaning = "; the interval of cells/mL, of chance alone, is too narrow there" if has_interval else ""
        click.echo(f"\nimages differ by more than chance in {', '.join(_shown(g.group) for g in uneven)}{meaning}")


def _diameters(out: Path, fields: Sequence[Field], tell: Callable[[str], None]) -> list[Diameters]:
    """Read the diameters of the cells of each field; empty, and told, where that cannot be."""
    import numpy as np

    from cellseg_device import tables

    found = []
    hidden = len(fields) < 2 or sys.stderr is None or not sys.stderr.isatty()
    with click.progressbar(fields, label="reading cells", file=sys.stderr, hidden=hidden) as bar:
        for field in bar:
            try:
                found.append(tables.read_diameters(out, field))
            except InputError as error:
                tell(error.message)
                found.append(np.zeros(0, np.float32))
    return found


def _pooled(fields: Sequence[Field], names: Sequence[str], diameters: Sequence[Diameters]) -> list[Group]:
    from cellseg_device import summary as pooling

    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    return [
        pooling.pool(name, [fields[i] for i in members[name]], [diameters[i] for i in members[name]])
        for name in pooling.in_order(members)
    ]


def _write(
    to: Path, fields: Sequence[Field], names: Sequence[str], diameters: Sequence[Diameters], rows: Sequence[Group]
) -> list[Path]:
    """Write the files, all of them or none."""
    import contextlib

    from cellseg_device import files, results, summary_plots

    contents = {
        results.SUMMARY_TABLE: _csv(rows),
        results.SUMMARY_COUNTS: summary_plots.counts_over_time(fields, names),
        results.SUMMARY_SIZES: summary_plots.sizes(fields, names, diameters),
    }
    try:
        to.mkdir(parents=True, exist_ok=True)
        # A watch that begins there clears temporary files, but not while it is another's turn
        has_turns = (to / files.TURN_NAME).exists()
        with files.turn(to) if has_turns else contextlib.nullcontext():
            files.write_all(to, {name: files.holding(data) for name, data in contents.items()})
    except FileExistsError:
        raise InputError(f"{to} is not a folder: choose another --to") from None
    except OSError as error:
        raise OutputError(f"{to} cannot be written to ({error.strerror}): name another folder with --to") from None
    return [to / name for name in contents]


def _csv(rows: Sequence[Group]) -> bytes:
    from cellseg_device.summary import Group

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in dataclasses.fields(Group)])
    for row in rows:
        values = dataclasses.asdict(row) | {"group": _shown(row.group), "exceeds_chance": int(row.exceeds_chance)}
        table.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values.values()])
    return text.getvalue().encode()


def _shown(group: str) -> str:
    from cellseg_device.summary import NO_GROUP

    return group or NO_GROUP


def _table(rows: Sequence[Group]) -> str:
    """Lay the groups out as a table; a column that is unknown in all rows is left out."""
    columns = {
        "group": [_shown(row.group) for row in rows],
        "images": [f"{row.images:,}" for row in rows],
        "flagged": [f"{row.flagged:,}" for row in rows],
        "cells": [f"{row.cells:,}" for row in rows],
        "in frame": [f"{row.cells_in_frame:,}" for row in rows],
        "mean": [_number(row.mean_per_image, ",.1f") for row in rows],
        "SD": [_number(row.sd_per_image, ",.1f") for row in rows],
        "var/mean": [_number(row.dispersion, ".2f") for row in rows],
        "median px": [_number(row.median_diameter_px, ".1f") for row in rows],
        "median um": [_number(row.median_diameter_um, ".2f") for row in rows],
        "cells/mm2": [_number(row.density_per_mm2, ",.1f") for row in rows],
        "cells/mL": [_number(row.concentration_per_ml, ".3g") for row in rows],
        "from": [_number(row.concentration_low_per_ml, ".3g") for row in rows],
        "to (95 %)": [_number(row.concentration_high_per_ml, ".3g") for row in rows],
    }
    shown = {name: values for name, values in columns.items() if any(values)}
    widths = {name: max(len(name), *map(len, values)) for name, values in shown.items()}
    lines = [{name: name for name in shown}]
    lines += [{name: values[at] for name, values in shown.items()} for at in range(len(rows))]
    return "\n".join(
        "  ".join(f"{line[n]:<{w}}" if n == "group" else f"{line[n]:>{w}}" for n, w in widths.items()).rstrip()
        for line in lines
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
