"""How the cells of an image are counted.

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
from cellseg_device.cells.counts import DEFAULT_FRAME, Counts
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
    frame: tuple[str, ...] = DEFAULT_FRAME
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
