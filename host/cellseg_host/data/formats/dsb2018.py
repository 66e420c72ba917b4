"""``dsb2018``: a folder an image, with one mask a nucleus, as the Data Science Bowl 2018 has it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import InputError
from cellseg_device.results.formats.label_images import consecutive
from cellseg_host.data.formats.source import Drawn, Options, Source, check_shape, images_in, make, read_manifest

# Masks may overlap by up to this share of the smaller one, as rough drawing; more is a fault
MAX_OVERLAP = 0.1


def find(root: Path, _options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return the images of the Kaggle layout, ``ID/images/*.png`` with ``ID/masks/*.png``, one nucleus per mask.

    A ``manifest.csv`` beside them may say more: columns id and, optionally, set, split, modality and kind.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    folders = [f for f in sorted(root.iterdir()) if (f / "images").is_dir()] if root.is_dir() else []
    if not folders:
        raise InputError(f"{root}: no ID/images/*.png found: name the unpacked stage1_train folder")
    manifest = read_manifest(root, {f.name for f in folders})
    return [make(root, manifest, f.name, images_in(f / "images"), partial(_join_masks, f / "masks")) for f in folders]


def _join_masks(folder: Path, shape: tuple[int, int]) -> Drawn:
    """Return one label image from a folder of masks; a pixel in two masks goes to the smaller nucleus."""
    paths = images_in(folder)
    if not paths:
        raise InputError("has no masks/*.png")
    masks = []
    for path in paths:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if mask is None:
            raise InputError(f"mask {path.name} cannot be read")
        check_shape(mask, shape, f"mask {path.name} is")
        inside = (mask if mask.ndim == 2 else mask[..., :3].max(axis=2)) > mask.max() // 2  # any value may mean inside
        if inside.any():
            masks.append(inside)
    if len(masks) > MAX_CELLS:
        raise InputError(f"has {len(masks)} masks, over {MAX_CELLS:,}")
    labels = np.zeros(shape, np.uint16)
    for number, mask in sorted(enumerate(masks, 1), key=lambda nm: -int(nm[1].sum())):
        covered = np.bincount(labels[mask])[1:]
        if covered.sum() > MAX_OVERLAP * mask.sum():
            raise InputError(f"masks overlap by {covered.sum()} px (a nucleus of {mask.sum()} px)")
        labels[mask] = number
    return Drawn(consecutive(labels))
