"""The files of one image's results: label image, table of cells, and those that are made on request.

The same labels give the same bytes: no times, no random identifiers.
"""

from __future__ import annotations

import dataclasses
import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.measure import Cells
from cellseg_device.errors import NOT_OURS, ImageError
from cellseg_device.pipeline.segment import Segmentation
from cellseg_device.results import entry
from cellseg_device.results.formats import FORMATS
from cellseg_device.system import files

LABELS, CELLS = entry.LABELS, entry.CELLS
OVERLAY, NUMBERS = "overlay", "numbers"
# By name, how the files end that are made on request: pictures of the image, and formats of the result alone
PICTURES = {OVERLAY: ".overlay.jpg", NUMBERS: ".numbers.jpg"}
EXTRAS = PICTURES | {name: form.suffix for name, form in FORMATS.items()}
ALWAYS = (LABELS, CELLS)
SUFFIXES = (*ALWAYS, *EXTRAS.values())
# What 'summary' writes, of all images together
SUMMARY_TABLE, SUMMARY_COUNTS, SUMMARY_SIZES = "summary.csv", "summary-counts.png", "summary-sizes.png"
SUMMARY_CELLS, SUMMARY_BOOK = "summary-cells.csv", "summary.xlsx"
SUMMARY_NAMES = (SUMMARY_TABLE, SUMMARY_COUNTS, SUMMARY_SIZES, SUMMARY_CELLS, SUMMARY_BOOK)

Content = Callable[[], bytes]  # returns what is in a file

_CELLS_START = b"label,centroid_row_px,centroid_col_px,area_px,"
_ZLIB_LEVEL = 2  # labels are long runs: more effort gains little
_UM_PER_CM = 10_000
_NAMESPACE = "cellseg/provenance"


@dataclass(frozen=True)
class Provenance:
    """What a label image was made from: where all of it is the same, so are the labels.

    Attributes
    ----------
    image : str
        File name of the image, without its folder.
    image_sha256 : str
        Of the image file.
    image_bytes : int
        Size of it.
    model, model_sha256 : str
        Name of the model, and the digest of its file.
    settings : str
        `counting.Counting.key`.
    accelerator : str
        What the network ran on, ``"cpu"`` or ``"edgetpu"``; the latter rounds otherwise.
    gate_sha256 : str or None
        Digest of the gate that chose the model; None without one.
    """

    image: str
    image_sha256: str
    image_bytes: int
    model: str
    model_sha256: str
    settings: str
    accelerator: str = "cpu"
    gate_sha256: str | None = None

    def facts(self) -> dict[str, str]:
        """What is known, by name, in words."""
        return {name: str(value) for name, value in dataclasses.asdict(self).items() if value is not None}


def write(
    folder: Path,
    stem: str,
    result: Segmentation,
    provenance: Provenance,
    extras: Mapping[str, Content] | None = None,
    *,
    before_renames: Callable[[], object] = lambda: None,
) -> dict[str, str]:
    """Write the files of one image to the disk, all of them or none; to be called within a `files.write_lock`.

    Parameters
    ----------
    folder : Path
    stem : str
        The files are ``STEM.labels.tif``, ``STEM.cells.csv`` and those of `extras`.
    result : Segmentation
    provenance : Provenance
    extras : mapping of str to callable, or None
        By suffix, one of `EXTRAS`, what returns the content of a file; it may still be in the making.
    before_renames : callable
        As for `files.write_all`.

    Returns
    -------
    dict of str to str
        SHA-256 by file name.

    Raises
    ------
    OSError
        On a fault of the disk; if it came before `before_renames` was called, the former files are as they were.
    """
    extras = extras or {}
    contents: dict[str, Callable[[BinaryIO], object]] = {
        stem + LABELS: lambda file: write_labels(file, result.labels, result.image.pixel_size_um, provenance),
        stem + CELLS: files.holding(cells_csv(result.cells).encode()),
        **{stem + suffix: partial(_write_content, content) for suffix, content in extras.items()},
    }
    return files.write_all(folder, contents, before_renames=before_renames)


def _write_content(content: Content, file: BinaryIO) -> None:
    file.write(content())


def check_free(folder: Path, stem: str, extras: Mapping[str, Content], noted: Collection[str]) -> None:
    """Raise ImageError where a file that cellseg did not make has the name of a result.

    Parameters
    ----------
    folder, stem, extras
        As for `write`.
    noted : collection of str
        Names of the files of this stem that are known to be cellseg's.
    """
    for suffix in (*ALWAYS, *extras):
        if is_foreign(folder / (stem + suffix), extras.get(suffix, bytes), noted):
            raise ImageError(NOT_OURS)


def is_foreign(path: Path, content: Content, noted: Collection[str]) -> bool:
    """Whether writing this content to a path would cost somebody else's file: any but those noted as cellseg's.

    A link, a pipe or a folder never is cellseg's; a file that holds the same bytes loses nothing.
    """
    if not os.path.lexists(path) or (path.name in noted and files.is_regular(path)):
        return False
    return not holds(path, content)


