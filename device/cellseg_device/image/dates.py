"""When an image was taken, as its file says.

The time is that of the file, unchanged: with its zone where the file names one, else as the camera's clock had it. A
time that cannot be believed (zero, before 1990, after 2099, no date at all) counts as none, and the next source is
asked. The bytes may be anybody's: they are read within bounds, and nothing here raises an error.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

EXIF, OME, MICRO_MANAGER, TIFF, PNG = "EXIF", "OME", "Micro-Manager", "TIFF", "PNG"
_SOURCES = (EXIF, OME, MICRO_MANAGER, TIFF, PNG)
_FIRST_YEAR, _LAST_YEAR = 1990, 2099  # clocks that were never set begin earlier: at 1904, 1970 or 1980

# Some cameras write a space for a leading zero, and more digits of a second than a time here has
_TIME = re.compile(
    r"(\d{4})[-:/.]?([ \d]\d)[-:/.]?([ \d]\d)[T ]([ \d]\d):([ \d]\d):([ \d]\d)"
    r"(?:[.,](\d{1,9}+)\d*+)? ?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_ZONE = re.compile(r"Z|[+-]\d\d:\d\d", re.ASCII)
_IN_OME = re.compile(rb"<(?:\w{1,40}:)?(?:AcquisitionDate|CreationDate)>([^<]{1,60})<")
_IN_MICRO_MANAGER = re.compile(rb'"(?:ReceivedTime|Time)" {0,4}: {0,4}"([^"]{1,60})"')

_PNG_START, _JPEG_START, _EXIF_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"Exif\0\0"
_JPEG_SCAN, _JPEG_APP1 = 0xDA, 0xE1
_MOST_SEGMENTS = 1000  # of a JPEG, before its pixels
_MOST_CHUNKS = 1 << 17  # of a PNG: its pixels may be in many, and EXIF behind them

_LAYOUTS = {b"II*\0": ("<", "I"), b"MM\0*": (">", "I"), b"II+\0": ("<", "Q"), b"MM\0+": (">", "Q")}  # of a TIFF
_DESCRIPTION, _DATE_TIME, _EXIF_TAGS, _MICRO_MANAGER_TAG = 270, 306, 34665, 51123
# Tags of a time, of its zone, and of its fraction of a second
_ORIGINAL, _DIGITIZED, _CHANGED = (36867, 36881, 37521), (36868, 36882, 37522), (_DATE_TIME, 36880, 37520)
_WANTED = {_DESCRIPTION, _EXIF_TAGS, _MICRO_MANAGER_TAG, *_ORIGINAL, *_DIGITIZED, *_CHANGED}
_MOST_TAGS, _MOST_VALUE_BYTES = 4096, 1 << 24


@dataclass(frozen=True)
class Captured:
    """When an image was taken.

    Attributes
    ----------
    at : str
        ISO 8601, to the second or finer: with a zone or ``Z`` if the file has one, else by the camera's own clock.
    source : str
        What says so, one of the names above.
    """

    at: str
    source: str


def captured(data: bytes) -> Captured | None:
    """Return when an image was taken, by the metadata in its file; None if there is no such time.

    What tells of the taking comes first (EXIF's DateTimeOriginal, OME's AcquisitionDate, Micro-Manager's time), then
    what may tell of the saving (DateTime in EXIF or TIFF, tIME in PNG).
    """
    for text, source in _candidates(data):
        at = as_iso(text)
        if at is not None:
            return Captured(at, source)
    return None


def as_iso(text: str) -> str | None:
    """Return a time, as files write it, in ISO 8601; None if it is none, or none that can be believed.

    Examples
    --------
    >>> as_iso("2021:03:04 05:06:07"), as_iso("2021-03-04 05:06:07.25 +0100"), as_iso("0000:00:00 00:00:00")
    ('2021-03-04T05:06:07', '2021-03-04T05:06:07.25+01:00', None)
    """
    match = _TIME.fullmatch(text.strip("\0 \t\r\n"))
    if match is None:
        return None
    year, *others, fraction, zone = match.groups()
    month, day, hour, minute, second = (digits.replace(" ", "0") for digits in others)
    if not _FIRST_YEAR <= int(year) <= _LAST_YEAR:
        return None
    if zone is not None and zone != "Z":
        zone = f"{zone[:3]}:{zone[-2:]}"
    at = f"{year}-{month}-{day}T{hour}:{minute}:{second}{f'.{fraction}' if fraction else ''}{zone or ''}"
    try:
        datetime.fromisoformat(at)
    except ValueError:
        return None
    return at


def described(taken: Captured | None) -> list[str] | None:
    """Return what stands for a time in JSON, from one process to another."""
    return None if taken is None else [taken.at, taken.source]


def received(value: object) -> Captured | None:
    """Return the time that `described` made this of; raise ValueError if that did not."""
    match value:
        case None:
            return None
        case [str(at), str(source)] if source in _SOURCES and as_iso(at) == at:
            return Captured(at, source)
    raise ValueError("no time")


def _candidates(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield texts that may be the time, each with what it is from, the best first."""
    if data.startswith(_JPEG_START):
        yield from _in_exif(_exif_of_jpeg(data))
    elif data.startswith(_PNG_START):
        exif, changed = _of_png(data)
        yield from _in_exif(exif)
        if changed is not None:
            yield changed, PNG
    else:
        yield from _in_tiff(data)


def _in_exif(block: bytes) -> Iterator[tuple[str, str]]:
    tags = _tags(block)
    for codes in (_ORIGINAL, _DIGITIZED, _CHANGED):
        yield _time(tags, codes), EXIF


def _in_tiff(data: bytes) -> Iterator[tuple[str, str]]:
    tags = _tags(data)
    yield _time(tags, _ORIGINAL), EXIF
    for match in _IN_OME.finditer(tags.get(_DESCRIPTION, b"")):
        yield _text(match[1]), OME
    for match in _IN_MICRO_MANAGER.finditer(tags.get(_MICRO_MANAGER_TAG, b"")):
        yield _text(match[1]), MICRO_MANAGER
    yield _time(tags, _DIGITIZED), EXIF
    yield _time(tags, _CHANGED), TIFF


def _time(tags: dict[int, bytes], codes: tuple[int, int, int]) -> str:
    """Return the text of a time, with its fraction of a second and its zone where tags of their own have them."""
    text, zone, fraction = (_text(tags.get(code, b"")) for code in codes)
    text += f".{fraction}" if fraction.isascii() and fraction.isdigit() else ""
    return text + (zone if _ZONE.fullmatch(zone) else "")


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip("\0 \t\r\n")


def _exif_of_jpeg(data: bytes) -> bytes:
    """Return the EXIF block of a JPEG, as a TIFF structure; nothing if it has none before its pixels."""
    at = len(_JPEG_START)
    for _ in range(_MOST_SEGMENTS):
        at = data.find(b"\xff", at)  # some cameras write bytes too many between segments
        if at < 0 or at + 4 > len(data) or data[at + 1] == _JPEG_SCAN:
            break
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == _JPEG_APP1 and data.startswith(_EXIF_START, at + 4):
            return data[at + 4 + len(_EXIF_START) : at + 2 + size]
        at += 2 + size
    return b""


def _of_png(data: bytes) -> tuple[bytes, str | None]:
    """Return the EXIF block of a PNG, as a TIFF structure, and its time of last change, which is in UTC."""
    exif, changed = b"", None
    at = len(_PNG_START)
    for _ in range(_MOST_CHUNKS):
        if at + 12 > len(data):
            break
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        value = slice(at + 8, at + 8 + size)
        if kind == b"eXIf" and not exif:
            exif = data[value].removeprefix(_EXIF_START)
        elif kind == b"tIME" and size == 7 and value.stop <= len(data):
            changed = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format(*struct.unpack(">H5B", data[value]))
        at += 12 + size
    return exif, changed


def _tags(data: bytes) -> dict[int, bytes]:
    """Return the wanted tags of the first page of a TIFF structure, and of its EXIF directory; none if it is none."""
    order, word = _LAYOUTS.get(data[:4], ("", ""))
    if not word:
        return {}
    try:
        first = struct.unpack_from(order + word, data, 8 if word == "Q" else 4)[0]
        tags = _directory(data, first, order, word)
        exif = tags.pop(_EXIF_TAGS, b"")
        if len(exif) in (4, 8):
            tags = _directory(data, int.from_bytes(exif, "little" if order == "<" else "big"), order, word) | tags
    except struct.error:
        return {}
    return tags


def _directory(data: bytes, offset: int, order: str, word: str) -> dict[int, bytes]:
    """Return the wanted tags of one directory; those whose values lie outside of the data are left out."""
    counted, word_bytes = order + ("Q" if word == "Q" else "H"), struct.calcsize(word)
    if offset + 8 > len(data):
        return {}
    first, tag_bytes = offset + struct.calcsize(counted), 4 + 2 * word_bytes
    tags: dict[int, bytes] = {}
    for number in range(min(struct.unpack_from(counted, data, offset)[0], _MOST_TAGS)):
        at = first + number * tag_bytes
        if at + tag_bytes > len(data):
            break
        code, kind, count = struct.unpack_from(f"{order}HH{word}", data, at)
        size = count * {3: 2, 4: 4, 13: 4, 16: 8, 18: 8}.get(kind, 1)  # of what is wanted, texts and an offset
        if code not in _WANTED or size > _MOST_VALUE_BYTES:
            continue
        place = at + 4 + word_bytes
        if size > word_bytes:
            place = struct.unpack_from(order + word, data, place)[0]
        if place + size <= len(data):
            tags.setdefault(code, data[place : place + size])
    return tags
