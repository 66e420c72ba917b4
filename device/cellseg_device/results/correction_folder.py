"""A folder with ``images/`` and ``labels/`` from anywhere, read as a file of corrections is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.errors import ImageError, InputError
from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.image.source import is_image_name
from cellseg_device.image.source import read as read_bytes
from cellseg_device.results.correction_items import Corrections, Item, check_sizes
from cellseg_device.results.formats.label_images import Labels, read_labels
from cellseg_device.system import files
from cellseg_device.system.natural_order import natural_key

_OURS = ".labels"  # what the names of label images end with that cellseg writes, before the suffix


def read(path: Path) -> Corrections:
    """Return what is in ``images/`` and ``labels/``: an image belongs to the labels that have its name.

    Raises
    ------
    InputError
        If there is nothing, an image has no labels or labels no image, either cannot be read, or they have different
        sizes.
    """
    images, labels = (_by_stem(path / name) for name in ("images", "labels"))
    for stem in sorted(images.keys() - labels.keys(), key=natural_key):
        raise InputError(f"{images[stem]}: has no labels: save them as {path / 'labels' / stem}.png, or move it away")
    for stem in sorted(labels.keys() - images.keys(), key=natural_key):
        raise InputError(f"{labels[stem]}: has no image in {path / 'images'}: copy it there, or move the labels away")
    if not images:
        raise InputError(f"{path / 'images'}: holds no image: put corrected images there, their labels into labels/")
    pairs = _Pairs(images, labels)
    return Corrections(path, tuple(pairs.item(stem) for stem in sorted(images, key=natural_key)), None, "", pairs)


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the images in a folder by their names without an ending."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: corrections are a zip, or a folder with images/ and labels/")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if is_image_name(path.name):
            stem = path.stem.removesuffix(_OURS) if folder.name == "labels" else path.stem
            if stem in found:
                raise InputError(f"{path}: has the name of {found[stem].name}: give one of them another name")
            found[stem] = path
    return found


@dataclass(frozen=True)
class _Pairs:
    """Image files and label files by the names of the items."""

    image_files: dict[str, Path]
    label_files: dict[str, Path]

    def item(self, stem: str) -> Item:
        """Return what is to be known of an image, which is decoded for that, as its labels are."""
        path = self.image_files[stem]
        image, labels = _image(path), read_labels(self.label_files[stem])
        check_sizes(str(self.label_files[stem]), image.shape, labels.shape)
        return Item(
            stem, int(labels.max(initial=0)), path.name, files.sha256(path), None, None, image.pixel_size_um, None
        )

    def image(self, item: Item) -> Image:
        """Return an image."""
        return _image(self.image_files[item.name])

    def labels(self, item: Item) -> Labels:
        """Return labels, which are checked again: files may have changed."""
        labels = read_labels(self.label_files[item.name])
        check_sizes(str(self.label_files[item.name]), self.image(item).shape, labels.shape)
        return labels


def _image(path: Path) -> Image:
    try:
        return dataclasses.replace(decode(read_bytes(path)), captured=None)
    except ImageError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the disk") from None
