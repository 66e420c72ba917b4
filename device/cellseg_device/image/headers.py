"""What the header of a PNG or JPEG file says, read within bounds before a library reads the file.

Nothing that lies beside the pixels is read: text, colour profiles and previews can be of any size in a sound file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from cellseg_device.errors import ImageError
from cellseg_device.image.opencv import Header, check_size

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"

MOST_PNG_CHUNKS = 1 << 17  # the largest image, 16-bit RGB, is 105,469 of the 8 KiB that libpng writes
_PNG_HEADER_BYTES = 13
# Bits by colour type
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_GREY_WITH_ALPHA = 4

_MOST_STRAY_BYTES = 1 << 16  # that a camera may leave between the segments of a JPEG
_SCAN, _END = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS, _HIERARCHICAL = (0xC3, 0xC7, 0xCB, 0xCF), (0xC5, 0xC6, 0xCD, 0xCE)
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a segment

TOO_MANY_CHUNKS = f"is a PNG in more than {MOST_PNG_CHUNKS:,} chunks: save it again"
_DAMAGED_PNG = "is a damaged PNG (its header is wrong): copy or capture it again"
_DAMAGED_JPEG = "is a damaged JPEG (its header is wrong): copy or capture it again"
_TRUNCATED_PNG = "is a truncated PNG: copy or capture it again"
_TRUNCATED_JPEG = "is a truncated JPEG: copy or capture it again"


@dataclass(frozen=True)
class Start:
    """What comes before the pixels.

    Attributes
    ----------
    header : Header
    item_bytes : int
        Of one value.
    pixels_at : int
        Where in the file the first pixels are.
    """

    header: Header
    item_bytes: int
    pixels_at: int


def read(file: BinaryIO, magic: bytes) -> Start:
    """Return what comes before the pixels of a file, which begins with `PNG` or `JPEG`.

    Raises
    ------
    ImageError
        If the file ends before, the header makes no sense, or no decoder reads what it announces.
    """
    return _png(file) if magic == PNG else _jpeg(file)


def _png(file: BinaryIO) -> Start:
    file.seek(len(PNG))
    head = file.read(12 + _PNG_HEADER_BYTES)
    if len(head) < 12 + _PNG_HEADER_BYTES:
        raise ImageError(_TRUNCATED_PNG)
    length, kind, width, height, depth, colours, *_, checksum = struct.unpack(">I4sIIBBBBBI", head)
    if (length, kind, checksum) != (_PNG_HEADER_BYTES, b"IHDR", zlib.crc32(head[4:-4])):
        raise ImageError(_DAMAGED_PNG)
    if depth not in _PNG_DEPTHS.get(colours, ()):
        raise ImageError(_DAMAGED_PNG)
    check_size(height, width)
    channels = _PNG_CHANNELS[colours]
    for _ in range(MOST_PNG_CHUNKS):
        begin = file.read(8)
        if len(begin) < 8:
            raise ImageError(_TRUNCATED_PNG)
        length, kind = struct.unpack(">I4s", begin)
        if kind == b"IDAT":
            header = Header(height, width, is_grey=colours == _GREY_WITH_ALPHA, channels=channels)
            return Start(header, 2 if depth == 16 else 1, file.tell() - 8)
        if kind == b"tRNS":  # one of the colours is transparent: OpenCV makes a channel of that
            channels = 4
        file.seek(length + 4, 1)
    raise ImageError(TOO_MANY_CHUNKS)


def _jpeg(file: BinaryIO) -> Start:
    header = None
    for marker, length in _segments(file):
        if marker == _SCAN:
            break
        content = file.read(min(length, 6))
        if marker in _FRAMES and header is None:
            header = _jpeg_frame(marker, content)
        file.seek(length - len(content), 1)
    if header is None:
        raise ImageError(_DAMAGED_JPEG)
    return Start(header, 1, file.tell())


def _segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield the marker and the length of each segment up to the first scan, with the file at its content.

    Stray bytes before a marker are passed over, as libjpeg does: some webcams write them.
    """
    file.seek(2)
    stray_bytes = 0
    while True:
        byte = file.read(1)
        while byte != b"\xff" and byte:
            stray_bytes += 1
            if stray_bytes > _MOST_STRAY_BYTES:
                raise ImageError(_DAMAGED_JPEG)
            byte = file.read(1)
        while byte == b"\xff":  # any number of them may fill up
            byte = file.read(1)
        if not byte or byte[0] == _END:
            raise ImageError(_TRUNCATED_JPEG)
        marker = byte[0]
        if marker == 0 or marker in _ALONE:
            continue
        size = file.read(2)
        if len(size) < 2:
            raise ImageError(_TRUNCATED_JPEG)
        length = int.from_bytes(size, "big") - 2
        if length < 0:
            raise ImageError(_DAMAGED_JPEG)
        yield marker, length


def _jpeg_frame(marker: int, content: bytes) -> Header:
    if len(content) < 6:
        raise ImageError(_TRUNCATED_JPEG)
    bits, height, width, channels = struct.unpack(">BHHB", content)
    check_size(height, width)
    if marker in _LOSSLESS or marker in _HIERARCHICAL:
        kind = "lossless" if marker in _LOSSLESS else "hierarchical"
        raise ImageError(f"is a {kind} JPEG, which few programs read: save it as PNG or TIFF")
    if bits != 8:
        raise ImageError(f"is a JPEG of {bits} bits, which few programs read: save it as PNG or TIFF")
    if channels == 4:
        raise ImageError("has CMYK colours: save it as RGB or grey")
    if channels not in (1, 3):
        raise ImageError(f"has {channels} channels: save it as grey (1) or RGB (3)")
    return Header(height, width, channels=channels)
