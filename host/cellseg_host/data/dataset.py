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
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from cellseg_device import files
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
        """The true labels, (height, width), numbered from 1 without gaps, whoever has edited the file since.

        Raises
        ------
        InputError
            If it cannot be read, or is of another size than the image.
        """
        path = self.root / "labels" / f"{entry.id}.png"
        labels = read_labels(path)
        if labels.shape != (entry.height, entry.width):
            sizes = [f"{width}×{height} px" for height, width in (labels.shape, (entry.height, entry.width))]
            raise InputError(f"{path}: is {sizes[0]}, by the manifest {sizes[1]}: restore it, or import the data again")
        return consecutive(labels)

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
        If it cannot be read, is not single-channel, holds numbers over 65,535, or is of a kind that does not keep them.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise InputError(f"{path}: JPEG does not keep the cells' numbers: save labels as PNG or TIFF")
    if path.suffix.lower() in (".tif", ".tiff"):
        _check_label_tiff(path)
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise InputError(f"{path}: label image cannot be read")
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16, np.int32):
        raise InputError(f"{path}: labels must be one channel of whole numbers, found {labels.dtype}{labels.shape}")
    if labels.dtype == np.int32 and not 0 <= labels.min() <= labels.max() <= 65_535:
        raise InputError(f"{path}: label numbers must lie between 0 and 65,535")
    return labels.astype(np.uint16)


def _check_label_tiff(path: Path) -> None:
    """Refuse what OpenCV would read a part of, or turned over."""
    try:
        with tifffile.TiffFile(path) as tif:
            pages, photometric = len(tif.pages), int(tif.pages.first.photometric)
    except Exception as error:  # tifffile raises many kinds on damaged files
        raise InputError(f"{path}: label image cannot be read ({error})") from None
    if pages != 1:
        raise InputError(f"{path}: holds {pages} pages: save one label image for each image")
    if photometric == 0:
        raise InputError(f"{path}: has an inverting lookup table (MinIsWhite): save it without (Fiji: Invert LUT)")


def consecutive(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Renumber from 1 without gaps, keeping the order."""
    present = np.bincount(labels.reshape(-1), minlength=1) > 0
    present[0] = False
    numbers = np.where(present, np.cumsum(present), 0).astype(np.uint16)
    renumbered: npt.NDArray[np.uint16] = numbers[labels]
    return renumbered


def save_png(path: Path, image: npt.NDArray[Any]) -> None:
    """Write a grey or RGB image, 8 or 16 bits, whole or not at all."""
    stored = image if image.ndim == 2 else image[..., ::-1]
    _, data = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data.tobytes())
    part.replace(path)


def load(root: Path) -> Dataset:
    """Open a dataset.

    Raises
    ------
    InputError
        If the folder is not a canonical dataset, or its manifest is damaged.
    """
    manifest = root / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{root}: is no dataset (no manifest.csv): make one with 'cellseg-host data import'")
    names = [f.name for f in dataclasses.fields(Entry)]
    rows = read_table(manifest)
    if missing := [n for n in names if rows and n not in rows[0]]:
        raise InputError(f"{manifest}: has no column {missing[0]!r}: make it with 'cellseg-host data import'")
    if not rows:
        raise InputError(f"{manifest}: lists no image")
    entries: dict[str, Entry] = {}
    for line, row in enumerate(rows, 2):
        try:
            entry = _entry(row)
        except (TypeError, ValueError) as error:
            raise InputError(f"{manifest}: line {line} is damaged ({error}): mend it") from None
        if entry.split not in SPLITS:
            raise InputError(f"{manifest}: line {line}: {entry.split!r} is none of the splits {', '.join(SPLITS)}")
        if entry.id in entries:
            raise InputError(f"{manifest}: line {line}: {entry.id} stands there twice: keep one of the rows")
        entries[entry.id] = entry
    return Dataset(root, tuple(entries.values()))


def read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table with a header, such as a manifest; of a row that is cut short the rest is None.

    Raises
    ------
    InputError
        If it is not a table in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: is damaged ({error}): mend it") from None


def write_manifest(root: Path, entries: Iterable[Entry]) -> None:
    """Write the manifest, sorted by id; a former one stays until it is whole."""
    names = [f.name for f in dataclasses.fields(Entry)]
    rows = [dataclasses.astuple(e) for e in sorted(entries, key=lambda e: e.id)]
    write_table(root / "manifest.csv", [names, *rows])


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a table, its header being the first of the rows, whole or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    files.write(path, text.getvalue().encode())


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
