"""The canonical dataset: a folder that every host command reads.

::

    DATASET/manifest.csv       one row per image: id, split, modality, height, width, cells, median_diameter_px
    DATASET/images/ID.png      8- or 16-bit, grey or RGB
    DATASET/labels/ID.png      16-bit, 0 = background, one number per cell
    DATASET/rejected.csv       what the import left out, and why
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import image as images
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image import Image

T = TypeVar("T")
R = TypeVar("R")

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """One row of the manifest."""

    id: str
    split: str
    modality: str
    height: int
    width: int
    cells: int
    median_diameter_px: float


@dataclass(frozen=True)
class Dataset:
    """A canonical dataset on disk.

    Attributes
    ----------
    root : Path
    entries : tuple of Entry
    """

    root: Path
    entries: tuple[Entry, ...]

    def split(self, name: str) -> tuple[Entry, ...]:
        """The entries of one split.

        Raises
        ------
        InputError
            If there are none.
        """
        found = tuple(e for e in self.entries if e.split == name)
        if not found:
            present = ", ".join(sorted({e.split for e in self.entries})) or "none"
            raise InputError(
                f"{self.root}: no image is in the split '{name}' (splits there: {present}): "
                "write it into the column 'split' of some rows of manifest.csv"
            )
        return found

    def image_bytes(self, entry: Entry) -> bytes:
        """The image's file, as the device would read it."""
        return _named(images.read, self._image_path(entry), self._image_path(entry))

    def image(self, entry: Entry) -> Image:
        """The decoded image."""
        return _named(images.decode, self.image_bytes(entry), self._image_path(entry))

    def _image_path(self, entry: Entry) -> Path:
        return self.root / "images" / f"{entry.id}.png"

    def labels(self, entry: Entry) -> npt.NDArray[np.uint16]:
        """The true labels, (height, width)."""
        return read_labels(self.root / "labels" / f"{entry.id}.png")

    def digest(self) -> str:
        """SHA-256 over the manifest and all images and labels: says which data a model was made from."""
        digest = hashlib.sha256((self.root / "manifest.csv").read_bytes())
        for entry in self.entries:
            digest.update(self.image_bytes(entry))
            digest.update((self.root / "labels" / f"{entry.id}.png").read_bytes())
        return digest.hexdigest()


def _named(function: Callable[[T], R], argument: T, path: Path) -> R:
    """Call a function of the device, whose errors leave it to the caller to name the file."""
    try:
        return function(argument)
    except ImageError as error:
        raise InputError(f"{path}: {error.message}") from None


def read_labels(path: Path) -> npt.NDArray[np.uint16]:
    """Read a label image.

    Raises
    ------
    InputError
        If it cannot be read, is not single-channel, or holds numbers over 65,535.
    """
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise InputError(f"{path}: label image cannot be read")
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16, np.int32):
        raise InputError(f"{path}: labels must be one channel of whole numbers, found {labels.dtype}{labels.shape}")
    if labels.dtype == np.int32 and not 0 <= labels.min() <= labels.max() <= 65_535:
        raise InputError(f"{path}: label numbers must lie between 0 and 65,535")
    return labels.astype(np.uint16)


def load(root: Path) -> Dataset:
    """Open a dataset.

    Raises
    ------
    InputError
        If the folder is not a canonical dataset.
    """
    manifest = root / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{root}: is no dataset (no manifest.csv): make one with 'cellseg-host data import'")
    names = [f.name for f in dataclasses.fields(Entry)]
    with manifest.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if missing := [n for n in names if n not in (reader.fieldnames or [])]:
            raise InputError(f"{manifest}: has no column {missing[0]!r}: make it with 'cellseg-host data import'")
        try:
            entries = tuple(_entry(row) for row in reader)
        except ValueError as error:
            raise InputError(f"{manifest}: {error}") from None
    if not entries:
        raise InputError(f"{manifest}: lists no image")
    return Dataset(root, entries)


def write_manifest(root: Path, entries: Iterable[Entry]) -> None:
    """Write the manifest, sorted by id."""
    names = [f.name for f in dataclasses.fields(Entry)]
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(dataclasses.asdict(e) for e in sorted(entries, key=lambda e: e.id))


def diameters_px(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """Equivalent diameter of every cell, in pixels: √(4·area/π)."""
    area = np.bincount(labels.ravel())[1:]
    return np.sqrt(4 * area[area > 0] / np.pi)


def _entry(row: dict[str, str]) -> Entry:
    return Entry(
        row["id"],
        row["split"],
        row["modality"],
        int(row["height"]),
        int(row["width"]),
        int(row["cells"]),
        float(row["median_diameter_px"]),
    )
