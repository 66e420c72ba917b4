"""``dicom``: images as X-ray and slide scanners write them, without the names of those they are of."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import CellsegError, ImageError, InputError
from cellseg_device.image.opencv import check_size, reason, shown
from cellseg_device.image.pixels import Image
from cellseg_device.image.source import is_image_name
from cellseg_device.image.spread import to_uint16
from cellseg_host.data.dataset import KEEPABLE
from cellseg_host.data.formats.labels import read_named
from cellseg_host.data.formats.source import (
    Options,
    Source,
    by_stem,
    image_folder,
    images_in,
    make,
    read_manifest,
    read_picture,
)

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom")
_MAGIC_AT, _MAGIC = 128, b"DICM"
_MOST_BYTES = 1 << 30
_LONGEST_TEXT = 64
_MM_PER_UM = 1e-3
_GREY, _COLOUR = ("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_AGAIN = "export it again"


def find(root: Path, options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return the DICOM images in a folder and those below it, with label images in ``labels``, if there are any.

    Raises
    ------
    InputError
        If there are none.
    """
    folder = image_folder(root, options)
    found = by_stem(path for path in sorted(folder.rglob("*")) if path.is_file() and is_dicom(path))
    if not found:
        raise InputError(f"{folder}: holds no DICOM image (NAME.dcm)")
    is_labelled = (root / "labels").is_dir()
    labels = by_stem(images_in(root / "labels"))
    ids = sorted(found.keys() | labels.keys())
    manifest = read_manifest(root, ids)
    kept = partial(read_kept, options.keep)
    readers = {stem: partial(read_named, labels.get(stem, [])) if is_labelled else None for stem in ids}
    return [
        make(root, manifest, stem, found.get(stem, []), readers[stem], read_image=read_image, read_kept=kept)
        for stem in ids
    ]


def is_dicom_name(name: str) -> bool:
    """Return whether a file of this name counts as a DICOM image."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def is_dicom(path: Path) -> bool:
    """Return whether a file is a DICOM image, by its name or, where that has no ending, by its first bytes."""
    if path.suffix or path.name.startswith("."):
        return is_dicom_name(path.name)
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + len(_MAGIC)).endswith(_MAGIC)
    except OSError:
        return False


def read_any(path: Path) -> Image:
    """Return the image in a DICOM, PNG, JPEG or TIFF file."""
    return read_picture(path) if is_image_name(path.name) else read_image(path)


def read_kept(names: tuple[str, ...], path: Path) -> dict[str, str]:
    """Return these elements of a DICOM file's header, of those that it has; nothing of another file."""
    if not names or is_image_name(path.name):
        return {}
    with _faults():
        header = _opened(path, with_pixels=False)
        texts = {name: shown(header.get(name, ""), _LONGEST_TEXT).strip() for name in names if name in KEEPABLE}
    return {name: text for name, text in texts.items() if text not in ("", "None")}


def read_image(path: Path) -> Image:
    """Return the image in a DICOM file as it is to be seen: rescaled, through its window, and bright on dark.

    Raises
    ------
    ImageError
        If it is damaged, has several frames, or is of a kind that is not read.
    """
    with _faults():
        header = _opened(path, with_pixels=True)
        _complete(header)
        _check(header)
        stored = _pixels(header)
        pixels = stored if stored.ndim == 3 else _seen(stored, header)
        return Image(pixels, _pixel_size_um(header))


@contextmanager
def _faults() -> Iterator[None]:
    """Turn whatever is raised inside, but what is meant for a user, into an ImageError."""
    logging.getLogger("pydicom").disabled = True  # what it says there is said here in words of ours
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (CellsegError, MemoryError):
        raise
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror or reason(error)}): check the disk") from None
    except Exception as error:  # noqa: BLE001 - of damaged bytes pydicom and Pillow say all kinds of things
        raise ImageError(f"is a damaged DICOM file ({reason(error)}): {_AGAIN}") from None


def _opened(path: Path, *, with_pixels: bool) -> Dataset:
    import pydicom

    if path.stat().st_size > _MOST_BYTES:
        raise ImageError("is over 1 GB: export its frames one by one")
    return pydicom.dcmread(path, force=True, stop_before_pixels=not with_pixels)


