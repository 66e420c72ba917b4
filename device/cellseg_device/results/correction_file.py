"""The file of corrections, ``corrections.zip``: written beside the microscope, read by whatever learns from it.

::

    corrections.json     what is in it: of each image an `Item`
    card.json            the card of the model that made the labels which were corrected; may be absent
    images/NAME.png      8 or 16 bit, grey or RGB
    labels/NAME.png      16 bit, 0 = background, one number per cell

A folder with ``images/`` and ``labels/`` from anywhere can be read in its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import os
import weakref
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import __version__
from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.errors import NO_MEMORY, CellsegError, InputError
from cellseg_device.image import headers
from cellseg_device.image.decode import decode
from cellseg_device.image.opencv import Header, reason, shown
from cellseg_device.image.pixels import Image
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card
from cellseg_device.model.fields import Fields, load_object
from cellseg_device.results import correction_folder
from cellseg_device.results.correction_items import (
    LONGEST_NAME,
    Correction,
    Corrections,
    Item,
    check_sizes,
    cut,
    named,
)
from cellseg_device.results.formats.label_images import Labels, consecutive
from cellseg_device.system import files
from cellseg_device.system.natural_order import natural_key
from cellseg_device.units import PIXEL_SIZES_UM

__all__ = ["FILE_NAME", "Correction", "Corrections", "Item", "cut", "read", "write"]

FILE_NAME = "corrections.zip"
FORMAT, VERSION = "cellseg-corrections", 1
MAX_ITEMS = 10_000

_MANIFEST, _CARD = "corrections.json", "card.json"
_IMAGES, _LABELS = "images/", "labels/"
_MAX_MANIFEST_BYTES = 16 << 20  # 1.6 kB for each item
_MOST_BESIDE_BYTES = 1 << 20  # what a PNG may hold beside its pixels, uncompressed and twice
_MOST_AT_ONCE = 32 << 20  # bytes of the file; a directory of as many items as there may be takes 3 MB
_PART_BYTES = 1 << 20
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those of zipfile that need little memory to read
_NO_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time in a zip archive
_LONGEST_LINE = 255
_AGAIN = "copy it, or write the corrections, again"


def write(
    path: Path, corrections: Iterable[Correction], *, card: Card | None = None, model_sha256: str = ""
) -> tuple[Item, ...]:
    """Write a file of corrections, an image at a time; it is whole and on the disk when this returns.

    Parameters
    ----------
    path : Path
        A file of this name is replaced.
    corrections : iterable of Correction
    card : Card or None
        Of the model that made the labels which were corrected.
    model_sha256 : str
        Of that model's file.

    Returns
    -------
    tuple of Item
        What was written.

    Raises
    ------
    InputError
        If there are none, or too many; if a name is used twice or cannot be that of a file; or if labels and image
        have different sizes. Nothing is written then.
    OSError
        If the disk fails.
    """
    items: list[Item] = []

    def content(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            items.extend(_add(archive, correction) for correction in named(corrections))
            _check_number(len(items))
            if card is not None:
                archive.writestr(zipfile.ZipInfo(_CARD, _NO_TIME), card.to_json())
            text = _manifest(items, card, model_sha256)
            _parsed(text)
            archive.writestr(zipfile.ZipInfo(_MANIFEST, _NO_TIME), text, zipfile.ZIP_DEFLATED)

    files.write_all(path.parent, {path.name: content})
    return tuple(items)


def _add(archive: zipfile.ZipFile, correction: Correction) -> Item:
    """Add an image and its labels to an archive, and return what the manifest says of them."""
    image, name = correction.image, correction.name
    check_sizes(name, image.shape, correction.labels.shape)
    labels = consecutive(correction.labels).astype(np.uint16)
    for folder, pixels in ((_IMAGES, image.searched), (_LABELS, labels)):
        archive.writestr(zipfile.ZipInfo(_member(folder, name), _NO_TIME), _png(pixels))
    return Item(
        name,
        int(labels.max(initial=0)),
        correction.source,
        correction.source_sha256,
        correction.crop,
        image.ends,
        image.pixel_size_um,
        correction.corrected_at,
    )


def _member(folder: str, name: str) -> str:
    return f"{folder}{name}.png"


def _png(pixels: npt.NDArray[Any]) -> bytes:
    in_order = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    return cv2.imencode(".png", in_order)[1].tobytes()


def _manifest(items: Iterable[Item], card: Card | None, model_sha256: str) -> bytes:
    content = {
        "format": FORMAT,
        "version": VERSION,
        "made_by": f"cellseg {__version__}",
        "created_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "model": {"name": card.name if card else None, "sha256": model_sha256 or None},
        "items": [
            {key: None if value == "" else value for key, value in dataclasses.asdict(item).items()} for item in items
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _check_number(items: int) -> None:
    if not 1 <= items <= MAX_ITEMS:
        raise InputError(f"{items:,} corrected images cannot be in one file: choose 1 to {MAX_ITEMS:,}")


def read(path: Path) -> Corrections:
    """Return the corrections in a ``corrections.zip``, or in a folder with ``images/`` and ``labels/``.

    The images of a folder are each decoded once, to be checked; of those in a zip only the headers are read.

    Raises
    ------
    InputError
        If it is neither; is damaged, hostile, or made by a newer version; if an image has no labels, or labels no
        image; or if they have different sizes.
    """
    if path.is_dir():
        return correction_folder.read(path)
    with _faults(f"{path}:"):
        file = _Careful(files.open_regular(path, os.O_RDONLY, follows=True))
        try:
            found = _read_zip(path, file)
        except BaseException:
            file.close()
            raise
    weakref.finalize(found, file.close)  # until then images are read from it
    return found


class _Careful(io.FileIO):
    """A file of which not much is read in one go, as zipfile does with its directory, of whatever size that is."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, as many as there are if `size` is negative."""
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > _MOST_AT_ONCE:
            raise zipfile.BadZipFile("its directory is too long")
        return super().read(size) or b""


