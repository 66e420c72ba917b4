"""What one image comes to, as numbers and words, and how that is stored.

It imports no array library, so that what only reads results stays small.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

DEFAULT_FRAME = ("top", "left")  # the edges that a cell must not touch to be in the counting frame


@dataclass(frozen=True)
class Stored:
    """How a field of `Counts` is stored.

    Attributes
    ----------
    sql : str
        Type of its column in the ledger, with the value that it has in older rows where that is not NULL.
    column : int or None
        Its place among the columns of ``counts.csv``; None where it has none.
    since : int
        Version of the ledger that has it first.
    heading : str or None
        Name of that column, where it is not the field's.
    """

    sql: str
    column: int | None
    since: int
    heading: str | None = None


def _stored(sql: str, *, column: int | None, since: int = 1, heading: str | None = None) -> Any:
    return dataclasses.field(metadata={"stored": Stored(sql, column, since, heading)})


@dataclass(frozen=True)
class Counts:
    """What one image comes to: the part of its row in ``counts.csv`` that follows from what is in its file.

    This is the one definition from which the ledger's columns and their migrations, those of ``counts.csv``, and what a
    rebuild reads follow. A new field goes to the end, with the next version of the ledger as its `since`.

    Attributes
    ----------
    count, count_in_frame : int
        All cells; and those by the counting-frame rule (`measure.count_in_frame`).
    left_out : int
        Cells that were found but not counted, for their size or because they lie outside the region.
    height_px, width_px : int
    pixel_size_um : float or None
    counted_area_px : int
        Area of the region, or of the image.
    surround : str
        What was found around the field of view and left out (`surround.Surround`); empty if nothing.
    covered_fraction : float
        Part of that area that cells cover.
    median_diameter_px, median_diameter_um : float or None
        Median equivalent diameter; None without cells, and in µm without a pixel size.
    density_per_mm2 : float or None
        `count_in_frame` by the counted area; None without a pixel size.
    concentration_per_ml, concentration_low_per_ml, concentration_high_per_ml : float or None
        Of the undiluted sample, and its 95 % interval by chance alone; None without a pixel size and a depth.
    focus, edge_sharpness, saturated_fraction, uneven_light, at_border_fraction, diameter_ratio, flags
        As in `quality.Quality`.
    captured_at, captured_from : str
        When the image was taken and what says so, as in `dates.Captured`; empty where its file does not say.
    class_name, class_probability : str, float or None
        What a gate takes the image for, and how probable that is; empty and None without a gate.
    """

    count: int = _stored("INTEGER", column=10)
    count_in_frame: int = _stored("INTEGER", column=20)
    height_px: int = _stored("INTEGER", column=120)
    width_px: int = _stored("INTEGER", column=130)
    pixel_size_um: float | None = _stored("REAL", column=140)
    covered_fraction: float = _stored("REAL", column=100)
    median_diameter_px: float | None = _stored("REAL", column=80)
    median_diameter_um: float | None = _stored("REAL", column=90)
    density_per_mm2: float | None = _stored("REAL", column=70)
    left_out: int = _stored("INTEGER", column=110, since=2)
    counted_area_px: int = _stored("INTEGER", column=150, since=2)
    concentration_per_ml: float | None = _stored("REAL", column=40, since=2)
    concentration_low_per_ml: float | None = _stored("REAL", column=50, since=2)
    concentration_high_per_ml: float | None = _stored("REAL", column=60, since=2)
    focus: float = _stored("REAL", column=160, since=2)
    edge_sharpness: float | None = _stored("REAL", column=170, since=2)
    saturated_fraction: float = _stored("REAL", column=180, since=2)
    uneven_light: float = _stored("REAL", column=190, since=2)
    at_border_fraction: float = _stored("REAL", column=200, since=2)
    diameter_ratio: float | None = _stored("REAL", column=210, since=2)
    flags: str = _stored("TEXT DEFAULT ''", column=30, since=2)
    captured_at: str = _stored("TEXT DEFAULT ''", column=220, since=6)
    captured_from: str = _stored("TEXT DEFAULT ''", column=230, since=6)
    surround: str = _stored("TEXT DEFAULT ''", column=155, since=6)
    class_name: str = _stored("TEXT DEFAULT ''", column=240, since=7, heading="class")
    class_probability: float | None = _stored("REAL", column=250, since=7)

    @classmethod
    def storage(cls) -> dict[str, Stored]:
        """How each field is stored, by name, in the order of the ledger's columns."""
        return {field.name: field.metadata["stored"] for field in dataclasses.fields(cls)}
