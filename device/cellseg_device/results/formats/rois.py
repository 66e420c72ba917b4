"""ImageJ: a zip archive of regions of interest, one for each cell, that the ROI Manager opens.

A cell of one piece without holes is a traced selection in whole pixels, as ImageJ's wand makes it; any other is a
composite selection, whose paths ImageJ fills by the even-odd rule.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.polygons import Ring
from cellseg_device.results.formats.content import Content

if TYPE_CHECKING:
    from roifile import ImagejRoi

_MOST_TRACED_POINTS = 2**15 - 1  # ImageJ before 1.52 reads their number as a signed one
_VERSION = 228  # of the format, independent of the library's default
_MOVE_TO, _LINE_TO, _CLOSE = 0, 1, 4
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip archive


def encode(content: Content) -> bytes:
    """Return a result as an archive of ROIs, named after the labels (``00017``) and in their order."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for label, polygons in content.polygons.items():
            name = f"{label:05}"
            roi = _roi(name, [ring for polygon in polygons for ring in polygon])
            file.writestr(zipfile.ZipInfo(f"{name}.roi", _NO_TIME), roi.tobytes())
    return archive.getvalue()


def _roi(name: str, rings: list[Ring]) -> ImagejRoi:
    import roifile  # here, since no other format needs it

    roi = roifile.ImagejRoi()
    roi.version = _VERSION
    roi.name = name
    points = np.concatenate(rings)
    corner = points.min(axis=0)
    roi.left, roi.top = corner.tolist()
    roi.right, roi.bottom = points.max(axis=0).tolist()
    if len(rings) == 1 and len(points) <= _MOST_TRACED_POINTS:
        roi.roitype = roifile.ROI_TYPE.TRACED
        roi.n_coordinates = len(points)
        roi.integer_coordinates = points - corner
    else:
        roi.roitype = roifile.ROI_TYPE.RECT
        roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
        roi.shape_roi_size = roi.multi_coordinates.size
    return roi


def _path(ring: Ring) -> npt.NDArray[np.float32]:
    steps = np.column_stack([np.full(len(ring), _LINE_TO), ring]).astype(np.float32)
    steps[0, 0] = _MOVE_TO
    return np.append(steps.ravel(), np.float32(_CLOSE))
