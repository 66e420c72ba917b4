"""Decode an image file: first its header is checked, then its pixels are decoded.

The header gives size, depth and channels before anything large is allocated, so refusing a hostile or oversized file
costs no more than reading its header.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from typing import BinaryIO

from cellseg_device.errors import ImageError
from cellseg_device.image import dates, headers, kinds, tiff_directory
from cellseg_device.image.budget import Budget
from cellseg_device.image.headers import JPEG, PNG
from cellseg_device.image.opencv import check_size, decode_with_opencv
from cellseg_device.image.pixels import Image
from cellseg_device.image.tiff import decode_tiff

_JPEG_END = b"\xff\xd9"

# Beside its pixels, uncompressed and twice, a file may hold this much: metadata, thumbnails, what a telephone appends
_MOST_BESIDE_BYTES = 64 << 20
_MOST_BESIDE_PNG_BYTES = 1 << 20  # that OpenCV is given
_MOST_PIXEL_BYTES = 8  # of a PNG or JPEG: four channels of 16 bits


def decode(data: bytes, *, budget: Budget | None = None) -> Image:
    """Return the image in the bytes of a PNG, JPEG or TIFF file.

    Parameters
    ----------
    data : bytes
        The whole file.
    budget : Budget or None
        The memory that it may take, if there is a limit.

    Returns
    -------
    Image
        Alpha is dropped; colour is RGB.

    Raises
    ------
    ImageError
        If the data is not such an image; is truncated or damaged; holds several pages of one size; is anything but grey
        or RGB(A) of whole or floating-point numbers; has NaN or infinite pixels; or is larger than 12,000 px on a side,
        or than its budget.
    """
    if data.startswith(tiff_directory.MAGIC):
        return replace(decode_tiff(data, budget=budget), captured=dates.captured(data))
    if data.startswith(PNG):
        start = headers.read(io.BytesIO(data), PNG)
        encoded = _png_without_much_beside(data)
    elif data.startswith(JPEG):
        start = headers.read(io.BytesIO(data), JPEG)
        # After the start of the scan, since a thumbnail in the EXIF block has an end marker of its own
        if data.find(_JPEG_END, start.pixels_at) < 0:
            raise ImageError("is a truncated JPEG: copy or capture it again")
        encoded = data
    else:
        raise ImageError(kinds.refusal(data[: kinds.BYTES]))
    header = start.header
    if budget is not None:
        file_bytes = len(data) if encoded is data else len(data) + len(encoded)
        budget.check((header.height, header.width), header.channels, start.item_bytes, file_bytes, is_float=False)
    return Image(decode_with_opencv(encoded, header), captured=dates.captured(data))


def check_bytes(file: BinaryIO, size: int) -> None:
    """Raise ImageError for a large file that holds no image, or one that needs far fewer bytes; its header is read.

    Parameters
    ----------
    file : binary file
        At its start.
    size : int
        How many bytes it has.
    """
    if size <= _MOST_BESIDE_BYTES:
        return
    beginning = file.read(kinds.BYTES)
    if beginning.startswith(tiff_directory.MAGIC):
        directory = tiff_directory.read(file, size)
        height, width, needed = directory.height, directory.width, directory.image_bytes
        check_size(height, width)
        remedy = "save each plane as a file of its own (Fiji: File › Save As › Image Sequence), or save it again"
    elif beginning.startswith((PNG, JPEG)):
        header = headers.read(file, PNG if beginning.startswith(PNG) else JPEG).header
        height, width, needed = header.height, header.width, header.height * header.width * _MOST_PIXEL_BYTES
        remedy = "save it again"
    else:
        raise ImageError(kinds.refusal(beginning))
    if size > 2 * needed + _MOST_BESIDE_BYTES:
        raise ImageError(f"is {size / 1e6:,.0f} MB, far more than {width}×{height} pixels need: {remedy}")


def _png_without_much_beside(data: bytes) -> bytes:
    """Return a PNG without text, profiles and the like if they are large: libpng takes 8 MB of them for damage.

    Raises
    ------
    ImageError
        If a chunk's checksum is wrong: decoders may return pixels without a word. If there are more chunks than any
        image needs. Also if there is an animation, whose frames OpenCV composes beyond its buffers, as in
        https://github.com/opencv/opencv/issues/27744 and https://github.com/opencv/opencv/pull/29643 (2026-07); those
        two are not all (OpenCV 5.0.0).
    """
    whole = memoryview(data)
    position, beside_bytes = len(PNG), 0
    needed = [whole[:position]]
    for _ in range(headers.MOST_PNG_CHUNKS):
        if position + 12 > len(data):
            break
        end = position + 12 + int.from_bytes(whole[position : position + 4], "big")
        if end > len(data):
            break
        if zlib.crc32(whole[position + 4 : end - 4]) != int.from_bytes(whole[end - 4 : end], "big"):
            raise ImageError("is a damaged PNG (a checksum is wrong): copy or capture it again")
        kind = whole[position + 4 : position + 8].tobytes()
        if kind == b"acTL":
            raise ImageError("is an animated PNG: save each frame as a file of its own")
        if kind == b"tRNS" or kind[:1].isupper():
            needed.append(whole[position:end])
        else:
            beside_bytes += end - position
        if kind == b"IEND":
            return b"".join(needed) if beside_bytes > _MOST_BESIDE_PNG_BYTES else data
        position = end
    else:
        raise ImageError(headers.TOO_MANY_CHUNKS)
    raise ImageError("is a truncated PNG: copy or capture it again")
