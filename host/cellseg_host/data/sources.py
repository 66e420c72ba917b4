"""What is to be imported: images in the layouts of common formats, found before anything of them is read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import InputError
from cellseg_device.image.source import is_image_name
from cellseg_device.results.formats.label_images import Labels, consecutive, read_labels
from cellseg_device.stderr import say
from cellseg_host.data.dataset import read_table

# Masks may overlap by up to this share of the smaller one, as rough drawing; more is a fault
MAX_OVERLAP = 0.1
# A single label in this many pieces is taken for a mask of all cells
_PIECES = 3


@dataclass(frozen=True)
class Source:
    """One image of the data to import, before anything of it is read.

    Attributes
    ----------
    id, set : str
        `set` is the name of the folder that it is from, unless a manifest there says otherwise.
    images : tuple of Path
        One image, as it should be; none or several are an error.
    read_labels : callable or None
        Returns the labels, given the image's (height, width); raises a CellsegError with the reason to reject it. None
        if the image has no labels, and need not have any.
    split, modality, kind : str or None
        None if the source does not say.
    """

    id: str
    set: str
    images: tuple[Path, ...]
    read_labels: Callable[[tuple[int, int]], Labels] | None
    split: str | None = None
    modality: str | None = None
    kind: str | None = None


# A manifest of the source: its rows by the id of the image
Manifest = dict[str, dict[str, str]]


def dsb2018_sources(root: Path) -> list[Source]:
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
    manifest = _manifest(root, {f.name for f in folders})
    return [
        _source(root, manifest, f.name, _images_in(f / "images"), partial(_join_masks, f / "masks")) for f in folders
    ]


def labels_sources(root: Path) -> list[Source]:
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
    labels, found = _by_stem(label_root), _by_stem(root / "images")
    if not found:
        raise InputError(f"{root / 'images'}: holds no PNG, JPEG or TIFF image")
    manifest = _manifest(root, found.keys() | labels.keys())
    unlabelled = {stem for stem, row in manifest.items() if row.get("cells") == ""} - labels.keys()
    readers = {
        stem: None if stem in unlabelled else partial(_labels_of, labels.get(stem, []))
        for stem in sorted(found.keys() | labels.keys())
    }
    return [_source(root, manifest, stem, found.get(stem, []), reader) for stem, reader in readers.items()]


def images_sources(root: Path) -> list[Source]:
    """Return the images in a folder, or in the folder ``images`` in it, which have no labels.

    A ``manifest.csv`` in `root` may say more: columns id and, optionally, set, split, modality and kind.

    Raises
    ------
    InputError
        If there are none.
    """
    folder = root / "images" if (root / "images").is_dir() else root
    found = _by_stem(folder) if folder.is_dir() else {}
    if not found:
        raise InputError(f"{folder}: holds no PNG, JPEG or TIFF image")
    manifest = _manifest(root, found.keys())
    return [_source(root, manifest, stem, found[stem], None) for stem in sorted(found)]


FORMATS: dict[str, Callable[[Path], list[Source]]] = {
    "dsb2018": dsb2018_sources,
    "labels": labels_sources,
    "images": images_sources,
}


def _source(
    root: Path,
    manifest: Manifest,
    identity: str,
    images: list[Path],
    read_labels: Callable[[tuple[int, int]], Labels] | None,
) -> Source:
    """Return one image of the folder `root`, with what the manifest says of it."""
    row = manifest.get(identity, {})
    split, modality, kind = (row.get(column) or None for column in ("split", "modality", "kind"))
    name = row.get("set") or root.resolve().name
    if "/" in name:  # it may become part of a file's name
        raise InputError(f"{root / 'manifest.csv'}: the set '{name}' has a '/': call it otherwise")
    return Source(identity, name, tuple(images), read_labels, split, modality, kind)


def _labels_of(paths: list[Path], shape: tuple[int, int]) -> Labels:
    if len(paths) != 1:
        raise InputError(
            f"has {len(paths)} label images of the same name" if paths else "has no label image of the same name"
        )
    labels = read_labels(paths[0])
    if labels.shape != shape:
        raise InputError(f"labels are {_size(labels.shape)}, the image {_size(shape)}")
    if labels.max(initial=0) == 1 and (pieces := cv2.connectedComponents(labels.astype(np.uint8))[0] - 1) >= _PIECES:
        raise InputError(
            f"labels are one number in {pieces} pieces: give each cell its own number (Fiji: Analyze Particles, "
            "Show Count Masks)"
        )
    return labels


def _join_masks(folder: Path, shape: tuple[int, int]) -> Labels:
    """Return one label image from a folder of masks; a pixel in two masks goes to the smaller nucleus."""
    paths = _images_in(folder) if folder.is_dir() else []
    if not paths:
        raise InputError("has no masks/*.png")
    masks = []
    for path in paths:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if mask is None:
            raise InputError(f"mask {path.name} cannot be read")
        if mask.shape[:2] != shape:
            raise InputError(f"mask {path.name} is {_size(mask.shape)}, the image {_size(shape)}")
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
    return consecutive(labels)


def _manifest(root: Path, ids: Collection[str]) -> Manifest:
    """Return the rows of the source's manifest.csv by id, after a check against the ids of the images.

    Raises
    ------
    InputError
        If no row is about one of the images: otherwise nobody would notice that its splits are not used.
    """
    path = root / "manifest.csv"
    if not path.is_file():
        return {}
    rows = read_table(path)
    by_id = {row.get("id") or "": row for row in rows}
    if not by_id.keys() & set(ids):
        raise InputError(
            f"{path}: no row has an image's name in a column 'id': correct it (columns separated by commas, names "
            "without .png and the like), or move it away"
        )
    if len(by_id) < len(rows):
        raise InputError(f"{path}: an id is listed twice: keep one of the rows")
    if missing := len(set(ids) - by_id.keys()):
        images = "1 image is" if missing == 1 else f"{missing} images are"
        say(f"note: {images} not in {path}: a hash of the name decides on the split")
    return by_id


def _images_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if is_image_name(path.name)]


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in _images_in(folder):
        found.setdefault(path.stem, []).append(path)
    return found


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]} px"