def _read_zip(path: Path, file: _Careful) -> Corrections:
    if not zipfile.is_zipfile(file):
        raise InputError(f"is neither a zip nor a folder with images/ and labels/: name a {FILE_NAME}")
    archive = zipfile.ZipFile(file)
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        if entry.filename in entries:
            raise InputError(f"{shown(entry.filename)} is in the zip twice: {_AGAIN}")
        entries[entry.filename] = entry
    if _MANIFEST not in entries:
        raise InputError(f"has no {_MANIFEST}, so it is no file of corrections: unpack it, and name the folder")
    members = _Members(path, archive, entries)
    with _faults(_MANIFEST):
        text = members.content(_MANIFEST, _MAX_MANIFEST_BYTES)
    items, model_sha256 = _parsed(text)
    card = None
    if _CARD in entries:
        with _faults(f"{_CARD}:"):
            card = cards.parse(members.content(_CARD, cards.MAX_CARD_BYTES))
    members.check(items)
    return Corrections(path, items, card, model_sha256, members)


def _parsed(text: bytes) -> tuple[tuple[Item, ...], str]:
    """Return the items of a manifest, in natural order, and their model's SHA-256."""
    try:
        return _parse(text)
    except ValueError as error:
        raise InputError(f"{_MANIFEST} is wrong ({error}): {_AGAIN}") from None


def _parse(text: bytes) -> tuple[tuple[Item, ...], str]:
    raw = Fields(load_object(text), "it")
    raw.word("format", (FORMAT,))
    version = raw.whole("version", 1, 1 << 30)
    if version > VERSION:
        raise InputError(f"was made by a newer cellseg (version {version} of the format): update this one")
    raw.line("made_by", _LONGEST_LINE)
    raw.line("created_at", _LONGEST_LINE)
    model = Fields(raw.take("model"), "'model'")
    _line(model, "name")
    sha256 = _digest(model, "sha256")
    model.end()
    listed = raw.take("items")
    raw.end()
    if not isinstance(listed, list):
        raise ValueError("'items' is not a list")
    _check_number(len(listed))
    return tuple(sorted(named(map(_item, listed)), key=lambda item: natural_key(item.name))), sha256


def _item(listed: object) -> Item:
    raw = Fields(listed, "an item")
    item = Item(
        name=raw.line("name", LONGEST_NAME),
        cells=raw.whole("cells", 0, MAX_CELLS),
        source=_line(raw, "source"),
        source_sha256=_digest(raw, "source_sha256"),
        crop=_numbers(raw, "crop", 4),
        ends=_numbers(raw, "ends", 2),
        pixel_size_um=raw.number("pixel_size_um", *PIXEL_SIZES_UM) if raw.has("pixel_size_um") else None,
        corrected_at=_line(raw, "corrected_at") or None,
    )
    raw.end()
    if item.ends is not None and item.ends[0] > item.ends[1]:
        raise ValueError(f"'ends' of {item.name} are out of order")
    return item


def _line(raw: Fields, name: str) -> str:
    return raw.line(name, _LONGEST_LINE) if raw.has(name) else ""


