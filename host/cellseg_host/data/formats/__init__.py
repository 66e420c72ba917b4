"""The formats that can be imported, a module each.

A format is a function that returns what there is to import in a source, `Source`s, without reading any image, and a
line of help. To add one: write a module with such a function, list it in `FORMATS`, give it a section in
docs/import.md and tests in ``tests/host/data/formats/``.

Two kinds of faults are told apart. One of the whole source (nothing that looks like the format, a table without its
columns) is an InputError that the function raises: nothing is written then. One of a single image (its labels missing,
damaged, or of another size) is raised when that image is read, and rejects it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cellseg_host.data.formats import (
    cellpose,
    cellseg,
    coco,
    dicom,
    dsb2018,
    images,
    labels,
    outline_pairs,
    outlines,
    rle,
)
from cellseg_host.data.formats.source import Options, Source


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    find : callable
        Returns the images of a source.
    layout : str
        What the source looks like, for the help.
    options : tuple of str
        The fields of `Options` that it uses.
    takes_file : bool
        Whether a source may be a file; else it is a folder.
    """

    find: Callable[[Path, Options], list[Source]]
    layout: str
    options: tuple[str, ...] = ()
    takes_file: bool = False


FORMATS = {
    "dsb2018": Format(dsb2018.find, "ID/images/*.png with ID/masks/*.png, one nucleus per mask"),
    "labels": Format(
        labels.find, "images/ and labels/ with instance label images of the same names, also a dataset made before"
    ),
    "images": Format(images.find, "images alone, without labels, from which only classifiers learn"),
    "cellseg": Format(
        cellseg.find,
        "results of cellseg-device, what a person corrected first, or its corrections.zip",
        ("images",),
        takes_file=True,
    ),
    "imagej-roi": Format(outline_pairs.find_rois, "images with NAME.zip or NAME.roi of ImageJ", ("images",)),
    "qupath": Format(outline_pairs.find_geojson, "images with NAME.geojson of QuPath", ("images",)),
    "cellpose": Format(
        cellpose.find, "images with NAME_cp_masks.png, NAME_cp_masks.tif or NAME_seg.npy of Cellpose", ("images",)
    ),
    "coco": Format(
        coco.find, "a COCO file, also of Labelme or Label Studio, or the folder with it", ("images",), takes_file=True
    ),
    "rle": Format(
        rle.find,
        "a table of ImageId and EncodedPixels, or its folder, and images in PNG or DICOM",
        ("images", "runs", "keep"),
        takes_file=True,
    ),
    "dicom": Format(
        dicom.find, "DICOM images, with label images of the same names in labels/ or without", ("images", "keep")
    ),
    "outlines": Format(
        outlines.find,
        "images/ and outlines/ with pictures of the same names in which closed lines are drawn around cells",
        ("images", "colour", "tolerance"),
    ),
}