def _complete(header: Dataset) -> None:
    """Fill in what a stripped header lacks, where there is one usual value."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    usual = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0}
    for name, value in usual.items():
        if header.get(name) in (None, ""):
            setattr(header, name, value)
    if header.get("BitsAllocated") and not header.get("BitsStored"):
        header.BitsStored = header.BitsAllocated
    if not getattr(header.file_meta, "TransferSyntaxUID", None):
        is_implicit, is_little = header.original_encoding
        by_bytes = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else by_bytes


def _check(header: Dataset) -> None:
    """Raise ImageError for what is no single picture in grey or colour, before any pixel is decoded."""
    if "PixelData" not in header:
        raise ImageError(f"has no pixels, or is not a DICOM file: {_AGAIN}")
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"has {frames} frames: export each as a file of its own")
    check_size(int(header.get("Rows") or 0), int(header.get("Columns") or 0))
    kind = str(header.PhotometricInterpretation)
    is_known = kind in (_GREY if header.SamplesPerPixel == 1 else _COLOUR)
    if not is_known or header.SamplesPerPixel not in (1, 3):
        raise ImageError(f"is of the kind {shown(kind, 30)}, which is not read: export it in grey or RGB")
    if header.get("BitsAllocated") not in (8, 16, 32) or (header.SamplesPerPixel == 3 and header.BitsAllocated != 8):
        raise ImageError(f"has {shown(header.get('BitsAllocated'), 10)} bits a sample, not 8 or 16: {_AGAIN}")


def _pixels(header: Dataset) -> npt.NDArray[Any]:
    from pydicom.pixels import get_decoder, pixel_array

    syntax = header.file_meta.TransferSyntaxUID
    try:
        is_read = not syntax.is_compressed or get_decoder(syntax).is_available
    except NotImplementedError:
        is_read = False
    if not is_read:
        raise ImageError(
            f"is compressed as {shown(syntax.name, 60)}, which is not read: save it uncompressed (gdcmconv --raw)"
        )
    return np.asarray(pixel_array(header))


def _seen(stored: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.uint8 | np.uint16]:
    """Return the values of a grey image as they are to be seen."""
    slope, intercept = float(header.get("RescaleSlope", 1) or 1), float(header.get("RescaleIntercept", 0) or 0)
    is_plain = (slope, intercept) == (1, 0)
    values = stored if is_plain else stored * slope + intercept
    window = _window(header)
    bits = int(header.BitsStored)
    if window is not None:
        top, kind = (255, np.uint8) if bits <= 8 else (65535, np.uint16)
        pixels: npt.NDArray[Any] = np.rint(_through(values, *window, str(header.get("VOILUTFunction", ""))) * top)
        pixels = pixels.astype(kind)
    elif is_plain and stored.dtype == np.uint8:
        top, pixels = (1 << bits) - 1, stored
    else:
        whole = values if values.dtype.kind != "f" or (values != np.rint(values)).any() else values.astype(np.int64)
        is_kept = whole.dtype.kind != "f" and whole.min() >= 0 and whole.max() <= 65535
        pixels, _ = to_uint16(whole)
        top = (1 << bits) - 1 if is_plain and is_kept and stored.min() >= 0 else int(pixels.max())
    if header.PhotometricInterpretation == "MONOCHROME1":
        pixels = (max(top, int(pixels.max())) - pixels).astype(pixels.dtype)
    return np.ascontiguousarray(pixels)


def _window(header: Dataset) -> tuple[float, float] | None:
    """Return centre and width of the first window; None without one."""
    found = [header.get(name) for name in ("WindowCenter", "WindowWidth")]
    centre, width = (value[0] if isinstance(value, list | tuple) or _is_several(value) else value for value in found)
    if centre in (None, "") or width in (None, ""):
        return None
    if not float(width) > 0 or not np.isfinite([float(centre), float(width)]).all():
        raise ImageError(f"has a window of the width {width}: {_AGAIN}")
    return float(centre), float(width)


def _is_several(value: Any) -> bool:
    return value is not None and not isinstance(value, str | float | int) and hasattr(value, "__getitem__")


def _through(values: npt.NDArray[Any], centre: float, width: float, function: str) -> npt.NDArray[np.float64]:
    """Return values through a window, from 0 to 1: PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    values = values.astype(np.float64)
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function != "LINEAR_EXACT":
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _pixel_size_um(header: Dataset) -> float | None:
    """Return the edge of a pixel; None if the header does not say it, or pixels are not square."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = header.get(name)
        if spacing is not None and _is_several(spacing) and len(spacing) == 2:
            rows, columns = (float(number) for number in spacing)
            return rows / _MM_PER_UM if rows == columns and np.isfinite(rows) and rows > 0 else None
    return None