def _digest(raw: Fields, name: str) -> str:
    return raw.digest(name) if raw.has(name) else ""


def _numbers(raw: Fields, name: str, length: int) -> Any:
    """Return a tuple of so many whole numbers, or None."""
    if not raw.has(name):
        return None
    found = raw.take(name)
    is_list = isinstance(found, list) and len(found) == length
    if not is_list or not all(type(number) is int and 0 <= number < 1 << 16 for number in found):
        raise ValueError(f"'{name}' is not a list of {length} whole numbers below 65536")
    return tuple(found)


@dataclass(frozen=True)
class _Members:
    """The images and labels in a zip, read one at a time."""

    path: Path
    archive: zipfile.ZipFile
    entries: dict[str, zipfile.ZipInfo]

    def image(self, item: Item) -> Image:
        """Return an image with the item's pixel size and ends."""
        image = self._decoded(_member(_IMAGES, item.name))
        return dataclasses.replace(image, pixel_size_um=item.pixel_size_um, ends=item.ends)

    def labels(self, item: Item) -> Labels:
        """Return labels, if there are as many as the item says."""
        name = _member(_LABELS, item.name)
        labels = consecutive(self._decoded(name).pixels).astype(np.uint16)
        if labels.max(initial=0) != item.cells:
            raise InputError(f"{self.path}: {name} has {labels.max()} cells, not {item.cells}: {_AGAIN}")
        return labels

    def check(self, items: Iterable[Item]) -> None:
        """Raise InputError unless there are an image and labels, of one size, for each item, and for nothing else."""
        expected = {_member(folder, item.name) for item in items for folder in (_IMAGES, _LABELS)}
        for name in sorted(expected - self.entries.keys(), key=natural_key):
            raise InputError(f"{name} is missing in the zip: {_AGAIN}")
        for name in sorted(self.entries.keys() - expected, key=natural_key):
            if name.startswith((_IMAGES, _LABELS)) and not name.endswith("/"):
                raise InputError(f"{shown(name)} is in the zip, but not in {_MANIFEST}: {_AGAIN}")
        for item in items:
            image, labels = (self._header(_member(folder, item.name)) for folder in (_IMAGES, _LABELS))
            shape = image.height, image.width
            check_sizes(item.name, shape, (labels.height, labels.width))
            if labels.channels != 1:
                raise InputError(f"{_member(_LABELS, item.name)} is in colour: {_AGAIN}")
            if item.crop is not None and item.crop[2:] != shape:
                raise InputError(f"{item.name} has another size than its crop in {_MANIFEST}: {_AGAIN}")

    def content(self, name: str, most: int) -> bytes:
        """Return the bytes of a member, which may be so many."""
        if self.entries[name].file_size > most:
            raise InputError(f"is far larger than it should be: {_AGAIN}")
        with self._opened(name) as file:
            return b"".join(iter(functools.partial(file.read, _PART_BYTES), b""))

    def _decoded(self, name: str) -> Image:
        with _faults(f"{self.path}: {name}"):
            start = self._start(name)
            raw_bytes = start.header.height * start.header.width * start.header.channels * start.item_bytes
            return decode(self.content(name, 2 * raw_bytes + _MOST_BESIDE_BYTES))

    def _header(self, name: str) -> Header:
        with _faults(name):
            return self._start(name).header

    def _start(self, name: str) -> headers.Start:
        """Return what a PNG says of itself."""
        with self._opened(name) as file:
            begin = file.read(_PART_BYTES)
        if not begin.startswith(headers.PNG):
            raise InputError(f"is not a PNG: {_AGAIN}")
        return headers.read(io.BytesIO(begin), headers.PNG)

    def _opened(self, name: str) -> IO[bytes]:
        if self.entries[name].compress_type not in _COMPRESSIONS:
            raise InputError(f"is compressed in a way that is not read: {_AGAIN}")
        return self.archive.open(self.entries[name])


@contextlib.contextmanager
def _faults(what: str) -> Iterator[None]:
    """Turn whatever is raised inside into an InputError about this."""
    try:
        yield
    except CellsegError as error:
        raise InputError(f"{what} {error}") from None
    except MemoryError:
        raise InputError(f"{what} {NO_MEMORY}") from None
    except OSError as error:
        raise InputError(f"{what} cannot be read ({error.strerror or reason(error)}): check the path") from None
    except Exception as error:  # noqa: BLE001 - zipfile raises what it likes on damaged bytes
        raise InputError(f"{what} is damaged ({reason(error)}): {_AGAIN}") from None
