"""The table of groups: as a user reads it, and as rows for files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from cellseg_device.summary.pool import NO_GROUP, Group

COLUMNS = tuple(field.name for field in dataclasses.fields(Group))
_ALL, _IN_FRAME = "all cells", "in the counting frame"


def shown(group: str) -> str:
    """Return what a group is called."""
    return group or NO_GROUP


def rows(groups: Sequence[Group]) -> list[list[object]]:
    """Return a row of values for each group, in the order of `COLUMNS`."""
    named = [dataclasses.replace(group, group=shown(group.group)) for group in groups]
    return [[int(value) if isinstance(value, bool) else value for value in vars(group).values()] for group in named]


@dataclass(frozen=True)
class _Column:
    section: str
    name: str
    values: list[str]

    @property
    def width(self) -> int:
        return max(len(self.name), *map(len, self.values))


def text(groups: Sequence[Group]) -> str:
    """Return the groups as a table for the user, headed by which cells a column is of.

    Columns that are unknown in all rows are left out.
    """
    columns = [
        _Column("", "group", [shown(group.group) for group in groups]),
        _Column("", "images", [f"{group.images:,}" for group in groups]),
        _Column("", "flagged", [f"{group.flagged:,}" for group in groups]),
        _Column("", "checked", [f"{group.checked:,}" if any(g.checked for g in groups) else "" for group in groups]),
        _Column(_ALL, "cells", [f"{group.cells:,}" for group in groups]),
        _Column(_ALL, "mean", [_number(group.mean_cells_per_image, ",.1f") for group in groups]),
        _Column(_ALL, "median px", [_number(group.median_diameter_px, ".1f") for group in groups]),
        _Column(_ALL, "median um", [_number(group.median_diameter_um, ".2f") for group in groups]),
        _Column(_IN_FRAME, "cells", [f"{group.cells_in_frame:,}" for group in groups]),
        _Column(_IN_FRAME, "mean", [_number(group.mean_in_frame_per_image, ",.1f") for group in groups]),
        _Column(_IN_FRAME, "SD", [_number(group.sd_in_frame_per_image, ",.1f") for group in groups]),
        _Column(_IN_FRAME, "dispersion", [_number(group.dispersion, ".2f") for group in groups]),
        _Column(_IN_FRAME, "cells/mm2", [_number(group.density_per_mm2, ",.1f") for group in groups]),
        _Column(_IN_FRAME, "cells/mL", [_number(group.concentration_per_ml, ".3g") for group in groups]),
        _Column(_IN_FRAME, "from", [_number(group.concentration_low_per_ml, ".3g") for group in groups]),
        _Column(_IN_FRAME, "to (95 %)", [_number(group.concentration_high_per_ml, ".3g") for group in groups]),
    ]
    known = [column for column in columns if any(column.values)]
    heading, at = "", 0
    for column, before in zip(known, [None, *known], strict=False):
        if column.section and (before is None or column.section != before.section):
            start = at + column.width - len(column.name)
            heading += " " * max(start - len(heading), 2 if heading else 0) + column.section
        at += column.width + 2
    lines = [[column.name for column in known]]
    lines += [[column.values[number] for column in known] for number in range(len(groups))]
    return "\n".join([heading, *(_line(known, line) for line in lines)])


def _line(columns: Sequence[_Column], cells: Sequence[str]) -> str:
    first, *others = zip(columns, cells, strict=True)
    padded = [f"{first[1]:<{first[0].width}}", *(f"{cell:>{column.width}}" for column, cell in others)]
    return "  ".join(padded).rstrip()


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