def are_ours(folder: Path, stem: str) -> bool:
    """Whether cellseg made the files of a stem that the ledger does not know.

    Then it was killed before it could note them, or the ledger was lost. The label image or the table shows it.
    """
    try:
        read_provenance(_regular(folder / (stem + LABELS)))
    except (ImageError, OSError):
        return _starts_with(folder / (stem + CELLS), _CELLS_START)
    return True


def _regular(path: Path) -> Path:
    """Return the path of a regular file; raises ImageError for a link, and for a pipe or device, which could block."""
    if not files.is_regular(path):
        raise ImageError("is no file")
    return path


def holds(path: Path, data: Content) -> bool:
    """Whether there is a regular file with this content, which is made only if there is a file."""
    try:
        return _regular(path).read_bytes() == data()
    except (ImageError, OSError):
        return False


def _starts_with(path: Path, start: bytes) -> bool:
    try:
        with open(_regular(path), "rb") as file:
            return file.read(len(start)) == start
    except (ImageError, OSError):
        return False


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove result files; what else has such a name stays."""
    with files.write_lock(folder):
        for name in names:
            if files.is_regular(folder / name):
                (folder / name).unlink(missing_ok=True)
        files.sync_folder(folder)


def is_result_name(name: str) -> bool:
    """Whether a file of this name looks like one that `write` or a summary made."""
    return name.endswith(SUFFIXES) or name in SUMMARY_NAMES


def fits(stem: str) -> bool:
    """Whether the names of the files of this stem are short enough for a file system."""
    return max(len(os.fsencode(stem + suffix)) for suffix in SUFFIXES) <= 255


def write_labels(
    file: BinaryIO, labels: npt.NDArray[np.uint16], pixel_size_um: float | None, provenance: Provenance
) -> None:
    """Write a label image as OME-TIFF, with the pixel size in the OME-XML and in the tags that ImageJ reads."""
    import tifffile  # here, since `results` is also imported where nothing is written

    with tifffile.TiffWriter(file, byteorder="<") as tif:
        tif.write(
            labels,
            photometric="minisblack",
            compression="zlib",
            compressionargs={"level": _ZLIB_LEVEL},
            description=_ome_xml(labels.shape[0], labels.shape[1], pixel_size_um, provenance).encode(),
            metadata=None,  # tifffile's own OME-XML has a random identifier
            software="cellseg-device",
            resolution=(_UM_PER_CM / pixel_size_um,) * 2 if pixel_size_um is not None else None,
            resolutionunit="CENTIMETER" if pixel_size_um is not None else None,
        )


def _ome_xml(height: int, width: int, pixel_size_um: float | None, provenance: Provenance) -> str:
    namespace = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    attributes = {"ID": "Pixels:0", "DimensionOrder": "XYCZT", "Type": "uint16", "BigEndian": "false"}
    attributes |= {"SizeX": str(width), "SizeY": str(height), "SizeC": "1", "SizeZ": "1", "SizeT": "1"}
    if pixel_size_um is not None:
        for axis in "XY":
            attributes[f"PhysicalSize{axis}"] = repr(float(pixel_size_um))
            attributes[f"PhysicalSize{axis}Unit"] = "µm"
    pixels = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    facts = "".join(f"<M K={quoteattr(k)}>{escape(v)}</M>" for k, v in provenance.facts().items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{namespace}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{namespace} {namespace}/ome.xsd" Creator="cellseg-device">'
        f'<Image ID="Image:0" Name="labels"><Pixels {pixels}>'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/>'
        '</Pixels><AnnotationRef ID="Annotation:0"/></Image><StructuredAnnotations>'
        f'<MapAnnotation ID="Annotation:0" Namespace="{_NAMESPACE}"><Value>{facts}</Value></MapAnnotation>'
        "</StructuredAnnotations></OME>"
    )


def read_provenance(path: Path) -> Provenance:
    """Read what a label image was made from.

    Raises
    ------
    ImageError
        If it is no label image of ours, or a damaged one.
    OSError
        On a fault of the disk.
    """
    facts = read_facts(path)
    try:
        return Provenance(**{**facts, "image_bytes": int(facts.get("image_bytes", ""))})  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ImageError("is no label image of cellseg-device, or one of an older version") from None


def read_facts(path: Path) -> dict[str, str]:
    """Read what a label image says of its making, as `Provenance.facts` gave it; raises as `read_provenance` does."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            root = ET.fromstring(tif.ome_metadata or "")
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - tifffile raises many kinds on damaged files
        raise ImageError(f"is a damaged label image ({error})") from None
    return {
        m.get("K", ""): m.text or "" for m in root.iterfind(f".//{{*}}MapAnnotation[@Namespace='{_NAMESPACE}']//{{*}}M")
    }


def cells_csv(cells: Cells) -> str:
    """Format the table of cells as CSV: whole numbers as such, others to six digits, NaN as an empty cell."""
    columns = cells.columns
    formats = ("%d" if np.issubdtype(c.dtype, np.integer) else "%.6g" for c in columns.values())
    line = ",".join(formats) + "\n"
    body = "".join([line % row for row in zip(*(c.tolist() for c in columns.values()), strict=True)])
    if any(math.isnan(c.sum()) for c in columns.values()):
        body = body.replace("nan", "")
    return ",".join(columns) + "\n" + body
