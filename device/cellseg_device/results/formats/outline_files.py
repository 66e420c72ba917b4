"""Label images of cells drawn in other programs, whichever of the formats that are read they were saved in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.cells import filling
from cellseg_device.cells.filling import Outline
from cellseg_device.errors import NO_MEMORY, InputError
from cellseg_device.image.opencv import reason
from cellseg_device.results.formats import geojson_reader, roi_reader
from cellseg_device.results.formats.label_images import Labels, read_labels
from cellseg_device.system import files

LABEL_SUFFIXES = (".tif", ".tiff", ".png")
_OUTLINES: dict[str, Callable[[bytes], Iterator[Outline]]] = {
    ".zip": roi_reader.read_zip,
    ".roi": roi_reader.read_roi,
    ".geojson": geojson_reader.read,
    ".json": geojson_reader.read,
}
SUFFIXES = (*LABEL_SUFFIXES, *_OUTLINES)
_MOST_BYTES = 128 << 20  # a cell of 500 corners as text takes 6 kB


@dataclass(frozen=True)
class Drawn:
    """Cells from a file.

    Attributes
    ----------
    labels : ndarray of uint16, shape (height, width)
        Numbered from 1 without gaps, in the order of the file's cells.
    notes : tuple of str
        What should be said of it, in words: of cells that overlap, and such that have no pixel.
    """

    labels: Labels
    notes: tuple[str, ...] = ()


def read(path: Path, shape: tuple[int, int]) -> Drawn:
    """Return the cells in a file: a label image, a ROI or a zip of ROIs of ImageJ, or GeoJSON of QuPath.

    Where outlines overlap, the later one has the pixels.

    Parameters
    ----------
    path : Path
    shape : (int, int)
        Height and width of the image.

    Raises
    ------
    InputError
        If it is none of these, is damaged, or does not fit an image of this size.
    """
    suffix = path.suffix.lower()
    if suffix in _OUTLINES:
        return _filled(path, _OUTLINES[suffix], shape)
    if suffix not in (*LABEL_SUFFIXES, ".jpg", ".jpeg"):
        raise InputError(f"{path}: is none of {', '.join(SUFFIXES)}: save label images, ROIs of ImageJ or GeoJSON")
    labels = read_labels(path)
    if labels.shape != shape:
        raise InputError(
            f"{path}: has {labels.shape[1]}×{labels.shape[0]} pixels, the image {shape[1]}×{shape[0]}: save labels of "
            "the image's size"
        )
    return Drawn(labels)


def _filled(path: Path, parse: Callable[[bytes], Iterator[Outline]], shape: tuple[int, int]) -> Drawn:
    try:
        with open(path, "rb", opener=files.regular) as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ValueError(f"is over {_MOST_BYTES >> 20} MB: simplify the outlines, or save a label image")
        filled = filling.fill(parse(data), shape)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except MemoryError:
        raise InputError(f"{path}: {NO_MEMORY}") from None
    except ValueError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    notes = []
    if filled.overlapping_px:
        notes.append(f"cells overlap in {filled.overlapping_px:,} px, which went to the later ones")
    if filled.lost:
        notes.append(f"{filled.lost:,} without a pixel of their own were left out")
    return Drawn(filled.labels, tuple(notes))
