"""The size of a pixel in a TIFF file, as the program says that wrote it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from cellseg_device.units import is_pixel_size

_UM_PER_UNIT = {"µm": 1.0, "um": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_UM_PER_UNIT |= dict.fromkeys(("micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), 1.0)
_SQUARE_RATIO = 1.01  # pixels whose sides differ by more are not square
_PRINTED_UM = 40.0  # a pixel size from this on, known only from the resolution per centimetre, is meant for a printer
_PER_CENTIMETRE = 3

_Sides = tuple[float | None, float | None]  # (width, height) of a pixel in µm


def pixel_size_um(tif: Any) -> float | None:
    """Return the edge of a pixel in µm by the first that gives one: OME-XML, ImageJ, Micro-Manager, Zeiss, resolution.

    None if none of them does, or the pixels are not square.

    Parameters
    ----------
    tif : tifffile.TiffFile
    """
    for sides in (_ome(tif), _imagej(tif), _micro_manager(tif), _zeiss(tif), _per_centimetre(tif)):
        if any(sides):
            return _square(*sides)
    return None


def _ome(tif: Any) -> _Sides:
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", (tif.ome_metadata or "") if tif.is_ome else "")
    if pixels is None:
        return None, None
    tag = re.sub(r"<(?:\w+:)?", "<", pixels.group().rstrip("/>")) + "/>"
    attributes = ET.fromstring(tag).attrib
    x, y = (
        _plausible_um(attributes.get(f"PhysicalSize{axis}"), attributes.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "XY"
    )
    return x, x if y is None else y


def _imagej(tif: Any) -> _Sides:
    if not tif.is_imagej:
        return None, None
    return _resolution(tif, str((tif.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ"))


def _micro_manager(tif: Any) -> _Sides:
    tag = tif.pages.first.tags.get("MicroManagerMetadata")
    size = _plausible_um(tag.value.get("PixelSizeUm"), "µm") if tag is not None and type(tag.value) is dict else None
    return size, size


def _zeiss(tif: Any) -> _Sides:
    tag = tif.pages.first.tags.get("CZ_LSMINFO")
    if tag is None or type(tag.value) is not dict:
        return None, None
    return _plausible_um(tag.value.get("VoxelSizeX"), "m"), _plausible_um(tag.value.get("VoxelSizeY"), "m")


def _per_centimetre(tif: Any) -> _Sides:
    """By tags that any program writes; a resolution per inch is for printers."""
    unit = tif.pages.first.tags.get("ResolutionUnit")
    if tif.is_imagej or unit is None or unit.value != _PER_CENTIMETRE:
        return None, None
    x, y = _resolution(tif, "cm")
    return (x, y) if max(x or 0, y or 0) < _PRINTED_UM else (None, None)


def _resolution(tif: Any, unit: str) -> _Sides:
    """Return the sides that the resolution tags give in a unit."""
    tags = tif.pages.first.tags
    edges = [tags[name].value for name in ("XResolution", "YResolution") if name in tags]
    if len(edges) < 2 or not all(pixels for pixels, _ in edges):
        return None, None
    x, y = (_plausible_um(length / pixels, unit) for pixels, length in edges)
    return x, y


def _square(x: float | None, y: float | None) -> float | None:
    return x if x is not None and y is not None and 1 / _SQUARE_RATIO < x / y < _SQUARE_RATIO else None


def _plausible_um(value: Any, unit: str) -> float | None:
    try:
        size = float(value or 0) * _UM_PER_UNIT[unit]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    # Any other size is a mistake of the program that wrote the file, such as metres written as micrometres
    return size if is_pixel_size(size) else None
