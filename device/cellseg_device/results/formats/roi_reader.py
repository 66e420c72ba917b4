"""Outlines of cells in ImageJ's files: one selection, or a zip of them, as the ROI Manager saves it."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.filling import Outline
from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.image.opencv import reason, shown

if TYPE_CHECKING:
    from roifile import ImagejRoi

_ENDING = ".roi"
_MOST_ROI_BYTES, _MOST_BYTES = 16 << 20, 512 << 20  # of one selection, and of all in a zip
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_ELLIPSE_CORNERS = 4096
_FARTHEST_PX = 1e6
_AGAIN = "save it again from ImageJ's ROI Manager"


def read_roi(data: bytes) -> Iterator[Outline]:
    """Yield the outline of a single selection; raises ValueError as `read_zip`."""
    yield _outline(data, "the selection")


def read_zip(data: bytes) -> Iterator[Outline]:
    """Yield the outline of each selection in a zip, in its order.

    Raises
    ------
    ValueError
        With what is wrong in words for a user.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = archive.infolist()
    except Exception as error:  # noqa: BLE001 - zipfile raises what it likes on damaged bytes
        raise ValueError(f"is not a sound zip ({reason(error)}): {_AGAIN}") from None
    is_empty = not members  # as it is of an image without cells
    members = [member for member in members if member.filename.lower().endswith(_ENDING)]
    if not members and not is_empty:
        raise ValueError(f"is a zip without a {_ENDING}: {_AGAIN}")
    if len(members) > MAX_CELLS:
        raise ValueError(f"holds more than {MAX_CELLS:,} cells: cut the image into parts")
    if sum(member.file_size for member in members) > _MOST_BYTES:
        raise ValueError("is far larger unpacked than selections are: save a label image instead")
    for member in members:
        name = shown(member.filename, 60)
        yield _outline(_content(archive, member, name), name)


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> bytes:
    if member.compress_type not in _COMPRESSIONS or member.file_size > _MOST_ROI_BYTES:
        raise ValueError(f"{name} is too large, or compressed in a way that is not read: {_AGAIN}")
    try:
        with archive.open(member) as file:
            return file.read(_MOST_ROI_BYTES)
    except Exception as error:  # noqa: BLE001
        raise ValueError(f"{name} is damaged ({reason(error)}): {_AGAIN}") from None


def _outline(data: bytes, name: str) -> Outline:
    """Return the rings of a selection."""
    import roifile  # here, since it is seldom needed

    logging.getLogger("roifile").disabled = True  # what it says there is said here in words of ours
    try:
        roi = roifile.ImagejRoi.frombytes(data)
        rings = _rings(roi)
    except _NoAreaError as error:
        raise ValueError(f"{name} is {error}: draw its outline, or delete it") from None
    except Exception as error:  # noqa: BLE001 - of damaged bytes roifile and NumPy say all kinds of things
        raise ValueError(f"{name} is damaged ({reason(error)}): {_AGAIN}") from None
    rings = [ring for ring in rings if len(ring)]
    if not rings:
        raise ValueError(f"{name} has no corners: {_AGAIN}, or delete it")
    if not all(np.isfinite(ring).all() and np.abs(ring).max() <= _FARTHEST_PX for ring in rings):
        raise ValueError(f"{name} has a corner that is no place in an image: {_AGAIN}")
    return rings


class _NoAreaError(Exception):
    """A selection encloses nothing."""


def _rings(roi: ImagejRoi) -> list[npt.NDArray[np.float64]]:
    from roifile import ROI_SUBTYPE, ROI_TYPE

    areas = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL)
    others = (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.ARROW, ROI_SUBTYPE.IMAGE)
    if roi.roitype not in areas or roi.subtype in others:
        raise _NoAreaError(f"a {_kind(roi)} selection, which has no area")
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL) and not roi.composite:
        left, top, width, height = _frame(roi)
        return [_ellipse(left, top, width, height) if roi.roitype == ROI_TYPE.OVAL else _box(left, top, width, height)]
    rings: Any = roi.coordinates(multi=True)
    return [np.asarray(ring, np.float64).reshape(-1, 2) for ring in rings]


def _kind(roi: ImagejRoi) -> str:
    from roifile import ROI_SUBTYPE

    kind = roi.roitype if roi.subtype == ROI_SUBTYPE.UNDEFINED else roi.subtype
    return kind.name.lower()


def _frame(roi: ImagejRoi) -> tuple[float, float, float, float]:
    """Return left, top, width and height of a rectangle or an oval."""
    if roi.subpixelrect:
        return roi.xd, roi.yd, roi.widthd, roi.heightd
    return roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top


def _box(left: float, top: float, width: float, height: float) -> npt.NDArray[np.float64]:
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def _ellipse(left: float, top: float, width: float, height: float) -> npt.NDArray[np.float64]:
    """Return a polygon that differs from an ellipse by less than a hundredth of a pixel."""
    corners = int(min(16 + 32 * np.sqrt(max(abs(width), abs(height))), _MOST_ELLIPSE_CORNERS))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.column_stack([left + width / 2 * (1 + np.cos(angle)), top + height / 2 * (1 + np.sin(angle))])
