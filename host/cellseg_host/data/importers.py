"""From the formats people have to the canonical dataset; what does not fit is reported, never silently dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import image as images
from cellseg_device.errors import CellsegError, InputError, OutputError
from cellseg_device.quiet import say
from cellseg_host.data.dataset import (
    SPLITS,
    Entry,
    consecutive,
    diameters_px,
    read_labels,
    read_table,
    save_png,
    write_manifest,
    write_table,
)

Labels = npt.NDArray[np.uint16]

# Pixels that two masks share: up to this share of the smaller one is rough drawing, above it is a fault.
MAX_OVERLAP = 0.1
# In so many pieces a single cell is taken for a mask of all cells
_PIECES = 3


@dataclass(frozen=True)
class Source:
    """One image of a foreign dataset, before anything of it is read.

    Attributes
    ----------
    id : str
    images : tuple of Path
        The one image there should be.
    read_labels : callable
        Takes the image's (height, width), gives the labels; raises CellsegError with the reason for a rejection.
    split, modality : str or None
        Where the source says them.
    """

    id: str
    images: tuple[Path, ...]
    read_labels: Callable[[tuple[int, int]], Labels]
    split: str | None = None
    modality: str | None = None


@dataclass(frozen=True)
class Rejection:
    """An image that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Imported:
    """What an import made."""

    entries: tuple[Entry, ...]
    rejections: tuple[Rejection, ...]


