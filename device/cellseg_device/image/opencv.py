"""Decoding with OpenCV, checked against the file's header."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ImageError
from cellseg_device.image.pixels import without_alpha
from cellseg_device.stderr import quiet_stderr

MAX_SIDE_PX = 12_000

_DAMAGED = "is damaged and cannot be decoded: copy or capture it again"
_JPEG_FILLED_UP = b"premature end of data segment"  # libjpeg prints this when it makes up the rest of the picture

# A damaged file is reported in our own words; OpenCV would print its own on standard error.
if hasattr(cv2, "setLogLevel"):  # OpenCV 4
    cv2.setLogLevel(0)
else:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class Header:
    """What a file's header says about its pixels.

    Attributes
    ----------
    height, width : int
    dtype : str or None
        Type of the pixels; None to accept whatever the decoder returns.
    pixel_size_um : float or None
    is_grey : bool
        Whether the image is grey although OpenCV returns colours, as it does for grey with alpha.
    channels : int
        As they are decoded, with alpha.
    """

    height: int
    width: int
    dtype: str | None = None
    pixel_size_um: float | None = None
    is_grey: bool = False
    channels: int = 1


def check_size(height: int, width: int) -> None:
    """Raise ImageError for an image without pixels, or with more than `MAX_SIDE_PX` on a side."""
    if height < 1 or width < 1:
        raise ImageError(f"has a size of {width}×{height} pixels: save it again")
    if max(height, width) > MAX_SIDE_PX:
        raise ImageError(f"is {width}×{height} pixels, over the limit of {MAX_SIDE_PX}×{MAX_SIDE_PX}: crop or split it")


def decode_with_opencv(data: bytes, header: Header, fault: str = _DAMAGED) -> npt.NDArray[Any]:
    """Return the pixels of an image file, decoded by OpenCV: grey or RGB.

    Parameters
    ----------
    data : bytes
    header : Header
    fault : str
        What is wrong with a file that OpenCV does not decode.

    Raises
    ------
    ImageError
        If OpenCV cannot decode it, or the pixels are not what the header says.
    MemoryError
        If there is not enough memory.
    """
    pixels = _grey_or_rgb(_decoded(data, header, fault), is_grey=header.is_grey)
    if header.dtype is not None and pixels.dtype != header.dtype:
        raise ImageError(f"has {header.dtype} pixels in an encoding that cannot be decoded: save it uncompressed")
    return pixels


def _decoded(data: bytes, header: Header, fault: str) -> npt.NDArray[Any]:
    """Return the pixels of an image file in OpenCV's order of channels."""
    try:
        with quiet_stderr() as printed:  # libpng and libjpeg print there what is wrong
            pixels: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            messages = printed()
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        raise ImageError(fault) from None
    if pixels is None:
        raise ImageError(fault)
    if _JPEG_FILLED_UP in messages:
        raise ImageError("is a damaged JPEG, part of its data is missing: copy or capture it again")
    if pixels.shape[:2] != (header.height, header.width):
        raise ImageError("is damaged, its size is not what its header says: copy or capture it again")
    return pixels


def _grey_or_rgb(pixels: npt.NDArray[Any], *, is_grey: bool) -> npt.NDArray[Any]:
    """Return BGR, BGRA or grey with alpha as RGB or grey."""
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)
    elif pixels.ndim == 3 and pixels.shape[2] == 4 and not is_grey:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB)
    else:
        pixels = without_alpha(pixels[..., :1] if is_grey else pixels)
    return pixels


def reason(error: BaseException) -> str:
    """Return the first line of a library's message, short enough for one line."""
    text = str(error).strip().splitlines()
    return shown(text[0] if text else type(error).__name__)


def shown(value: object, most: int = 120) -> str:
    """Return a value from a file as printable text on one line, of at most so many characters."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:most])
