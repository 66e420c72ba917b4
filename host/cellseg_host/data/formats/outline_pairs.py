"""``imagej-roi`` and ``qupath``: images with a file of outlines each, read as cellseg-device reads them."""

from __future__ import annotations

from pathlib import Path

from cellseg_device.errors import InputError
from cellseg_device.results.formats import outline_files
from cellseg_host.data.formats.source import (
    Options,
    Source,
    files_in,
    folder_of,
    image_folder,
    images_in,
    paired,
    with_suffix,
)

_ROIS = (".rois.zip", ".zip", ".roi")
_GEOJSON = (".geojson", ".json")


def find_rois(root: Path, options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return images with selections of ImageJ: ``NAME.zip``, ``NAME.rois.zip`` or ``NAME.roi``.

    Raises
    ------
    InputError
        If there are no images, or no selections.
    """
    return _find(root, options, ("rois", "labels"), _ROIS, "ROI file")


def find_geojson(root: Path, options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return images with objects of QuPath: ``NAME.geojson`` or ``NAME.json``.

    Raises
    ------
    InputError
        If there are no images, or no objects.
    """
    return _find(root, options, ("geojson", "labels"), _GEOJSON, "GeoJSON file")


def _find(root: Path, options: Options, folders: tuple[str, ...], suffixes: tuple[str, ...], what: str) -> list[Source]:
    """Return images with files beside them, or in one of these folders."""
    of_images = image_folder(root, options)
    of_labels = next((root / name for name in folders if (root / name).is_dir()), None)
    if of_labels is None:
        of_labels = folder_of(root) if options.images else of_images
    images, labels = images_in(of_images), [*with_suffix(files_in(of_labels), suffixes)]
    if not images:
        raise InputError(f"{of_images}: holds no PNG, JPEG or TIFF image")
    if not labels:
        raise InputError(f"{of_labels}: holds no {what} ({', '.join('NAME' + suffix for suffix in suffixes)})")
    return paired(root, images, labels, outline_files.read, what)
