"""The directories of a TIFF file, read within bounds before a library reads it: the first whole, of others their size.

What counts as one picture is what ImageJ and tifffile take for one: the first page, where all others are smaller copies
of it (thumbnails, levels of a pyramid), other small pictures (a slide's label), or masks.

tifffile turns each list of numbers into Python's own, reads a tag's value as often as it is named, and follows the
chain of pages without end (tifffile 2026.3.3): here a file of a few megabytes is refused that would take gigabytes or
hours.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import BinaryIO

from cellseg_device.errors import ImageError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_TRUNCATED = "is a truncated TIFF: copy or capture it again"
_NO_PAGE = "is a TIFF that holds no page, as one that was not finished: save or capture it again"
_MOST_TAGS = 4096
_MOST_PAGES = 1000  # counted; more are "more than"
_MOST_TAGS_FOR_SIZE = 32  # tags are sorted, and those of the size are among the first
_MOST_LEVELS = 64  # of a pyramid, that are looked at
_MOST_SHARED_BYTES = 1 << 20  # by which the tags' values together may exceed the file, because some have one place
_MOST_TILE_BYTES = 64 << 20  # of a tile that is larger than the image

_TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # size of one value, by the type of its tag
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_NOT_NUMBERS = (1, 2, 6, 7)  # bytes and text, which stay as they are

_WIDTH, _HEIGHT, _BITS, _SAMPLES, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT, _DEPTH = (
    (256, 257, 258, 277, 278, 322, 323, 32997)
)  # fmt: skip
_KIND, _LEVELS, _METAMORPH = 254, 330, 33629  # what a page is; where its levels are; with a value for each plane
_IS_MASK = 4
_ZEISS = 34412
_IN_FIJI = "Fiji: File › Save As › Image Sequence"
_OFFSETS_AND_SIZES = (273, 279, 324, 325)  # one number for each strip or tile
_LISTS = (_BITS, _SAMPLES, 282, 283, 330, 338, 339, 513, 514, 530, 33628, 50838)  # other lists that tifffile reads
_MOST_IN_LIST = 1 << 16


@dataclass(frozen=True)
class Directory:
    """What the tags of the first page say.

    Attributes
    ----------
    height, width : int
        In pixels; 0 where there is no such tag.
    image_bytes : int
        Of all its pixels, uncompressed.
    """

    height: int
    width: int
    image_bytes: int


@dataclass(frozen=True)
class _Page:
    """A page after the first, or a level: its size, 0 × 0 for a mask."""

    height: int
    width: int

    def area(self) -> int:
        return self.height * self.width


class _File:
    """A TIFF file, whose numbers are stored in one of four ways.

    Parameters
    ----------
    file : binary file
    size : int
        How many bytes it has.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self.size = file, size
        file.seek(0)
        magic = file.read(4)
        self._order = "<" if magic.startswith(b"II") else ">"
        self.is_big = b"+" in magic
        self.word = "Q" if self.is_big else "I"  # of an offset, and of how many values a tag has
        self.word_bytes = struct.calcsize(self.word)

    def number(self, offset: int, form: str) -> int:
        """Return the integer of a format at an offset; raise ImageError if the file ends before it does."""
        form = self._order + form
        size = struct.calcsize(form)
        if offset + size > self.size:
            raise ImageError(_TRUNCATED)
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) < size:  # cut short since it was opened
            raise ImageError(_TRUNCATED)
        return int(struct.unpack(form, data)[0])

    def directory(self, offset: int) -> tuple[range, int]:
        """Return where the tags of a page are, and after them where the next page is."""
        form = "Q" if self.is_big else "H"
        number, tag_bytes = self.number(offset, form), 4 + 2 * self.word_bytes
        if number > _MOST_TAGS:
            raise _damaged(f"{number} tags")
        first = offset + struct.calcsize(form)
        tags = range(first, first + number * tag_bytes, tag_bytes)
        return tags, self.number(first + number * tag_bytes, self.word)


def read(file: BinaryIO, size: int) -> Directory:
    """Return what the first page's tags say.

    Parameters
    ----------
    file : binary file
    size : int
        How many bytes it has.

    Raises
    ------
    ImageError
        If the file holds no page, or ends before its tags and their values; holds several pages of one size, or begins
        with one that is smaller than another; or its tags have more values than an image needs.
    """
    tif = _File(file, size)
    first = tif.number(8 if tif.is_big else 4, tif.word)
    if first == 0:
        raise ImageError(_NO_PAGE)
    tags, following = tif.directory(first)
    values, counts = _values(tif, tags)
    checked = _checked(values, counts)
    others = _pages(tif, first, following, are_read=any(tif.number(tag, "H") == _ZEISS for tag in tags))
    planes = max(values.get(_DEPTH, 1), counts.get(_METAMORPH, 1), 1)
    if len(others) >= _MOST_PAGES:
        raise several_pages(_MOST_PAGES + 1)
    levels = _levels(tif, tags) if _LEVELS in counts else []
    area = checked.height * checked.width
    largest = max((*others, *levels), key=_Page.area, default=None)
    if largest is not None and largest.area() > area:
        sizes = f"{checked.width}×{checked.height} pixels, and holds one of {largest.width}×{largest.height}"
        raise ImageError(f"begins with a picture of {sizes}: save the large one as a file of its own")
    planes *= 1 + sum(page.area() == area for page in others)
    if planes > 1:
        raise several_pages(planes)
    return checked


