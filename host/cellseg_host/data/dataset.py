"""The canonical dataset: a folder that all commands of the host read.

::

    DATASET/manifest.csv       one row per image, with the columns of `Entry`
    DATASET/images/ID.png      8- or 16-bit, grey or RGB
    DATASET/labels/ID.png      16-bit, 0 = background, one number per cell; none of an image without labels
    DATASET/rejected.csv       what the import left out, and why
    DATASET/notes.csv          what it noted of images that it took, such as overlapping outlines; only if there is any

A manifest without the columns ``set`` and ``kind`` is one set, named like the folder, whose kinds follow from the
modalities. It has a column ``pixel_size_um`` where the size of some image's pixels is known, and one for each of
`KEEPABLE` that was kept.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ImageError, InputError
from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.image.source import read
from cellseg_device.results.formats.label_images import read_labels
from cellseg_device.system import csv_text, files

T = TypeVar("T")
R = TypeVar("R")

SPLITS = ("train", "val", "test")
# Kinds of samples by the modalities that have another name; of any other modality it is the modality itself. What
# brightfield shows are stained cells with dark nuclei, as tissue does; unstained ones in a chamber are another kind.
KINDS = {"histology": "tissue", "brightfield": "tissue", "phase": "other"}
# Columns that a manifest may lack
_OPTIONAL = ("set", "kind", "pixel_size_um", "kept")
# What may be kept of an image's header, by the keywords of DICOM: what the image shows, and nothing that names a person
KEEPABLE = (
    "Modality", "PatientSex", "PatientAge", "ViewPosition", "BodyPartExamined", "Laterality", "PatientPosition",
    "Manufacturer", "ManufacturerModelName", "KVP", "Exposure", "ConversionType",
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One row of the manifest.

    Attributes
    ----------
    id : str
    set : str
        Name of the collection that the image is from: one dataset may hold several.
    split : str
        One of `SPLITS`.
    modality : str
    kind : str
        Kind of sample, which a classifier tells apart.
    height, width : int
        In pixels.
    cells : int or None
        None for an image without labels, which only a classifier learns from.
    median_diameter_px : float
        0 without cells.
    pixel_size_um : float or None
        None if unknown.
    kept : mapping of str to str
        What was kept of its header, by names out of `KEEPABLE`.
    """

    id: str
    set: str
    split: str
    modality: str
    kind: str
    height: int
    width: int
    cells: int | None
    median_diameter_px: float
    pixel_size_um: float | None = None
    kept: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def is_labelled(self) -> bool:
        """Whether the dataset has labels of the image, be they without a cell."""
        return self.cells is not None


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
        """Return the entries of one split.

        Raises
        ------
        InputError
            If there are none.
        """
        found = tuple(e for e in self.entries if e.split == name)
        if not found:
            present = ", ".join(sorted({e.split for e in self.entries})) or "none"
            raise InputError(
                f"{self.root}: no image is in the split '{name}' (there are: {present}): "
                f"write '{name}' into the column 'split' of some rows of manifest.csv"
            )
        return found

    def labelled(self, split: str) -> tuple[Entry, ...]:
        """Return the entries of one split that have labels, which segmentation needs.

        Raises
        ------
        InputError
            If there are none.
        """
        found = tuple(e for e in self.split(split) if e.is_labelled)
        if not found:
            raise InputError(
                f"{self.root}: no image in the split '{split}' has labels, without which there is nothing to "
                "learn or to score: import images with labels"
            )
        return found

    def image_bytes(self, entry: Entry) -> bytes:
        """Return the bytes of the image's file, read as the device does."""
        return _named(read, self._image_path(entry), self._image_path(entry))

    def image(self, entry: Entry) -> Image:
        """Return the decoded image."""
        return _named(decode, self.image_bytes(entry), self._image_path(entry))

    def _image_path(self, entry: Entry) -> Path:
        return self.root / "images" / f"{entry.id}.png"

    def labels(self, entry: Entry) -> npt.NDArray[np.uint16]:
        """Return the true labels, (height, width), renumbered from 1 without gaps.

        Raises
        ------
        InputError
            If the file cannot be read, or its size is not that of the image.
        """
        path = self.root / "labels" / f"{entry.id}.png"
        labels = read_labels(path)
        if labels.shape != (entry.height, entry.width):
            sizes = [f"{width}×{height} px" for height, width in (labels.shape, (entry.height, entry.width))]
            raise InputError(
                f"{path}: is {sizes[0]}, but {sizes[1]} in the manifest: restore it, or import the data again"
            )
        return labels

    def digest(self) -> str:
        """Return a SHA-256 of the manifest and all images and labels, by which a model says what it was made from."""
        digest = hashlib.sha256((self.root / "manifest.csv").read_bytes())
        for entry in {entry.id: entry for entry in self.entries}.values():  # one may be in two splits
            digest.update(self.image_bytes(entry))
            if entry.is_labelled:
                digest.update((self.root / "labels" / f"{entry.id}.png").read_bytes())
        return digest.hexdigest()


