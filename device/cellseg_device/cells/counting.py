"""How the cells of an image are counted, and what its count comes to.

Cells that are not to be counted (too small, too large, outside the region) are removed from the labels: what the files
show is what is counted. Only the counting frame leaves the labels as they are: `count_in_frame` comes beside `count`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.cells import concentration, region, surround
from cellseg_device.cells.bands import bands
from cellseg_device.cells.measure import EDGES, Cells, count_in_frame
from cellseg_device.cells.quality import Quality
from cellseg_device.cells.region import Region
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.units import CHANNELS, Length


@dataclass(frozen=True)
class Counting:
    """How cells are counted.

    Attributes
    ----------
    pixel_size_um : float or None
        In place of what the image file says.
    channel : str or None
        Of `units.CHANNELS`: the one of an RGB image in which the cells are looked for. None for all.
    diameter : Length or None
        Of the cells: the image is scaled to the size the model was trained at. None leaves it as it is.
    min_diameter, max_diameter : Length or None
        Cells with a smaller or larger equivalent diameter are left out.
    region : Region or None
        Cells whose centre lies outside are left out, and nothing outside has a part in what is found. With None it is
        the field of view, if that has a surround (`surround.find`), else the whole image.
    frame : tuple of str
        Of `EDGES`: cells that touch these edges of the image are not in `count_in_frame`.
    depth_mm : float or None
        Of the counting chamber.
    dilution : float
        Parts of diluted sample to one part of sample.
    """

    pixel_size_um: float | None = None
    channel: str | None = None
    diameter: Length | None = None
    min_diameter: Length | None = None
    max_diameter: Length | None = None
    region: Region | None = None
    frame: tuple[str, ...] = ("top", "left")
    depth_mm: float | None = None
    dilution: float = 1.0

    def key(self) -> str:
        """Return the settings that are not the defaults, as canonical JSON: equal for counts that can be compared."""
        values = dataclasses.asdict(self)
        set_here = {f.name: values[f.name] for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        return json.dumps(set_here, sort_keys=True, default=str)

    @property
    def leaves_out(self) -> bool:
        """Whether cells may be left out of the count for their size."""
        return self.min_diameter is not None or self.max_diameter is not None

    def applied(self, image: Image) -> Image:
        """Return the image with the pixel size, the channel and the region of these settings, where they have them.

        Raises
        ------
        ImageError
            If it is grey, and they name a channel; or the region does not fit it.
        """
        if self.channel is not None and image.pixels.ndim == 2:
            raise ImageError(f"is grey and has no {self.channel} channel: leave --channel out")
        channel = None if self.channel is None else CHANNELS.index(self.channel)
        found = surround.find(image.pixels) if self.region is None else None
        inside = self.region if found is None else found.field
        is_whole = inside is None or inside.kind == "whole"
        return dataclasses.replace(
            image,
            pixel_size_um=self.pixel_size_um or image.pixel_size_um,
            channel=channel,
            field=None if inside is None or is_whole else region.draw(inside, image.shape),
            surround=str(found or ""),
        )

    def diameter_px(self, image: Image) -> float | None:
        """Return the diameter of the cells in pixels of an image, where it is given."""
        return None if self.diameter is None else self.diameter.px(image.pixel_size_um, "--diameter")


def parse_key(text: str) -> Counting:
    """Return the settings in text from `Counting.key`."""
    values = json.loads(text)
    for name in ("diameter", "min_diameter", "max_diameter"):
        if values.get(name) is not None:
            values[name] = Length(**values[name])
    if values.get("region") is not None:
        given = values["region"]
        path = None if given["path"] is None else Path(given["path"])
        values["region"] = Region(given["kind"], tuple(given["numbers"]), path, given["sha256"])
    if "frame" in values:
        values["frame"] = tuple(values["frame"])
    return Counting(**values)


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


@dataclass(frozen=True)
class Selection:
    """The cells that are counted, and where.

    Attributes
    ----------
    labels : ndarray of uint16, shape (height, width)
        Numbered 1…n without a gap.
    cells : Cells
    left_out : int
        How many other cells there are.
    area_px : int
        Area in which cells are counted.
    """

    labels: npt.NDArray[np.uint16]
    cells: Cells
    left_out: int
    area_px: int


def select(image: Image, labels: npt.NDArray[np.uint16], cells: Cells, counting: Counting) -> Selection:
    """Return the cells that are to be counted.

    Parameters
    ----------
    image : Image
        From `Counting.applied`.
    labels : ndarray of uint16, shape (height, width)
        Cells numbered 1…n without a gap; 0 is background.
    cells : Cells
        Their table.
    counting : Counting

    Raises
    ------
    ImageError
        If the settings do not fit the image: a length in µm without a pixel size.
    """
    columns, kept, pixel_size_um = cells.columns, np.ones(len(cells), bool), image.pixel_size_um
    diameter = columns["equivalent_diameter_area_px"]
    if counting.min_diameter is not None:
        kept &= diameter >= counting.min_diameter.px(pixel_size_um, "--min-diameter")
    if counting.max_diameter is not None:
        kept &= diameter <= counting.max_diameter.px(pixel_size_um, "--max-diameter")
    if image.field is not None:
        kept &= region.has_centre_inside(labels, image.field, cells)
    left_out = int(np.count_nonzero(~kept))
    if left_out:
        number = np.zeros(len(cells) + 1, np.uint16)
        number[1:][kept] = np.arange(1, len(cells) - left_out + 1, dtype=np.uint16)
        found, labels = labels, np.empty_like(labels)
        for rows in bands(*labels.shape):
            labels[rows] = number[found[rows]]
        cells = Cells({name: values[kept] for name, values in columns.items()} | {"label": number[1:][kept]})
    return Selection(labels, cells, left_out, image.field_px)


def sum_up(image: Image, chosen: Selection, assessed: Quality, counting: Counting) -> Counts:
    """Return what the selected cells of an image come to."""
    height, width = chosen.labels.shape
    size = image.pixel_size_um
    columns, count = chosen.cells.columns, len(chosen.cells)
    in_frame = count_in_frame(chosen.labels, counting.frame)
    diameter = float(np.median(columns["equivalent_diameter_area_px"])) if count else None
    found = None
    if size is not None and counting.depth_mm is not None:
        volume = concentration.volume_ml(chosen.area_px, size, counting.depth_mm)
        found = concentration.concentration(in_frame, volume, counting.dilution)
    return Counts(
        count=count,
        count_in_frame=in_frame,
        left_out=chosen.left_out,
        height_px=height,
        width_px=width,
        pixel_size_um=size,
        counted_area_px=chosen.area_px,
        surround=image.surround,
        covered_fraction=float(columns["area_px"].sum()) / chosen.area_px,
        median_diameter_px=diameter,
        median_diameter_um=diameter * size if diameter is not None and size is not None else None,
        density_per_mm2=in_frame / (chosen.area_px * size**2 * 1e-6) if size is not None else None,
        concentration_per_ml=found.per_ml if found else None,
        concentration_low_per_ml=found.low_per_ml if found else None,
        concentration_high_per_ml=found.high_per_ml if found else None,
        **dataclasses.asdict(assessed),
        captured_at=image.captured.at if image.captured else "",
        captured_from=image.captured.source if image.captured else "",
        class_name="",
        class_probability=None,
    )


def parse_frame(text: str) -> tuple[str, ...]:
    """Return the edges in ``top,left`` or ``none``, in the order of `EDGES`.

    Raises
    ------
    InputError
        If a word is no edge.
    """
    words = [word.strip() for word in text.lower().split(",")]
    if words == ["none"]:
        return ()
    wrong: list[Any] = [word for word in words if word not in EDGES]
    if wrong:
        raise InputError(f"{wrong[0]!r} is no edge of an image: write none, or some of {', '.join(EDGES)}")
    return tuple(edge for edge in EDGES if edge in words)
