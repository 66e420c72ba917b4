"""Reading the tables back: the rows of ``counts.csv``, and the diameters in ``STEM.cells.csv``.

Rows that were edited by hand, are cut short, are there twice, or are just being written by a watch are reported and
left out.
"""

from __future__ import annotations

import csv
import functools
import io
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.concentration import poisson_interval
from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import InputError
from cellseg_device.image.source import printable
from cellseg_device.results.image_files import CELLS, LABELS
from cellseg_device.results.tables import COUNTS_NAME, FILE, TEXT_COLUMNS
from cellseg_device.system import files
from cellseg_device.system.csv_text import unescaped
from cellseg_device.system.natural_order import natural_key
from cellseg_device.units import is_pixel_size

# Columns that every version has written; the others may be missing, and their values are then unknown
_NEEDED = ("image", "count", "count_in_frame", "height_px", "width_px", "labels")
_SHOWN = (
    "image",
    "labels",
)  # in groups and messages; as we write them they are printable, in others' tables perhaps not
_DIAMETER = "equivalent_diameter_area_px"
_MAX_SIDE_PX = 10**7
_Kept = TypeVar("_Kept")
_NUMBERS = re.compile(r"[0-9.,e+-]*", re.ASCII)  # a line of a table of cells


@dataclass(frozen=True)
class Field:
    """The values in an image's row that are summed up.

    Attributes
    ----------
    image : str
    count, in_frame : int
        All cells; and those by the counting-frame rule.
    is_flagged : bool
    area_px : int
        Area in which cells were counted.
    pixel_size_um : float or None
    sample_ml : float or None
        Volume of undiluted sample in which cells were counted.
    captured_at : datetime or None
        Without a zone where it is by the camera's own clock; None where the row has no time that can be read.
    captured_from : str
        What says when it was taken; `tables.FILE` where that is the time of its file.
    cells : str
        Path of its table of cells in the output folder.
    is_checked : bool
        Whether the counts, and that table, are as a person corrected them.
    """

    image: str
    count: int
    in_frame: int
    is_flagged: bool
    area_px: int
    pixel_size_um: float | None
    sample_ml: float | None
    captured_at: datetime | None
    captured_from: str
    cells: str
    is_checked: bool = False

    @property
    def area_um2(self) -> float | None:
        """Area in µm², or None if the pixel size is unknown."""
        return self.area_px * self.pixel_size_um**2 if self.pixel_size_um is not None else None


def read_fields(out: Path, warn: Callable[[str], None]) -> list[Field]:
    """Return the rows of ``counts.csv``, in the natural order of their images' names.

    Parameters
    ----------
    out : Path
        The output folder.
    warn : callable
        Receives a line for each row that is left out.

    Raises
    ------
    InputError
        If there is no such file, or it is not such a table.
    """
    _columns, fields = _read(out, lambda _row, field: field, warn)
    return sorted(fields, key=lambda field: natural_key(field.image))


def read_image_rows(out: Path, images: Collection[str]) -> tuple[list[str], list[list[object]]]:
    """Return the columns of ``counts.csv``, and the rows of some images in natural order, numbers as such.

    Raises
    ------
    InputError
        As `read_fields` does.
    """
    columns, found = _read(out, lambda row, field: (field.image, row), lambda _line: None)
    rows = sorted([row for image, row in found if image in images], key=lambda row: natural_key(row["image"]))
    return columns, [
        [row[name] if name in TEXT_COLUMNS else number_or_text(row[name]) for name in columns] for row in rows
    ]


def _read(
    out: Path, kept: Callable[[dict[str, str], Field], _Kept], warn: Callable[[str], None]
) -> tuple[list[str], list[_Kept]]:
    """Return the columns of ``counts.csv``, and what is to be kept of each sound row; as for `read_fields`."""
    path = out / COUNTS_NAME
    try:
        with open(path, "rb", opener=files.regular) as file:
            text = file.read().decode("utf-8-sig")
        rows = csv.reader(io.StringIO(text, newline=""))
        columns = next(rows, [])
        lacking = [name for name in _NEEDED if name not in columns]
        if lacking:
            raise InputError(
                f"{path} has no column {lacking[0]}, so it is from another program or was saved with other separators: "
                "start 'run' or 'watch' with its folder, which writes it again"
            )
        found: dict[str, _Kept] = {}
        for values in rows:
            try:
                if len(values) != len(columns):
                    raise ValueError(f"has {len(values)} values instead of {len(columns)}")
                row = dict(zip(columns, map(unescaped, values), strict=True))
                row |= {name: printable(row[name]) for name in _SHOWN}
                field = _field(row)
                if field.image in found:
                    raise ValueError(f"is another row of {field.image}")
                found[field.image] = kept(row, field)
            except ValueError as error:
                warn(f"{COUNTS_NAME} line {rows.line_num} {error}: left out")
        return columns, list(found.values())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{out} holds no {COUNTS_NAME}: name the folder that 'run', 'watch' or 'camera' wrote into"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the disk and its permissions") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} is damaged ({error}): start 'run' or 'watch' with its folder, which writes it again"
        ) from None


