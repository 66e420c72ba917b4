"""The optional formats of a result, a file each: how their files end, and what makes them.

They are made of what is stored for an image anyway, so that they can be made later and be the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cellseg_device.formats import coco, geojson, outlines, rois
from cellseg_device.formats.content import Content

__all__ = ["FORMATS", "Content", "Format"]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    suffix : str
        Its files are ``STEM`` and this.
    encode : callable
        From what is stored of an image to the content of the file.
    """

    suffix: str
    encode: Callable[[Content], bytes]


FORMATS = {
    "rois": Format(".rois.zip", rois.encode),
    "geojson": Format(".geojson", geojson.encode),
    "coco": Format(".coco.json", coco.encode),
    "outlines": Format(".outlines.txt", outlines.encode),
}