def dsb2018_sources(root: Path) -> list[Source]:
    """Images of the Kaggle layout, ``ID/images/*.png`` with ``ID/masks/*.png``, one nucleus a mask.

    A ``manifest.csv`` beside them (columns id and, optionally, split and modality) is kept to.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    folders = [f for f in sorted(root.iterdir()) if (f / "images").is_dir()] if root.is_dir() else []
    if not folders:
        raise InputError(f"{root}: no ID/images/*.png found: name the unpacked stage1_train folder")
    told = _manifest(root, {f.name for f in folders})
    return [
        Source(
            f.name,
            tuple(_images_in(f / "images")),
            partial(_join_masks, f / "masks"),
            *_told(told, f.name),
        )
        for f in folders
    ]


def labels_sources(root: Path) -> list[Source]:
    """Images of the labels layout: ``images/NAME`` with ``labels/NAME`` (or ``masks/``), instance labels.

    A ``manifest.csv`` beside them (columns id and, optionally, split and modality) is kept to.

    Raises
    ------
    InputError
        If the folders are not there or empty.
    """
    label_root = next((root / n for n in ("labels", "masks") if (root / n).is_dir()), None)
    if label_root is None or not (root / "images").is_dir():
        raise InputError(f"{root}: needs a folder 'images' and a folder 'labels' with one label image each")
    labels, found = _by_stem(label_root), _by_stem(root / "images")
    if not found:
        raise InputError(f"{root / 'images'}: holds no PNG, JPEG or TIFF image")
    told = _manifest(root, found.keys() | labels.keys())
    return [
        Source(
            stem,
            tuple(found.get(stem, ())),
            partial(_labels_of, labels.get(stem, [])),
            *_told(told, stem),
        )
        for stem in sorted(found.keys() | labels.keys())
    ]


FORMATS: dict[str, Callable[[Path], list[Source]]] = {"dsb2018": dsb2018_sources, "labels": labels_sources}


def import_sources(sources: list[Source], root: Path) -> Iterator[Entry | Rejection]:
    """Write each source into the dataset at `root`, yielding its entry, or why it was rejected.

    Raises
    ------
    OutputError
        If it cannot be written: what is there is no dataset then.
    """
    try:
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "labels").mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(root, error) from None
    for source in sources:
        try:
            yield _import_one(source, root)
        except OutputError:
            raise
        except CellsegError as error:
            yield Rejection(source.id, error.message)


def finish(root: Path, done: list[Entry | Rejection]) -> Imported:
    """Write the manifest and the list of rejections; the dataset is whole once this returns.

    Raises
    ------
    InputError
        If every image was rejected.
    OutputError
        If it cannot be written.
    """
    entries = tuple(d for d in done if isinstance(d, Entry))
    rejections = tuple(d for d in done if isinstance(d, Rejection))
    try:
        write_table(root / "rejected.csv", [("id", "reason"), *((r.id, r.reason) for r in rejections)])
        if entries:
            write_manifest(root, entries)
    except OSError as error:
        raise _unwritable(root, error) from None
    if not entries:
        raise InputError(
            f"every image was rejected, the first because it {rejections[0].reason} (see {root}/rejected.csv)"
        )
    return Imported(entries, rejections)


def _unwritable(root: Path, error: OSError) -> OutputError:
    return OutputError(f"{root}: cannot be written ({error.strerror}): make room, then import into a new folder")


def split_of(identity: str) -> str:
    """train, val or test (80, 10, 10 %) by the hash of the id: the same image is always in the same split."""
    bucket = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") % 10
    return {8: "val", 9: "test"}.get(bucket, "train")


def guess_modality(pixels: npt.NDArray[np.uint8 | np.uint16]) -> str:
    """Fluorescence (grey on dark), brightfield (grey on bright) or histology (colour), from the pixels alone."""
    if pixels.ndim == 3:
        return "histology"
    low, middle, high = np.percentile(pixels, [0.5, 50, 99.5])
    return "fluorescence" if middle - low <= high - middle else "brightfield"


def _import_one(source: Source, root: Path) -> Entry:
    if len(source.images) != 1:
        names = ", ".join(path.name for path in source.images)
        raise InputError(f"has {len(source.images)} images of this name ({names})" if names else "has no image")
    if source.split not in (None, *SPLITS):
        raise InputError(f"is in the split {source.split!r}, which is none of {', '.join(SPLITS)}")
    image = images.decode(images.read(source.images[0]))
    pixels = image.pixels
    if pixels.ndim == 3 and (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        pixels = np.ascontiguousarray(pixels[..., 0])
    labels = source.read_labels(image.shape)
    diameters = diameters_px(labels)
    try:
        for folder, array in (("images", pixels), ("labels", labels)):
            save_png(root / folder / f"{source.id}.png", array)
    except OSError as error:
        raise _unwritable(root, error) from None
    return Entry(
        source.id,
        source.split or split_of(source.id),
        source.modality or guess_modality(pixels),
        *image.shape,
        len(diameters),
        round(float(np.median(diameters)), 1) if len(diameters) else 0.0,
    )


def _labels_of(paths: list[Path], shape: tuple[int, int]) -> Labels:
    if len(paths) != 1:
        raise InputError(
            f"has {len(paths)} label images of the same name" if paths else "has no label image of the same name"
        )
    labels = read_labels(paths[0])
    if labels.shape != shape:
        raise InputError(f"labels are {_size(labels.shape)}, the image {_size(shape)}")
    labels = consecutive(labels)
    if labels.max(initial=0) == 1 and (pieces := cv2.connectedComponents(labels.astype(np.uint8))[0] - 1) >= _PIECES:
        raise InputError(
            f"labels are one number in {pieces} pieces: give each cell a number of its own (Fiji: Analyze Particles, "
            "Show Count Masks)"
        )
    return labels


def _join_masks(folder: Path, shape: tuple[int, int]) -> Labels:
    """One label image from a folder of masks; a pixel claimed twice goes to the smaller nucleus."""
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
        inside = (mask if mask.ndim == 2 else mask[..., :3].max(axis=2)) > mask.max() // 2  # whatever stands for inside
        if inside.any():
            masks.append(inside)
    if len(masks) > 65_535:
        raise InputError(f"has {len(masks)} masks, over 65,535")
    labels = np.zeros(shape, np.uint16)
    for number, mask in sorted(enumerate(masks, 1), key=lambda nm: -int(nm[1].sum())):
        covered = np.bincount(labels[mask])[1:]
        if covered.sum() > MAX_OVERLAP * mask.sum():
            raise InputError(f"masks overlap by {covered.sum()} px (a nucleus of {mask.sum()} px)")
        labels[mask] = number
    return consecutive(labels)


def _manifest(root: Path, ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Rows of the source's manifest.csv by id, which it shall have for the images of these ids.

    Raises
    ------
    InputError
        If none of its rows is of one of them: then it means something else, and nobody would notice that the splits
        are not those that it tells.
    """
    path = root / "manifest.csv"
    if not path.is_file():
        return {}
    rows = read_table(path)
    told = {row.get("id") or "": row for row in rows}
    if not told.keys() & set(ids):
        raise InputError(
            f"{path}: no row of it has an image's name in a column 'id': mend it (separated by commas, names without "
            "their endings), or move it away"
        )
    if len(told) < len(rows):
        raise InputError(f"{path}: an id stands in it twice: keep one of the rows")
    if missing := len(set(ids) - told.keys()):
        say(f"note: {missing} images are not in {path.name}: their splits go by their names")
    return told


def _told(manifest: dict[str, dict[str, str]], identity: str) -> tuple[str | None, str | None]:
    """Split and modality of an image, where the manifest says them."""
    row = manifest.get(identity, {})
    return row.get("split") or None, row.get("modality") or None


def _images_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if images.is_image_name(path.name)]


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in _images_in(folder):
        found.setdefault(path.stem, []).append(path)
    return found


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]} px"
