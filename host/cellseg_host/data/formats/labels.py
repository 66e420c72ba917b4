"""``labels``: images with one label image each, in which each cell has a number."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cellseg_device.errors import InputError
from cellseg_device.results.formats.label_images import read_labels
from cellseg_host.data.formats.source import (
    Drawn,
    Options,
    Source,
    by_stem,
    check_shape,
    images_in,
    make,
    only,
    read_manifest,
)

# A single label in this many pieces is taken for a mask of all cells
_PIECES = 3


def find(root: Path, _options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return the images of the labels layout: ``images/NAME`` with ``labels/NAME`` (or ``masks/``), instance labels.

    A ``manifest.csv`` beside them may say more: columns id and, optionally, set, split, modality and kind. So a dataset
    is such a folder, too; an image without labels needs none if its column cells is empty.

    Raises
    ------
    InputError
        If a folder is missing or empty.
    """
    label_root = next((root / n for n in ("labels", "masks") if (root / n).is_dir()), None)
    if label_root is None or not (root / "images").is_dir():
        raise InputError(f"{root}: needs a folder 'images' and a folder 'labels' with one label image each")
    labels, found = by_stem(images_in(label_root)), by_stem(images_in(root / "images"))
    if not found:
        raise InputError(f"{root / 'images'}: holds no PNG, JPEG or TIFF image")
    manifest = read_manifest(root, found.keys() | labels.keys())
    unlabelled = {stem for stem, row in manifest.items() if row.get("cells") == ""} - labels.keys()
    readers = {
        stem: None if stem in unlabelled else partial(read_named, labels.get(stem, []))
        for stem in sorted(found.keys() | labels.keys())
    }
    return [make(root, manifest, stem, found.get(stem, []), reader) for stem, reader in readers.items()]


def read_named(paths: list[Path], shape: tuple[int, int]) -> Drawn:
    """Return the labels in the one file that an image has; raises as `read_one`, and if there is none or several."""
    return read_one(only(paths, "label image"), shape)


def read_one(path: Path, shape: tuple[int, int]) -> Drawn:
    """Return the labels in a file.

    Raises
    ------
    InputError
        If they cannot be read, are of another size than the image, or are a mask of all cells.
    """
    labels = read_labels(path)
    check_shape(labels, shape)
    if labels.max(initial=0) == 1 and (pieces := cv2.connectedComponents(labels.astype(np.uint8))[0] - 1) >= _PIECES:
        raise InputError(
            f"labels are one number in {pieces} pieces: give each cell its own number (Fiji: Analyze Particles, "
            "Show Count Masks)"
        )
    return Drawn(labels)
