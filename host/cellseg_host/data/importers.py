"""From common formats to the canonical dataset; images that do not fit are reported, never silently dropped."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import CellsegError, InputError, OutputError
from cellseg_device.image.decode import decode
from cellseg_device.image.source import is_image_name, read
from cellseg_device.stderr import say
from cellseg_host.data.dataset import (
    SPLITS,
    Entry,
    diameters_px,
    kind_of,
    read_table,
    save_png,
    write_manifest,
    write_table,
)
from cellseg_host.data.label_images import Labels, consecutive, read_labels

# Masks may overlap by up to this share of the smaller one, as rough drawing; more is a fault
MAX_OVERLAP = 0.1
# A single label in this many pieces is taken for a mask of all cells
_PIECES = 3
# Reasons that are given where every image is rejected
_REASONS = 5


@dataclass(frozen=True)
class Source:
    """One image of the data to import, before anything of it is read.

    Attributes
    ----------
    id, set : str
        `set` is the name of the folder it is from.
    images : tuple of Path
        One image, as it should be; none or several are an error.
    read_labels : callable
        Returns the labels, given the image's (height, width); raises a CellsegError with the reason to reject it.
    split, modality : str or None
        None if the source does not say.
    """

    id: str
    set: str
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
    """The result of an import."""

    entries: tuple[Entry, ...]
    rejections: tuple[Rejection, ...]


def dsb2018_sources(root: Path) -> list[Source]:
    """Return the images of the Kaggle layout, ``ID/images/*.png`` with ``ID/masks/*.png``, one nucleus per mask.

    Splits and modalities come from a ``manifest.csv`` beside them (columns id and, optionally, split and modality).

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
        Source(
            f.name,
            root.resolve().name,
            tuple(_images_in(f / "images")),
            partial(_join_masks, f / "masks"),
            *_split_and_modality(manifest, f.name),
        )
        for f in folders
    ]


def labels_sources(root: Path) -> list[Source]:
    """Return the images of the labels layout: ``images/NAME`` with ``labels/NAME`` (or ``masks/``), instance labels.

    Splits and modalities come from a ``manifest.csv`` beside them (columns id and, optionally, split and modality).

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
    return [
        Source(
            stem,
            root.resolve().name,
            tuple(found.get(stem, ())),
            partial(_labels_of, labels.get(stem, [])),
            *_split_and_modality(manifest, stem),
        )
        for stem in sorted(found.keys() | labels.keys())
    ]


FORMATS: dict[str, Callable[[Path], list[Source]]] = {"dsb2018": dsb2018_sources, "labels": labels_sources}


def import_sources(sources: list[Source], root: Path) -> Iterator[Entry | Rejection]:
    """Write each source into the dataset at `root`, yielding its entry, or why it was rejected.

    Raises
    ------
    OutputError
        If it cannot be written; the folder is then not a dataset.
    """
    try:
        (root / "images").mkdir(parents=True, exist_ok=True)
        (root / "labels").mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from None
    for source in sources:
        try:
            yield _import_one(source, root)
        except OutputError:
            raise
        except CellsegError as error:
            yield Rejection(source.id, error.message)


def finish(root: Path, done: list[Entry | Rejection]) -> Imported:
    """Write the manifest and the list of rejections, which completes the dataset.

    Raises
    ------
    InputError
        If every image was rejected.
    OutputError
        If it cannot be written.
    """
    entries = tuple(d for d in done if isinstance(d, Entry))
    rejections = tuple(d for d in done if isinstance(d, Rejection))
    if not entries:
        raise InputError(_all_rejected(rejections))
    try:
        write_table(root / "rejected.csv", [("id", "reason"), *((r.id, r.reason) for r in rejections)])
        write_manifest(root, entries)
    except OSError as error:
        raise _unwritable(error) from None
    return Imported(entries, rejections)


def _all_rejected(rejections: Sequence[Rejection]) -> str:
    """Return a message with each reason once, the most frequent first."""
    reasons = Counter(rejection.reason for rejection in rejections).most_common(_REASONS)
    first = {r.reason: r.id for r in reversed(rejections)}
    texts = [f"{first[reason]}{f' and {n - 1} more' if n > 1 else ''}: {reason}" for reason, n in reasons]
    return f"no image can be imported: {'; '.join(texts)}"


def _unwritable(error: OSError) -> OutputError:
    return OutputError(f"the dataset cannot be written ({error.strerror}): make room, then import again")


def split_of(identity: str) -> str:
    """Return train, val or test (80, 10, 10 %) from a hash of the id: an image is always in the same split."""
    bucket = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:4], "big") % 10
    return {8: "val", 9: "test"}.get(bucket, "train")


def guess_modality(pixels: npt.NDArray[np.uint8 | np.uint16]) -> str:
    """Return fluorescence (grey on dark), brightfield (grey on bright) or histology (colour), from the pixels alone."""
    if pixels.ndim == 3:
        return "histology"
    low, middle, high = np.percentile(pixels, [0.5, 50, 99.5])
    return "fluorescence" if middle - low <= high - middle else "brightfield"


def _import_one(source: Source, root: Path) -> Entry:
    if len(source.images) != 1:
        names = ", ".join(path.name for path in source.images)
        raise InputError(f"has {len(source.images)} images of this name ({names})" if names else "has no image")
    if source.split not in (None, *SPLITS):
        raise InputError(f"is in the split {source.split!r}, which is not one of {', '.join(SPLITS)}")
    image = decode(read(source.images[0]))
    pixels = image.pixels
    if pixels.ndim == 3 and (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all():
        pixels = np.ascontiguousarray(pixels[..., 0])
    labels = source.read_labels(image.shape)
    diameters = diameters_px(labels)
    try:
        for folder, array in (("images", pixels), ("labels", labels)):
            save_png(root / folder / f"{source.id}.png", array)
    except OSError as error:
        raise _unwritable(error) from None
    modality = source.modality or guess_modality(pixels)
    return Entry(
        source.id,
        source.set,
        source.split or split_of(source.id),
        modality,
        kind_of(modality),
        *image.shape,
        cells=len(diameters),
        median_diameter_px=round(float(np.median(diameters)), 1) if len(diameters) else 0.0,
    )


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


def _manifest(root: Path, ids: Collection[str]) -> dict[str, dict[str, str]]:
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
        say(f"note: {images} not in {path.name}: a hash of the name decides on the split")
    return by_id


def _split_and_modality(manifest: dict[str, dict[str, str]], identity: str) -> tuple[str | None, str | None]:
    """Return split and modality of an image, or None where the manifest does not say."""
    row = manifest.get(identity, {})
    return row.get("split") or None, row.get("modality") or None


def _images_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if is_image_name(path.name)]


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in _images_in(folder):
        found.setdefault(path.stem, []).append(path)
    return found


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]} px"