def several_pages(number: int) -> ImageError:
    """Return the error for a file with so many pages of one size."""
    counted = f"more than {_MOST_PAGES}" if number > _MOST_PAGES else number
    return ImageError(f"holds {counted} pages of one size: save each as a file of its own ({_IN_FIJI})")


def _values(tif: _File, tags: range) -> tuple[dict[int, int], dict[int, int]]:
    """Return of each tag of numbers the first, if that is an integer, and how many it has."""
    values: dict[int, int] = {}
    counts: dict[int, int] = {}
    total = 0
    for tag in tags:
        code, kind, count = tif.number(tag, "H"), tif.number(tag + 2, "H"), tif.number(tag + 4, tif.word)
        at = tag + 4 + tif.word_bytes
        value_bytes = count * (_TYPE_BYTES[kind] if kind < len(_TYPE_BYTES) else 0)
        if value_bytes > tif.word_bytes:
            at = tif.number(at, tif.word)
            total += value_bytes
            # tifffile only skips a tag whose value it cannot read (not reported; tifffile 2026.3.3)
            if at + value_bytes > tif.size:
                raise ImageError(_TRUNCATED)
        if kind not in _NOT_NUMBERS:
            counts[code] = max(count, counts.get(code, 0))
        if kind in _INTEGERS and count:
            values.setdefault(code, tif.number(at, _INTEGERS[kind]))
    if total > tif.size + _MOST_SHARED_BYTES:
        raise _damaged("its tags have more values than the file has bytes")
    return values, counts


def _pages(tif: _File, first: int, following: int, *, are_read: bool) -> list[_Page]:
    """Return the pages after the first, by the chain of their directories; of very many not all.

    If they are read, as tifffile reads those of Zeiss's LSM, they are checked as the first one is.
    """
    seen, pages = {first}, []
    while following and following not in seen and len(seen) <= _MOST_PAGES:
        try:
            tags, after = tif.directory(following)
        except ImageError:  # a chain that leads out of the file ends there, for tifffile too
            break
        if are_read:
            _checked(*_values(tif, tags))
        seen.add(following)
        pages.append(_page(tif, tags))
        following = after
    return pages


def _levels(tif: _File, tags: range) -> list[_Page]:
    """Return the pages that the first one names as its levels."""
    (tag,) = [tag for tag in tags if tif.number(tag, "H") == _LEVELS][:1]
    kind, count = tif.number(tag + 2, "H"), tif.number(tag + 4, tif.word)
    if kind not in _INTEGERS or kind in _NOT_NUMBERS:
        return []
    size = _TYPE_BYTES[kind]
    at = tag + 4 + tif.word_bytes
    at = tif.number(at, tif.word) if count * size > tif.word_bytes else at
    levels = []
    for place in range(at, at + size * min(count, _MOST_LEVELS), size):
        try:
            level, _ = tif.directory(tif.number(place, _INTEGERS[kind]))
            levels.append(_page(tif, level))
        except ImageError:  # tifffile only reads those that are asked for
            continue
    return levels


def _page(tif: _File, tags: range) -> _Page:
    values = {}
    for tag in tags[:_MOST_TAGS_FOR_SIZE]:
        code, kind = tif.number(tag, "H"), tif.number(tag + 2, "H")
        if code in (_KIND, _WIDTH, _HEIGHT) and kind in _INTEGERS:
            values[code] = max(tif.number(tag + 4 + tif.word_bytes, _INTEGERS[kind]), 0)
    if values.get(_KIND, 0) & _IS_MASK:
        return _Page(0, 0)
    return _Page(values.get(_HEIGHT, 0), values.get(_WIDTH, 0))


def _checked(values: dict[int, int], counts: dict[int, int]) -> Directory:
    """Return the directory of these tags, unless they say more than an image needs."""
    height, width = max(values.get(_HEIGHT, 0), 0), max(values.get(_WIDTH, 0), 0)
    samples, bits = min(max(values.get(_SAMPLES, 1), 1), 64), min(max(values.get(_BITS, 1), 1), 64)
    image_bytes = math.ceil(height * width * samples * bits / 8)
    tile = max(values.get(_TILE_HEIGHT, 0), 0), max(values.get(_TILE_WIDTH, 0), 0)
    if tile[0] * tile[1] * samples * bits // 8 > max(image_bytes, _MOST_TILE_BYTES):
        raise _damaged(f"its tiles are {tile[1]}×{tile[0]} pixels")
    strips = height
    tiles = math.ceil(height / max(tile[0], 8)) * math.ceil(width / max(tile[1], 8))
    for code, count in counts.items():
        if code in _OFFSETS_AND_SIZES and count > max(strips, tiles, 1) * samples:
            raise _damaged(f"{count} strips or tiles for {height} rows")
        if code in _LISTS and count > _MOST_IN_LIST:
            raise _damaged(f"{count} values of tag {code}")
    return Directory(height, width, image_bytes)


def _damaged(what: str) -> ImageError:
    return ImageError(f"is a damaged TIFF ({what}): copy or capture it again")
