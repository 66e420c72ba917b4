"""The settings of a synthetic field; what is not set is drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import InputError
from cellseg_device.image.opencv import MAX_SIDE_PX

KINDS = ("fluorescence", "histology")
STAINS = ("purple", "he", "giemsa")


@dataclass(frozen=True)
class SynthSettings:
    """What a field shows; None leaves it to the seed, in the range of real data sets.

    Parameters
    ----------
    kind : {"fluorescence", "histology"}
        Grey DAPI-like nuclei on dark, or RGB stained nuclei on bright.
    height, width : int
        Size in pixels, 1 to 12,000.
    bits : {8, 16}
        Fluorescence in 16 bits is a 12-bit camera (0…4095) in a 16-bit file; histology fills the range.
    cells : int or None
        Nuclei wanted; fewer if no more fit. 0 makes an empty field.
    diameter_px : float or None
        Median equivalent diameter of an ordinary nucleus.
    touching : float or None
        Share of the nuclei, 0 to 1, that touch another.
    stain : {"purple", "he", "giemsa"} or None
        Histology only: one-dye purple tissue, pink and blue H&E tissue, or a cell smear on near-white.
    plain : bool
        H&E only: one laboratory's stain on white glass, and nothing in the tissue but fibres.

    Raises
    ------
    InputError
        If a value is outside its range.
    """

    kind: str = "fluorescence"
    height: int = 520
    width: int = 696
    bits: int = 8
    cells: int | None = None
    diameter_px: float | None = None
    touching: float | None = None
    stain: str | None = None
    plain: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"unknown kind {self.kind!r}: use {' or '.join(KINDS)}")
        if not (1 <= self.height <= MAX_SIDE_PX and 1 <= self.width <= MAX_SIDE_PX):
            raise InputError(f"size {self.height}x{self.width} is outside 1…{MAX_SIDE_PX} pixels")
        if self.bits not in (8, 16):
            raise InputError(f"{self.bits} bits: use 8 or 16")
        if self.cells is not None and not 0 <= self.cells <= MAX_CELLS:
            raise InputError(f"{self.cells} cells is outside 0…{MAX_CELLS}")
        if self.diameter_px is not None and not 3 <= self.diameter_px <= 400:
            raise InputError(f"diameter {self.diameter_px} px is outside 3…400")
        if self.touching is not None and not 0 <= self.touching <= 1:
            raise InputError(f"touching {self.touching} is outside 0…1")
        if self.stain is not None and (self.kind != "histology" or self.stain not in STAINS):
            raise InputError(f"stain {self.stain!r}: use {', '.join(STAINS)}, and with kind histology only")

    def cells_at(self, coverage: float, diameter_px: float) -> int:
        """Return the number of nuclei wanted: as set, else as many as cover this share of the field."""
        if self.cells is not None:
            return self.cells
        area_px = math.pi * diameter_px**2 / 4
        return min(round(coverage * self.height * self.width / area_px), MAX_CELLS)
