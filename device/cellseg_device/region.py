"""The part of an image in which cells are counted: a rectangle, a circle (an eyepiece's field), or a mask image."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device import image as images
from cellseg_device.errors import ImageError, InputError

_FARTHEST_PX = 1e6
_FORMS = "write rectangle:TOP,LEFT,HEIGHT,WIDTH or circle:ROW,COL,RADIUS in pixels, circle, or a mask image's path"


@dataclass(frozen=True)
class Region:
    """A part of an image.

    Attributes
    ----------
    kind : str
        ``"rectangle"``, ``"circle"`` or ``"mask"``.
    numbers : tuple of float
        Pixels: top, left, height, width; or row, column, radius; empty for a mask, and for the largest circle
        around the centre.
    path : Path or None
        Of the mask image: it is not zero inside.
    sha256 : str
        Of the mask image's file.
    """

    kind: str
    numbers: tuple[float, ...] = ()
    path: Path | None = None
    sha256: str = ""


def parse(text: str) -> Region:
    """Region from ``rectangle:100,200,600,800``, ``circle:520,696,500``, ``circle``, or the path of a mask image.

    Raises
    ------
    InputError
        If it is none of these, has no area, or the mask image cannot be used.
    """
    kind, _, rest = text.partition(":")
    if text == "circle":
        return Region("circle")
    if kind in ("rectangle", "circle"):
        numbers = re.split(r"\s*[,x×]\s*", rest.strip())
        try:
            values = tuple(float(number) for number in numbers)
        except ValueError:
            values = ()
        if len(values) != {"rectangle": 4, "circle": 3}[kind] or not (np.abs(values) <= _FARTHEST_PX).all():
            raise InputError(f"{text!r} is no region: {_FORMS}")
        if min(values[2:]) <= 0:
            raise InputError(f"{text!r} has no area: {_FORMS}")
        return Region(kind, values)
    path = Path(text)
    try:
        if not path.exists():
            raise InputError(f"{text!r} is neither a region nor a file: {_FORMS}")
        data = images.read(path)
        inside = images.decode(data, is_mask=True).pixels
    except OSError as error:
        raise InputError(f"the region's mask {path} cannot be read ({error.strerror})") from None
    except ImageError as error:
        raise InputError(f"the region's mask {path} {error.message}") from None
    if not inside.any():
        raise InputError(f"the region's mask {path} is zero everywhere: paint what is to be counted")
    return Region("mask", path=path.absolute(), sha256=hashlib.sha256(data).hexdigest())


def draw(region: Region, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Mask of a region in an image of this shape: 255 inside, 0 outside.

    Raises
    ------
    ImageError
        If the region lies outside the image, or is a mask of another size.
    """
    height, width = shape
    if region.kind == "mask":
        inside = _mask(region)
        if inside.shape != shape:
            size = f"{inside.shape[1]}×{inside.shape[0]}"
            raise ImageError(f"is {width}×{height} pixels, the region's mask {size}: make one of its size")
        return inside
    # By the centres of the pixels
    rows, cols = np.arange(height)[:, None] + 0.5, np.arange(width) + 0.5
    if region.kind == "circle":
        row, col, radius = region.numbers or (height / 2, width / 2, min(height, width) / 2)
        drawn = (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
    else:
        top, left, tall, wide = region.numbers
        drawn = (rows > top) & (rows < top + tall) & (cols > left) & (cols < left + wide)
    if not drawn.any():
        raise ImageError(f"is {width}×{height} pixels, and the region lies outside: choose another --region")
    return np.negative(drawn.view(np.int8)).view(np.uint8)


@lru_cache(maxsize=1)
def _mask(region: Region) -> npt.NDArray[np.uint8]:
    assert region.path is not None
    try:
        data = images.read(region.path)
    except OSError as error:
        raise InputError(f"the region's mask {region.path} cannot be read any more ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != region.sha256:
        raise InputError(f"the region's mask {region.path} has changed: start again")
    pixels = images.decode(data, is_mask=True).pixels
    flat = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    return np.negative((flat > 0).view(np.int8)).view(np.uint8)