def _named(function: Callable[[T], R], argument: T, path: Path) -> R:
    """Call a function of the device, and name the file in its errors."""
    try:
        return function(argument)
    except ImageError as error:
        raise InputError(f"{path}: {error.message}") from None


def save_png(path: Path, image: npt.NDArray[Any]) -> None:
    """Write a grey or RGB image, 8 or 16 bits; a kill leaves no half-written file."""
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
        raise InputError(f"{root}: is not a dataset (no manifest.csv): make one with 'cellseg-host data import'")
    names = [f.name for f in dataclasses.fields(Entry) if f.name not in _OPTIONAL]
    rows = read_table(manifest)
    if missing := [n for n in names if rows and n not in rows[0]]:
        raise InputError(f"{manifest}: has no column {missing[0]!r}: make it with 'cellseg-host data import'")
    if not rows:
        raise InputError(f"{manifest}: lists no image")
    entries: dict[str, Entry] = {}
    for line, row in enumerate(rows, 2):
        try:
            entry = _entry(row, root.resolve().name)
        except (TypeError, ValueError) as error:
            raise InputError(f"{manifest}: line {line} is damaged ({error}): correct it") from None
        if entry.split not in SPLITS:
            raise InputError(f"{manifest}: line {line}: {entry.split!r} is not one of the splits {', '.join(SPLITS)}")
        if entry.id in entries:
            raise InputError(f"{manifest}: line {line}: {entry.id} is listed twice: keep one of the rows")
        entries[entry.id] = entry
    return Dataset(root, tuple(entries.values()))


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table with a header, such as a manifest; missing values of a short row are None.

    Raises
    ------
    InputError
        If it is not a table in UTF-8.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv_text.Rows(file))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: is damaged ({error}): correct it") from None


def write_manifest(root: Path, entries: Iterable[Entry]) -> None:
    """Write the manifest, sorted by id; an older one stays until the new one is complete."""
    entries = sorted(entries, key=lambda e: e.id)
    names = [f.name for f in dataclasses.fields(Entry) if f.name not in ("pixel_size_um", "kept")]
    if any(entry.pixel_size_um for entry in entries):
        names.append("pixel_size_um")
    kept = [name for name in KEEPABLE if any(name in entry.kept for entry in entries)]
    rows = [[*(getattr(e, name) for name in names), *(e.kept.get(name) for name in kept)] for e in entries]
    write_table(root / "manifest.csv", [[*names, *kept], *rows])


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a table, the header first; a kill leaves no half-written file."""
    files.write(path, csv_text.csv_bytes(rows))


def diameters_px(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """Return the equivalent diameter of each cell, in pixels: √(4·area/π)."""
    area = np.bincount(labels.ravel())[1:]
    return np.sqrt(4 * area[area > 0] / np.pi)


def cells_in(entries: Iterable[Entry]) -> int:
    """Return the number of true cells in all these images together."""
    return sum(entry.cells or 0 for entry in entries)


def short(identity: str) -> str:
    """Return an id in at most 20 letters: of a longer one beginning and end, by which images of a series differ."""
    return identity if len(identity) <= 20 else f"{identity[:9]}…{identity[-9:]}"


def kind_of(modality: str) -> str:
    """Return the kind of sample that images of a modality show, unless somebody says otherwise."""
    return KINDS.get(modality, modality)


def _entry(row: dict[str, str], folder: str) -> Entry:
    is_labelled = row["cells"] != ""
    return Entry(
        id=row["id"],
        set=row.get("set") or folder,
        split=row["split"],
        modality=row["modality"],
        kind=row.get("kind") or kind_of(row["modality"]),
        height=int(row["height"]),
        width=int(row["width"]),
        cells=int(row["cells"]) if is_labelled else None,
        median_diameter_px=float(row["median_diameter_px"]) if is_labelled else 0.0,
        pixel_size_um=float(row["pixel_size_um"]) if row.get("pixel_size_um") else None,
        kept={name: text for name in KEEPABLE if (text := row.get(name))},
    )
