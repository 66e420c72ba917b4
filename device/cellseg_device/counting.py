"""How the cells of an image are counted, and what its count comes to.

Cells that are not to be counted (too small, too large, outside the region) are taken out of the labels: what the
files show is what is counted. The counting frame alone leaves the labels as they are: `count_in_frame` stands beside
`count`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device import concentration, region
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image import Image
from cellseg_device.measure import EDGES, Cells, count_in_frame
from cellseg_device.options import CHANNELS
from cellseg_device.quality import Quality
from cellseg_device.region import Region

_LONGEST = 1e6


@dataclass(frozen=True)
class Length:
    """A length, in pixels or micrometres.

    Attributes
    ----------
    value : float
    unit : str
        ``"px"`` or ``"um"``.
    """

    value: float
    unit: str

    def px(self, pixel_size_um: float | None, what: str) -> float:
        """The length in pixels of an image.

        Raises
        ------
        ImageError
            If it is in µm and the image's pixel size is not known; `what` names the option.
        """
        if self.unit == "px":
            return self.value
        if pixel_size_um is None:
            raise ImageError(f"has no pixel size, which {what} in µm needs: give --pixel-size-um, or {what} in px")
        return self.value / pixel_size_um


def parse_length(text: str) -> Length:
    """Length from ``12um``, ``12 µm`` or ``40px``.

    Raises
    ------
    InputError
        If it is not of that form, not positive, or beyond a million.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(px|um|µm|μm)", text.strip().lower())
    if match is None or not 0 < float(match[1]) <= _LONGEST:
        raise InputError(f"{text!r} is not a length: write it with its unit, as 12um or 40px")
    return Length(float(match[1]), "px" if match[2] == "px" else "um")


@dataclass(frozen=True)
class Counting:
    """How cells are counted.

    Attributes
    ----------
    pixel_size_um : float or None
        In place of what the image file says.
    channel : str or None
        Of `options.CHANNELS`: the one of an RGB image in which the cells are looked for. None for all.
    diameter : Length or None
        Of the cells: the image is scaled to the size the model was trained at. None leaves it as it is.
    min_diameter, max_diameter : Length or None
        Cells of a smaller or larger equivalent diameter are left out.
    region : Region or None
        Cells whose centroid lies outside are left out.
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
        """The settings that are not the defaults, as canonical JSON: equal for counts that can be compared."""
        values = dataclasses.asdict(self)
        set_here = {f.name: values[f.name] for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
        return json.dumps(set_here, sort_keys=True, default=str)

    def applied(self, image: Image) -> Image:
        """The image with the pixel size and the channel of these settings, if they have them.

        Raises
        ------
        ImageError
            If it is grey, and they name a channel.
        """
        if self.channel is not None and image.pixels.ndim == 2:
            raise ImageError(f"is grey and has no {self.channel} channel: leave --channel out")
        channel = None if self.channel is None else CHANNELS.index(self.channel)
        return Image(image.pixels, self.pixel_size_um or image.pixel_size_um, channel)

    def diameter_px(self, image: Image) -> float | None:
        """Diameter of the cells in an image, where it is given."""
        return None if self.diameter is None else self.diameter.px(image.pixel_size_um, "--diameter")


@dataclass(frozen=True)
class Counts:
    """What one image comes to: the part of its row in ``counts.csv`` that follows from its pixels and labels.

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
    """

    count: int
    count_in_frame: int
    left_out: int
    height_px: int
    width_px: int
    pixel_size_um: float | None
    counted_area_px: int
    covered_fraction: float
    median_diameter_px: float | None
    median_diameter_um: float | None
    density_per_mm2: float | None
    concentration_per_ml: float | None
    concentration_low_per_ml: float | None
    concentration_high_per_ml: float | None
    focus: float
    edge_sharpness: float | None
    saturated_fraction: float
    uneven_light: float
    at_border_fraction: float
    diameter_ratio: float | None
    flags: str


@dataclass(frozen=True)
class Selection:
    """The cells that are counted, and where.

    Attributes
    ----------
    labels : ndarray of uint16, shape (height, width)
        Numbered 1…n without a gap.
    cells : Cells
    left_out : int
        How many were found beside them.
    area_px : int
        Area in which they were looked for.
    """

    labels: npt.NDArray[np.uint16]
    cells: Cells
    left_out: int
    area_px: int


def select(labels: npt.NDArray[np.uint16], cells: Cells, pixel_size_um: float | None, counting: Counting) -> Selection:
    """Take out the cells that are not to be counted.

    Raises
    ------
    ImageError
        If the settings do not fit the image: a length in µm without a pixel size, a region outside it.
    """
    columns, kept, area_px = cells.columns, np.ones(len(cells), bool), labels.size
    diameter = columns["equivalent_diameter_area_px"]
    if counting.min_diameter is not None:
        kept &= diameter >= counting.min_diameter.px(pixel_size_um, "--min-diameter")
    if counting.max_diameter is not None:
        kept &= diameter <= counting.max_diameter.px(pixel_size_um, "--max-diameter")
    if counting.region is not None:
        mask = region.draw(counting.region, (labels.shape[0], labels.shape[1]))
        area_px = int(np.count_nonzero(mask))
        row, col = (np.rint(columns[f"centroid_{axis}_px"]).astype(np.intp) for axis in ("row", "col"))
        kept &= mask[row, col] > 0
    left_out = int(np.count_nonzero(~kept))
    if left_out:
        number = np.zeros(len(cells) + 1, np.uint16)
        number[1:][kept] = np.arange(1, len(cells) - left_out + 1, dtype=np.uint16)
        labels = number[labels]
        cells = Cells({name: values[kept] for name, values in columns.items()} | {"label": number[1:][kept]})
    return Selection(labels, cells, left_out, area_px)


def sum_up(image: Image, chosen: Selection, judged: Quality, counting: Counting) -> Counts:
    """Sum one image up."""
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
        covered_fraction=float(columns["area_px"].sum()) / chosen.area_px,
        median_diameter_px=diameter,
        median_diameter_um=diameter * size if diameter is not None and size is not None else None,
        density_per_mm2=in_frame / (chosen.area_px * size**2 * 1e-6) if size is not None else None,
        concentration_per_ml=found.per_ml if found else None,
        concentration_low_per_ml=found.low_per_ml if found else None,
        concentration_high_per_ml=found.high_per_ml if found else None,
        **dataclasses.asdict(judged),
    )


def parse_frame(text: str) -> tuple[str, ...]:
    """Edges from ``top,left`` or ``none``, in the order of `EDGES`.

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
