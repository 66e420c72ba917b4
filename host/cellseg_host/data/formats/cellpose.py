"""``cellpose``: images with the masks of Cellpose, or what its window saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import InputError
from cellseg_device.image.opencv import shown
from cellseg_device.results.formats.label_images import Labels, consecutive
from cellseg_host.data.formats import plain_pickle
from cellseg_host.data.formats.labels import read_one
from cellseg_host.data.formats.source import (
    Drawn,
    Options,
    Source,
    by_stem,
    check_shape,
    files_in,
    folder_of,
    image_folder,
    images_in,
    make,
    only,
    read_manifest,
    with_suffix,
)

_MASKS = ("_cp_masks.png", "_cp_masks.tif", "_cp_masks.tiff")
_SEG = "_seg.npy"
_MOST_BYTES = 2 << 30
_OTHERS = ("_cp_output", "_flows")  # further pictures that Cellpose writes beside an image


def find(root: Path, options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return the images that have ``NAME_cp_masks.png`` (or ``.tif``) or ``NAME_seg.npy`` beside them.

    Raises
    ------
    InputError
        If there are no images, or no masks.
    """
    of_images = image_folder(root, options)
    of_labels = of_images if options.images is None else folder_of(root)
    of_labels = next((root / n for n in ("masks", "labels") if (root / n).is_dir()), of_labels)
    labels: dict[str, list[Path]] = {}
    for name, path in with_suffix(files_in(of_labels), (*_MASKS, _SEG)):
        labels.setdefault(name, []).append(path)
    if not labels:
        raise InputError(f"{of_labels}: holds no NAME_cp_masks.png, NAME_cp_masks.tif or NAME_seg.npy of Cellpose")
    masks = {path for paths in labels.values() for path in paths}
    found = by_stem(path for path in images_in(of_images) if path not in masks and not _is_by_cellpose(path, labels))
    if not found:
        raise InputError(f"{of_images}: holds no PNG, JPEG or TIFF image")
    manifest = read_manifest(root, found.keys() | labels.keys())
    return [
        make(root, manifest, stem, found.get(stem, []), _reader(labels.get(stem, [])))
        for stem in sorted(found.keys() | labels.keys())
    ]


def _is_by_cellpose(path: Path, labels: dict[str, list[Path]]) -> bool:
    return any(path.stem.removesuffix(end) in labels for end in _OTHERS if path.stem.endswith(end))


def _reader(paths: list[Path]) -> Any:
    def read(shape: tuple[int, int]) -> Drawn:
        saved = [path for path in paths if path.name.lower().endswith(_SEG)]
        masks = [path for path in paths if path not in saved]
        found = [_read_seg(path, shape) for path in saved]
        if masks or not saved:
            found.append(read_one(only(masks, "mask file"), shape))
        if len(found) > 1 and not np.array_equal(found[0].labels, found[1].labels):
            raise InputError(f"{saved[0].name} and {masks[0].name} differ: move the older one away")
        return found[-1]

    return read


def _read_seg(path: Path, shape: tuple[int, int]) -> Drawn:
    """Return the masks in what the window of Cellpose saves.

    Raises
    ------
    InputError
        If it is damaged, holds anything but plain values, or is not of this image.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path.name} is over 2 GB: save the masks as PNG or TIFF")
        saved = plain_pickle.load_npy(path.read_bytes())
    except plain_pickle.NotPlainError as error:
        raise InputError(
            f"{path.name} holds {shown(error, 80)}, which Cellpose does not save: it was not read; save the masks as "
            "PNG or TIFF"
        ) from None
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror}): check the disk") from None
    except ValueError as error:
        raise InputError(f"{path.name} {error}: save it again from Cellpose") from None
    masks = saved.get("masks") if isinstance(saved, dict) else None
    if not isinstance(masks, np.ndarray) or masks.dtype.kind not in "iu":
        raise InputError(f"{path.name} holds no masks: save it again from Cellpose")
    masks = masks[0] if masks.ndim == 3 and len(masks) == 1 else masks
    if masks.ndim != 2:
        raise InputError(f"{path.name} holds masks of a stack: save one for each plane")
    check_shape(masks, shape, f"{path.name} has masks of")
    return Drawn(_numbered(path, masks))


def _numbered(path: Path, masks: Any) -> Labels:
    if masks.size and masks.min() < 0:
        raise InputError(f"{path.name} has negative numbers: save it again from Cellpose")
    labels = consecutive(masks)
    if labels.max(initial=0) > MAX_CELLS:
        raise InputError(f"{path.name} holds {labels.max():,} cells, over {MAX_CELLS:,}: cut the image into parts")
    return labels.astype(np.uint16)
