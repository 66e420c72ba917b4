"""Cell segmentation beside the microscope: images in, masks, a table of cells and a count out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellseg_device.cells.counting import Counting
    from cellseg_device.pipeline.segment import Segmentation
    from cellseg_device.pipeline.segmenter import Segmenter
    from cellseg_device.units import Length

__version__ = "0.1.0"
__all__ = ["Counting", "Length", "Segmentation", "Segmenter"]

_HOMES = {
    "Counting": "cellseg_device.cells.counting",
    "Length": "cellseg_device.units",
    "Segmentation": "cellseg_device.pipeline.segment",
    "Segmenter": "cellseg_device.pipeline.segmenter",
}


def __getattr__(name: str) -> object:
    """Import the Python API on first use, so that the command line starts without OpenCV and the runtime."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
