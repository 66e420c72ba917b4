"""The strips and tiles of a TIFF: inflated, unpacked and put together, within bounds and with none missing."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ImageError

# Compressions: none, two numbers for deflate, PackBits
NOT_COMPRESSED, _PACKBITS = 1, 32773
DECODED = (NOT_COMPRESSED, 8, 32946, _PACKBITS)

_MOST_PADDING_BYTES = 1 << 16  # that a strip or tile may have after its pixels
_LOW_BIT_FIRST = 2  # FillOrder
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def from_segments(page: Any, data: bytes) -> npt.NDArray[Any]:
    """Return the pixels of strips or tiles: as tifffile's own `asarray`, but within bounds and with none missing.

    tifffile inflates a strip of a few megabytes to gigabytes, and leaves what it has no strip for as it was in memory
    (not reported; tifffile 2026.3.3).
    """
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))[: math.prod(page.chunked)]
    if len(segments) < math.prod(page.chunked):
        raise ImageError("is a damaged TIFF (strips or tiles are missing): copy or capture it again")
    compression, is_reversed = page.compression, page.fillorder == _LOW_BIT_FIRST
    most = math.prod(page.chunks) * page.dtype.itemsize + _MOST_PADDING_BYTES
    if compression != NOT_COMPRESSED:  # `page.decode` is given what was inflated
        page.compression, page.fillorder = NOT_COMPRESSED, 1
    whole = np.zeros(page.shaped, page.dtype.newbyteorder("="))
    for index, (start, size) in enumerate(segments):
        segment: bytes | bytearray | None = None  # as of one that was left out, since it is empty
        if start and size:
            segment = data[start : start + size]
            if compression != NOT_COMPRESSED:
                segment = _inflated(segment.translate(_REVERSED_BITS) if is_reversed else segment, compression, most)
        pixels, (plane, _, top, left, _), shape = _segment(page, segment, index)
        _, height, width, _ = shape
        part = whole[plane, :, top : top + height, left : left + width]
        part[...] = page.nodata if pixels is None else pixels[:, : part.shape[1], : part.shape[2]]
    return whole


def _segment(page: Any, segment: Any, index: int) -> tuple[npt.NDArray[Any] | None, Any, Any]:
    """Return the values of a strip or tile, its place and its shape, as tifffile's `page.decode` does."""
    bits = page.bitspersample
    if segment is None or bits == 8 * page.dtype.itemsize:
        values, place, shape = page.decode(segment, index)
        return values, place, shape
    # tifffile unpacks other numbers of bits only with a further package
    _, place, shape = page.decode(None, index)
    _, height, width, samples = shape
    row_bytes = (width * samples * bits + 7) // 8
    packed = np.frombuffer(segment, np.uint8)
    if page.fillorder == _LOW_BIT_FIRST:
        packed = np.frombuffer(_REVERSED_BITS, np.uint8)[packed]
    if packed.size < height * row_bytes:
        raise ImageError("is a damaged TIFF (a strip is too short): copy or capture it again")
    rows = packed[: height * row_bytes].reshape(height, row_bytes)
    return _unpacked(rows, width * samples, bits, page.dtype).reshape(shape), place, shape


def _unpacked(rows: npt.NDArray[np.uint8], number: int, bits: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return this number of values from each row of bytes, each of so many bits with the highest first."""
    values = np.empty((len(rows), number), dtype)
    for row, packed in enumerate(rows):
        single = np.unpackbits(packed, count=number * bits).reshape(number, bits)
        values[row] = single @ (1 << np.arange(bits - 1, -1, -1, dtype=np.uint16))
    return values


def _inflated(data: bytes, compression: int, most: int) -> bytes | bytearray:
    """Return what was compressed, by deflate or PackBits; raise ImageError if it is more than this many bytes."""
    if compression == _PACKBITS:
        inflated = _from_packbits(data, most)
    else:
        inflater = zlib.decompressobj()
        inflated = inflater.decompress(data, most + 1)
        if not inflater.eof and len(inflated) <= most:
            raise ImageError("is a truncated TIFF: copy or capture it again")
    if len(inflated) > most:
        raise ImageError("is a damaged TIFF (its data inflates to more than its header says): save it again")
    return inflated


def _from_packbits(data: bytes, most: int) -> bytes | bytearray:
    """Return what was compressed by PackBits, or as much of it as is more than this many bytes."""
    inflated, at = bytearray(), 0
    while at < len(data) and len(inflated) <= most:
        length = data[at]
        if length < 128:
            inflated += data[at + 1 : at + 2 + length]
            at += 2 + length
        elif length == 128:  # stands for nothing
            at += 1
        else:
            inflated += data[at + 1 : at + 2] * (257 - length)
            at += 2
    return inflated
