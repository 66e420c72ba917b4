"""Reading the tables back: the rows of ``counts.csv``, and the diameters in ``STEM.cells.csv``.

What was edited by hand, cut short or is being written by a watch is told with its place, and left out.
"""

from __future__ import annotations

import csv
import functools
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device.concentration import poisson_interval
from cellseg_device.errors import InputError
from cellseg_device.options import is_pixel_size
from cellseg_device.output import COUNTS_NAME
from cellseg_device.results import CELLS, LABELS

# What every version wrote; the other columns may be missing, and what they say is then not known
_NEEDED = ("image", "count", "count_in_frame", "height_px", "width_px", "labels")
_DIAMETER = "equivalent_diameter_area_px"
_MAX_CELLS = 65_535  # of a label image
_MAX_SIDE_PX = 10**7


@dataclass(frozen=True)
class Field:
    """What the row of an image says, as far as it is summed up.

    Attributes
    ----------
    image : str
    count, in_frame : int
        All cells; and those by the counting-frame rule.
    is_flagged : bool
    area_px : int
        In which cells were counted.
    pixel_size_um : float or None
    sample_ml : float or None
        Volume of the undiluted sample that was looked at.
    captured_at : datetime or None
    cells : str
        Name of its table of cells.
    """

    image: str
    count: int
    in_frame: int
    is_flagged: bool
    area_px: int
    pixel_size_um: float | None
    sample_ml: float | None
    captured_at: datetime | None
    cells: str

    @property
    def area_um2(self) -> float | None:
        """Area in µm², where the pixel size is known."""
        return self.area_px * self.pixel_size_um**2 if self.pixel_size_um is not None else None


def read_fields(out: Path, tell: Callable[[str], None]) -> list[Field]:
    """Read ``counts.csv``.

    Parameters
    ----------
    out : Path
        The output folder.
    tell : callable
        Receives a line for each row that is left out.

    Raises
    ------
    InputError
        If there is none, or it is not one.
    """
    path = out / COUNTS_NAME
    try:
        text = path.read_bytes().decode("utf-8-sig")
        rows = csv.reader(io.StringIO(text, newline=""))
        columns = next(rows, [])
        lacking = [name for name in _NEEDED if name not in columns]
        if lacking:
            raise InputError(
                f"{path} has no column {lacking[0]}: it is of another program, or was saved with other separators; "
                "the next 'run' or 'watch' into its folder writes it anew"
            )
        fields = []
        for row in rows:
            try:
                if len(row) != len(columns):
                    raise ValueError(f"has {len(row)} values instead of {len(columns)}")
                fields.append(_field(dict(zip(columns, row, strict=True))))
            except ValueError as error:
                tell(f"{COUNTS_NAME} line {rows.line_num} {error}: left out")
        return fields
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{out} holds no {COUNTS_NAME}: name the folder that 'run', 'watch' or 'camera' wrote into"
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the disk and its permissions") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path} is damaged ({error}): the next 'run' or 'watch' into its folder writes it anew"
        ) from None


def read_diameters(out: Path, field: Field) -> npt.NDArray[np.float32]:
    """Read the equivalent diameters of the cells of an image, in pixels.

    Raises
    ------
    InputError
        If its table of cells is not there, or is not that of its row.
    """
    try:
        with open(out / field.cells, encoding="utf-8") as file:
            column = file.readline().rstrip("\n").split(",").index(_DIAMETER)
            values = np.array([float(line.split(",", column + 1)[column]) for line in file], np.float32)
        if not (np.isfinite(values) & (values > 0)).all():
            raise ValueError
    except FileNotFoundError:
        raise InputError(f"{field.cells} is missing: the sizes of its cells are left out") from None
    except OSError as error:
        raise InputError(f"{field.cells} cannot be read ({error.strerror}): left out") from None
    except (ValueError, IndexError):
        raise InputError(f"{field.cells} is damaged: the sizes of its cells are left out") from None
    if len(values) != field.count:
        raise InputError(
            f"{field.cells} has {len(values):,} cells where {COUNTS_NAME} says {field.count:,} (done again "
            "meanwhile?): their sizes are left out"
        )
    return values


def _field(row: Mapping[str, str]) -> Field:
    """Read one row; raises ValueError with what is wrong."""
    count = _whole(row, "count", 0, _MAX_CELLS)
    in_frame = _whole(row, "count_in_frame", 0, count)
    height, width = (_whole(row, f"{side}_px", 1, _MAX_SIDE_PX) for side in ("height", "width"))
    name = row["labels"]
    if not name.endswith(LABELS) or Path(name).name != name:
        raise ValueError(f"has labels {name!r}, which is no name of a label image")
    # Before there were regions, and this column, the whole image was counted
    area = _whole(row, "counted_area_px", 1, height * width) if row.get("counted_area_px") else height * width
    size = _number(row, "pixel_size_um")
    if size is not None and not is_pixel_size(size):
        raise ValueError(f"has pixel_size_um {size:g}, which is no pixel size")
    return Field(
        image=row["image"],
        count=count,
        in_frame=in_frame,
        is_flagged=bool(row.get("flags")),
        area_px=area,
        pixel_size_um=size,
        sample_ml=_sample_ml(row, in_frame),
        captured_at=_time(row.get("captured_at", "")),
        cells=name.removesuffix(LABELS) + CELLS,
    )


def _sample_ml(row: Mapping[str, str], count: int) -> float | None:
    """Volume of the sample, from the concentration; from its upper bound where no cell was counted."""
    name = "concentration_per_ml" if count else "concentration_high_per_ml"
    per_ml = _number(row, name)
    if per_ml is None:
        return None
    if per_ml <= 0:
        raise ValueError(f"has {name} {per_ml:g} with {count} cells")
    return (count or _most_of_none()) / per_ml


@functools.cache
def _most_of_none() -> float:
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
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"has captured_at {text[:40]!r} instead of a time") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
