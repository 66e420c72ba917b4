"""The optional formats of a result, a module each: the suffix of their files, and what encodes them.

They are made from what is stored of every image, so that those made later are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cellseg_device.results.formats import coco, geojson, outlines, rois
from cellseg_device.results.formats.content import Content

__all__ = ["FORMATS", "Content", "Format"]


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    suffix : str
        Follows ``STEM`` in the names of its files.
    encode : callable
        Returns the content of the file for what is stored of an image.
    """

    suffix: str
    encode: Callable[[Content], bytes]


FORMATS = {
    "rois": Format(".rois.zip", rois.encode),
    "geojson": Format(".geojson", geojson.encode),
    "coco": Format(".coco.json", coco.encode),
    "outlines": Format(".outlines.txt", outlines.encode),
}
