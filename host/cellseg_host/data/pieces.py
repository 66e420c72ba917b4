"""Images cut into tiles that overlap, and tiles put together again: for networks that see a fixed size.

A tile's name says where it is from: ``NAME_rROW_cCOLUMN.png``, in pixels from the upper left corner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ImageError, InputError, OutputError
from cellseg_device.image.decode import decode
from cellseg_device.image.opencv import check_size
from cellseg_device.image.source import is_image_name, read
from cellseg_device.system.natural_order import natural_key

_PLACE = re.compile(r"(?P<name>.+)_r(?P<row>\d{1,5})_c(?P<column>\d{1,5})")

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes
    ----------
    row, column : int
        Of its upper left pixel.
    pixels : ndarray
    """

    row: int
    column: int
    pixels: Pixels


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Return where tiles begin along a side: the last one ends with the side, and so may overlap more.

    Examples
    --------
    >>> starts(500, 200, 100), starts(450, 200, 100), starts(150, 200, 100)
    ([0, 100, 200, 300], [0, 100, 200, 250], [0])
    """
    last = max(length - size, 0)
    return [*range(0, last, size - overlap), last]


def split(pixels: Pixels, size: int, overlap: int) -> Iterator[Tile]:
    """Yield the tiles of an image, row by row; of one that is smaller than a tile, itself."""
    for row in starts(pixels.shape[0], size, overlap):
        for column in starts(pixels.shape[1], size, overlap):
            yield Tile(row, column, pixels[row : row + size, column : column + size])


def stitch(tiles: Sequence[Tile]) -> Pixels:
    """Return the image that tiles are of; where they meet it has the greatest of their values.

    Raises
    ------
    InputError
        If they are of several kinds, do not cover the image, or it would be too large.
    """
    kinds = {(tile.pixels.dtype.str, tile.pixels.shape[2:]) for tile in tiles}
    if len(kinds) != 1:
        raise InputError("its tiles differ in depth or channels: make them all alike")
    height = max(tile.row + tile.pixels.shape[0] for tile in tiles)
    width = max(tile.column + tile.pixels.shape[1] for tile in tiles)
    try:
        check_size(height, width)
    except ImageError as error:
        raise InputError(f"its tiles are of an image that {error.message}") from None
    first = tiles[0].pixels
    whole = np.zeros((height, width, *first.shape[2:]), first.dtype)
    is_covered = np.zeros((height, width), bool)
    for tile in tiles:
        rows, columns = tile.pixels.shape[:2]
        part = slice(tile.row, tile.row + rows), slice(tile.column, tile.column + columns)
        np.maximum(whole[part], tile.pixels, out=whole[part])
        is_covered[part] = True
    if not is_covered.all():
        row, column = (int(number) for number in np.argwhere(~is_covered)[0])
        raise InputError(f"no tile covers row {row}, column {column}: put in the one that is missing")
    return whole


def images_below(root: Path) -> list[Path]:
    """Return the images in a folder and those below it, as paths from there.

    Raises
    ------
    InputError
        If there are none, or two in a folder have the same name but for the ending.
    """
    found = [p.relative_to(root) for p in root.rglob("*") if is_image_name(p.name) and p.is_file()]
    if not found:
        raise InputError(f"{root}: holds no PNG, JPEG or TIFF image")
    found.sort(key=lambda path: natural_key(path.as_posix()))
    known: dict[Path, Path] = {}
    for path in found:
        if (other := known.setdefault(path.with_suffix(""), path)) != path:
            raise InputError(f"{root / path}: has the name of {other.name}: give one of them another name")
    return found


def split_file(root: Path, path: Path, out: Path, *, size: int, overlap: int) -> int:
    """Write the tiles of an image of a folder into the same place of another one, and return their number."""
    number = 0
    for tile in split(_read(root / path), size, overlap):
        _write(out / path.parent / f"{path.stem}_r{tile.row}_c{tile.column}.png", tile.pixels)
        number += 1
    return number


def by_image(paths: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return tiles by the path of the image that they are of, without an ending.

    Raises
    ------
    InputError
        If a name is not that of a tile.
    """
    found: dict[Path, list[Path]] = {}
    for path in paths:
        place = _PLACE.fullmatch(path.stem)
        if place is None:
            raise InputError(f"{path}: is not named NAME_rROW_cCOLUMN as a tile: move it away, or name it so")
        found.setdefault(path.with_name(place["name"]), []).append(path)
    return found


def stitch_files(root: Path, image: Path, tiles: Sequence[Path], out: Path) -> None:
    """Write the image whose tiles these files of a folder are into the same place of another; raises as `stitch`."""
    try:
        whole = stitch([_tile(root / path) for path in tiles])
    except InputError as error:
        raise InputError(f"{root / image}: {error.message}") from None
    _write(out / f"{image}.png", whole)


def _tile(path: Path) -> Tile:
    place = _PLACE.fullmatch(path.stem)
    assert place is not None, "by_image has looked at it"
    return Tile(int(place["row"]), int(place["column"]), _read(path))


def _read(path: Path) -> Pixels:
    """Return the pixels of an image as they are stored, with alpha, in OpenCV's order of channels."""
    try:
        data = read(path)
        decode(data)  # which refuses what is damaged, and what OpenCV should not be given
    except ImageError as error:
        raise InputError(f"{path}: {error.message}") from None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: is not an image of 8 or 16 bits: save it as PNG or TIFF")
    return np.asarray(pixels)


def _write(path: Path, pixels: Pixels) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be written ({error.strerror}): make room, then start again") from None