def read_diameters(out: Path, field: Field) -> npt.NDArray[np.float32]:
    """Return the equivalent diameters of an image's cells, in pixels.

    Raises
    ------
    InputError
        If its table of cells is missing, or does not belong to its row.
    """
    columns, lines = read_cells(out, field)
    try:
        column = columns.index(_DIAMETER)
        values = np.array([float(line.split(",", column + 1)[column]) for line in lines], np.float32)
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError
    except (ValueError, IndexError):
        raise _damaged(field) from None
    return values


def read_cells(out: Path, field: Field) -> tuple[list[str], list[str]]:
    """Return the columns of an image's table of cells, and its lines, which hold numbers alone.

    Raises
    ------
    InputError
        If it is missing, or does not belong to its row.
    """
    try:
        with open(out / field.cells, encoding="utf-8-sig", opener=files.regular) as file:
            columns, lines = file.readline().rstrip("\n").split(","), file.read().splitlines()
    except FileNotFoundError:
        raise InputError(f"{field.cells} is missing: the sizes of its cells are left out") from None
    except OSError as error:
        raise InputError(f"{field.cells} cannot be read ({error.strerror}): left out") from None
    except UnicodeDecodeError:
        raise _damaged(field) from None
    is_whole = all(line.count(",") == len(columns) - 1 for line in lines)
    if _DIAMETER not in columns or not is_whole or not all(map(_NUMBERS.fullmatch, lines)):
        raise _damaged(field)
    if len(lines) != field.count:
        raise InputError(
            f"{field.cells} has {len(lines):,} cells but {COUNTS_NAME} says {field.count:,} (was it counted again "
            "meanwhile?): their sizes are left out"
        )
    return columns, lines


def read_cell_columns(out: Path, field: Field) -> list[str]:
    """Return the columns of an image's table of cells; raise InputError if it cannot be read."""
    try:
        with open(out / field.cells, encoding="utf-8-sig", opener=files.regular) as file:
            return file.readline().rstrip("\n").split(",")
    except (OSError, UnicodeDecodeError):
        raise _damaged(field) from None


def number_or_text(text: str) -> float | str | None:
    """Return a value of a table as a number, if it is one; None if it is unknown."""
    try:
        return float(text)
    except ValueError:
        return text or None


def _damaged(field: Field) -> InputError:
    return InputError(f"{field.cells} is damaged: the sizes of its cells are left out")


def _field(row: Mapping[str, str]) -> Field:
    """Return the field in one row; raise ValueError with what is wrong."""
    count = _whole(row, "count", 0, MAX_CELLS)
    in_frame = _whole(row, "count_in_frame", 0, count)
    height, width = (_whole(row, f"{side}_px", 1, _MAX_SIDE_PX) for side in ("height", "width"))
    name = row["labels"]
    if not name.endswith(LABELS) or Path(name).name != name:
        raise ValueError(f"has labels {name!r}, which is not the name of a label image")
    # Versions without this column had no regions and counted the whole image
    area = _whole(row, "counted_area_px", 1, height * width) if row.get("counted_area_px") else height * width
    size = _number(row, "pixel_size_um")
    if size is not None and not is_pixel_size(size):
        raise ValueError(f"has pixel_size_um {size:g}, which is not a pixel size")
    return Field(
        image=row["image"],
        count=count,
        in_frame=in_frame,
        is_flagged=bool(row.get("flags")),
        area_px=area,
        pixel_size_um=size,
        sample_ml=_sample_ml(row, in_frame),
        captured_at=_time(row.get("captured_at", "")),
        captured_from=row.get("captured_from", FILE),
        cells=name.removesuffix(LABELS) + CELLS,
    )


def _sample_ml(row: Mapping[str, str], count: int) -> float | None:
    """Return the volume of the sample, from the concentration or, if no cell was counted, from its upper bound."""
    name = "concentration_per_ml" if count else "concentration_high_per_ml"
    per_ml = _number(row, name)
    if per_ml is None:
        return None
    if per_ml <= 0:
        raise ValueError(f"has {name} {per_ml:g} with {count} cells")
    return (count or _upper_bound_of_none()) / per_ml


@functools.cache
def _upper_bound_of_none() -> float:
    return poisson_interval(0)[1]


def _whole(row: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = row[name]
    if not (text.isascii() and text.isdigit() and len(text) < 20) or not low <= int(text) <= high:
        raise ValueError(f"has {name} {text[:40]!r} instead of a whole number from {low} to {high}")
    return int(text)


def _number(row: Mapping[str, str], name: str) -> float | None:
    text = row.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"has {name} {text[:40]!r} instead of a number")
    return value


def _time(text: str) -> datetime | None:
    """Return a time, or None for what is none, as a spreadsheet or a file without a date may leave it."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
