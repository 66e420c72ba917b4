"""Label images as programs save them: whole numbers of any type, 0 for the background."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import InputError
from cellseg_device.image.opencv import reason
from cellseg_device.stderr import quiet_stderr

Labels = npt.NDArray[np.uint16]


def read_labels(path: Path) -> Labels:
    """Return the labels in a file, (height, width), renumbered from 1 without gaps, in the order of their numbers.

    The numbers may be of any type and of any size, floating point too, as long as they are whole and not negative.

    Raises
    ------
    InputError
        If it cannot be read, is not single-channel, holds other numbers or too many cells, or is in a lossy format.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        raise InputError(f"{path}: JPEG does not keep the cells' numbers: save labels as PNG or TIFF")
    if not path.is_file():
        raise InputError(f"{path}: no such file: restore it, or import the data again")
    labels = _tiff(path) if path.suffix.lower() in (".tif", ".tiff") else _with_opencv(path)
    if labels.ndim != 2:
        channels = min(labels.shape)  # which come first or last
        raise InputError(
            f"{path}: labels have {channels} channels: save them as one channel in which each cell has a number"
        )
    _check(path, labels)
    numbers = consecutive(labels)
    if numbers.max(initial=0) > MAX_CELLS:
        raise InputError(f"{path}: holds {numbers.max():,} cells, over {MAX_CELLS:,}: cut the image into parts")
    return numbers.astype(np.uint16)


def consecutive(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return whole numbers, of which 0 stays, renumbered from 1 without gaps, in the same order."""
    if labels.dtype.kind == "u" and labels.dtype.itemsize <= 2:  # without sorting all pixels
        present = np.bincount(labels.reshape(-1), minlength=1) > 0
        present[0] = False
        renumbered: npt.NDArray[Any] = np.where(present, np.cumsum(present), 0).astype(labels.dtype)[labels]
        return renumbered
    numbers, places = np.unique(labels, return_inverse=True)
    has_background = bool(len(numbers)) and numbers[0] == 0
    return places.reshape(labels.shape) + (0 if has_background else 1)


def _tiff(path: Path) -> npt.NDArray[Any]:
    """Return the numbers in a TIFF of one page: those of the file, whichever way it wants them shown."""
    import tifffile  # here, since it takes 20 ms, which labels in a PNG should not cost

    try:
        with tifffile.TiffFile(path) as tif:
            if not tif.pages:
                raise InputError(f"{path}: label image cannot be read (it holds no image): save it again")
            if len(tif.pages) > 1:
                raise InputError(f"{path}: holds {len(tif.pages)} pages: save one label image for each image")
            page: Any = tif.pages.first
            is_as_shown = page.photometric not in (0, 3)  # inverted, and numbers of a palette
            try:
                numbers: npt.NDArray[Any] = np.asarray(page.asarray())
                return numbers
            except ValueError as error:  # a compression that needs a further package
                if "imagecodecs" not in str(error):
                    raise
            if is_as_shown:  # since OpenCV returns what is shown
                return _with_opencv(path)
            compression = getattr(page.compression, "name", page.compression)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - tifffile raises many kinds for damaged files
        raise InputError(f"{path}: label image cannot be read ({reason(error)}): save it again") from None
    raise InputError(f"{path}: labels with a lookup table cannot be read with {compression} compression: save without")


def _with_opencv(path: Path) -> npt.NDArray[Any]:
    labels: npt.NDArray[Any] | None = None
    with contextlib.suppress(cv2.error), quiet_stderr():  # libpng prints there what is wrong
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise InputError(f"{path}: label image cannot be read: save it again, as PNG or uncompressed TIFF")
    return labels


def _check(path: Path, labels: npt.NDArray[Any]) -> None:
    """Raise for numbers that cannot be those of cells."""
    if labels.dtype.kind == "f":
        is_whole = np.isfinite(labels) & (labels == np.rint(labels))
        if not is_whole.all():
            row, col = (int(n) for n in np.argwhere(~is_whole)[0])
            raise InputError(
                f"{path}: labels must be whole numbers, but it has {labels[row, col]:g} at row {row}, column {col}: "
                "save the label image itself, not a map or a picture of it"
            )
    if labels.size and labels.min() < 0:
        raise InputError(f"{path}: has negative numbers ({labels.min():g}): give the background 0 and cells 1, 2, 3 …")
