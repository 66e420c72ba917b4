"""The results of one image on disk: label image, table of cells, overlay; and its row in ``counts.csv``.

The same labels give the same bytes: no times, no random identifiers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from cellseg_device import files
from cellseg_device.measure import Cells, count_in_frame
from cellseg_device.segment import Segmentation

LABELS, CELLS, OVERLAY = ".labels.tif", ".cells.csv", ".overlay.jpg"
SUFFIXES = (LABELS, CELLS, OVERLAY)

_ZLIB_LEVEL = 2  # labels are long runs: more effort gains little
_UM_PER_CM = 10_000


@dataclass(frozen=True)
class Counts:
    """What one image comes to: the part of its row in ``counts.csv`` that follows from its labels.

    Attributes
    ----------
    count, count_in_frame : int
        All cells; and those by the counting-frame rule (`measure.count_in_frame`).
    height_px, width_px : int
    pixel_size_um : float or None
    covered_fraction : float
        Part of the image that is inside cells.
    median_diameter_px, median_diameter_um : float or None
        Median equivalent diameter; None without cells, and in µm without a pixel size.
    density_per_mm2 : float or None
        `count_in_frame` by the area of the image; None without a pixel size.
    """

    count: int
    count_in_frame: int
    height_px: int
    width_px: int
    pixel_size_um: float | None
    covered_fraction: float
    median_diameter_px: float | None
    median_diameter_um: float | None
    density_per_mm2: float | None


def counts(result: Segmentation) -> Counts:
    """Sum one image up."""
    height, width = result.labels.shape
    size = result.image.pixel_size_um
    columns, count = result.cells.columns, len(result.cells)
    in_frame = count_in_frame(result.labels)
    diameter = float(np.median(columns["equivalent_diameter_area_px"])) if count else None
    return Counts(
        count=count,
        count_in_frame=in_frame,
        height_px=height,
        width_px=width,
        pixel_size_um=size,
        covered_fraction=float(columns["area_px"].sum()) / (height * width),
        median_diameter_px=diameter,
        median_diameter_um=diameter * size if diameter is not None and size is not None else None,
        density_per_mm2=in_frame / (height * width * size**2 * 1e-6) if size is not None else None,
    )


def write(folder: Path, stem: str, result: Segmentation, overlay: bytes | None = None) -> None:
    """Write the files of one image, all of them or none, and bring them to the disk.

    Parameters
    ----------
    folder : Path
    stem : str
        The files are ``STEM.labels.tif``, ``STEM.cells.csv`` and, with `overlay`, ``STEM.overlay.jpg``.
    result : Segmentation
    overlay : bytes or None
        A JPEG file. Without it an older overlay of this stem is removed: it shows other labels.

    Raises
    ------
    OSError
        What the disk met; the former files are then as they were.
    """
    contents: dict[str, Callable[[BinaryIO], object]] = {
        stem + LABELS: lambda file: write_labels(file, result.labels, result.image.pixel_size_um),
        stem + CELLS: lambda file: file.write(cells_csv(result.cells).encode()),
    }
    if overlay is not None:
        contents[stem + OVERLAY] = lambda file: file.write(overlay)
    files.write_all(folder, contents)
    if overlay is None:
        (folder / (stem + OVERLAY)).unlink(missing_ok=True)


def remove(folder: Path, stem: str) -> None:
    """Remove the files of one image."""
    for suffix in SUFFIXES:
        (folder / (stem + suffix)).unlink(missing_ok=True)
    files.sync_folder(folder)


def is_result_name(name: str) -> bool:
    """Whether a file of this name looks like one that `write` made."""
    return name.endswith(SUFFIXES)


def fits(stem: str) -> bool:
    """Whether the names of the files of this stem are short enough for a file system."""
    return max(len(os.fsencode(stem + suffix)) for suffix in SUFFIXES) <= 255


def write_labels(file: BinaryIO, labels: npt.NDArray[np.uint16], pixel_size_um: float | None) -> None:
    """Write a label image as OME-TIFF; the pixel size stands in the OME-XML and in the tags ImageJ reads."""
    import tifffile  # here, since `results` is also imported where nothing is written

    with tifffile.TiffWriter(file, byteorder="<") as tif:
        tif.write(
            labels,
            photometric="minisblack",
            compression="zlib",
            compressionargs={"level": _ZLIB_LEVEL},
            description=_ome_xml(labels.shape[0], labels.shape[1], pixel_size_um).encode(),
            metadata=None,  # tifffile's own OME-XML has a random identifier
            software="cellseg-device",
            resolution=(_UM_PER_CM / pixel_size_um,) * 2 if pixel_size_um is not None else None,
            resolutionunit="CENTIMETER" if pixel_size_um is not None else None,
        )


def _ome_xml(height: int, width: int, pixel_size_um: float | None) -> str:
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    attributes = {"ID": "Pixels:0", "DimensionOrder": "XYCZT", "Type": "uint16", "BigEndian": "false"}
    attributes |= {"SizeX": str(width), "SizeY": str(height), "SizeC": "1", "SizeZ": "1", "SizeT": "1"}
    if pixel_size_um is not None:
        for axis in "XY":
            attributes[f"PhysicalSize{axis}"] = repr(float(pixel_size_um))
            attributes[f"PhysicalSize{axis}Unit"] = "µm"
    pixels = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{namespace}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{namespace} {namespace}/ome.xsd" Creator="cellseg-device">'
        f'<Image ID="Image:0" Name="labels"><Pixels {pixels}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/>'
        "</Pixels></Image></OME>"
    )


def cells_csv(cells: Cells) -> str:
    """Format the table of cells as CSV: whole numbers as such, others to six digits, NaN as an empty cell."""
    columns = cells.columns
    formats = ("%d" if np.issubdtype(c.dtype, np.integer) else "%.6g" for c in columns.values())
    line = ",".join(formats) + "\n"
    body = "".join([line % row for row in zip(*(c.tolist() for c in columns.values()), strict=True)])
    if any(math.isnan(c.sum()) for c in columns.values()):
        body = body.replace("nan", "")
    return ",".join(columns) + "\n" + body
