"""The part of an image in which cells are counted: a rectangle, a circle (an eyepiece's field), or a mask image.

What lies outside has no part in what is found inside, as if the image ended at the region's rim.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells.bands import bands
from cellseg_device.cells.measure import Cells
from cellseg_device.errors import NO_MEMORY, ImageError, InputError
from cellseg_device.image.sandbox import Decoder

_FARTHEST_PX = 1e6
_FORMS = (
    "write rectangle:TOP,LEFT,HEIGHT,WIDTH or circle:ROW,COL,RADIUS in pixels, circle, whole, or a mask image's path"
)

_MASKS: dict[str, npt.NDArray[np.uint8]] = {}  # 255 inside, by the digest of the file


@dataclass(frozen=True)
class Region:
    """A part of an image.

    Attributes
    ----------
    kind : str
        ``"rectangle"``, ``"circle"``, ``"mask"``, or ``"whole"``: all of the image, whatever surrounds the field.
    numbers : tuple of float
        In pixels: top, left, height, width; or row, column, radius. Empty for others, and for the largest circle around
        the centre.
    path : Path or None
        The mask image, which is not zero inside the region.
    sha256 : str
        Digest of the mask image's file.
    """

    kind: str
    numbers: tuple[float, ...] = ()
    path: Path | None = None
    sha256: str = ""

    def __str__(self) -> str:
        """As `parse` takes it; of a mask, the path."""
        numbers = ",".join(f"{number:g}" for number in self.numbers)
        return str(self.path) if self.path else f"{self.kind}:{numbers}" if numbers else self.kind


def parse(text: str) -> Region:
    """Return the region in ``rectangle:100,200,600,800``, ``circle:520,696,500``, ``circle``, ``whole``, or a path.

    A path is that of a mask image.

    Raises
    ------
    InputError
        If it is none of these, has no area, or the mask image cannot be used.
    """
    kind, _, rest = text.partition(":")
    if text in ("circle", "whole"):
        return Region(text)
    if kind in ("rectangle", "circle"):
        numbers = re.split(r"\s*[,x×]\s*", rest.strip())
        try:
            values = tuple(float(number) for number in numbers)
        except ValueError:
            values = ()
        if len(values) != {"rectangle": 4, "circle": 3}[kind] or not (np.abs(values) <= _FARTHEST_PX).all():
            raise InputError(f"{text!r} is not a region: {_FORMS}")
        if min(values[2:]) <= 0:
            raise InputError(f"{text!r} has no area: {_FORMS}")
        return Region(kind, values)
    path = Path(text)
    try:
        if not path.exists():
            raise InputError(f"{text!r} is neither a region nor a file: {_FORMS}")
        with Decoder() as decoder:
            sha256, image = decoder.decode(path)
    except OSError as error:
        raise InputError(f"the region's mask {path} cannot be read ({error.strerror}): check its path") from None
    except ImageError as error:
        raise InputError(f"the region's mask {path} {error.message}") from None
    except MemoryError:
        raise InputError(f"the region's mask {path} {NO_MEMORY}") from None
    flat = image.pixels if image.pixels.ndim == 2 else image.pixels.max(axis=2)
    if not flat.any():
        raise InputError(f"the region's mask {path} is zero everywhere: paint what is to be counted")
    _MASKS[sha256] = np.negative((flat > 0).view(np.int8)).view(np.uint8)
    return Region("mask", path=path.absolute(), sha256=sha256)


def recalled(region: Region | None) -> Region | None:
    """Return a region that an image was counted in, to be drawn again; the whole image without its mask."""
    if region is None or region.kind != "mask" or region.sha256 in _MASKS:
        return region
    try:
        again = parse(str(region.path))
    except InputError:
        return Region("whole")
    return again if again.sha256 == region.sha256 else Region("whole")


def draw(region: Region, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return the mask of a region from `parse` in an image of this shape: 255 inside, 0 outside.

    Raises
    ------
    ImageError
        If the region lies outside the image, or is a mask of another size.
    """
    height, width = shape
    if region.kind == "mask":
        inside = _MASKS[region.sha256]
        if inside.shape != shape:
            size = f"{inside.shape[1]}×{inside.shape[0]}"
            raise ImageError(f"is {width}×{height} pixels, but the region's mask {size}: make a mask of the same size")
        return inside
    drawn = np.empty(shape, bool)
    for band in bands(height, width):
        # A pixel is inside if its centre is
        rows, cols = np.arange(height)[band, None] + 0.5, np.arange(width) + 0.5
        if region.kind == "whole":
            drawn[band] = True
        elif region.kind == "circle":
            row, col, radius = region.numbers or (height / 2, width / 2, min(height, width) / 2)
            drawn[band] = (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
        else:
            top, left, tall, wide = region.numbers
            drawn[band] = (rows > top) & (rows < top + tall) & (cols > left) & (cols < left + wide)
    if not drawn.any():
        raise ImageError(f"is {width}×{height} pixels, and the region lies outside it: choose another --region")
    inside = drawn.view(np.int8)
    return np.negative(inside, out=inside).view(np.uint8)


def has_centre_inside(
    labels: npt.NDArray[np.uint16], inside: npt.NDArray[np.uint8], cells: Cells
) -> npt.NDArray[np.bool_]:
    """Return of each cell whether its centre lies in a region outside of which nothing is known of it.

    Of a cell that the rim cuts there is only a part. Its centre is taken to be inside if the part is at least as deep
    as half a disc of its area: right for round cells, and for long ones slightly too often.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
        Cells numbered 1…n without a gap; 0 is background, and everything outside the region.
    inside : ndarray of uint8, shape (height, width)
        255 in the region, 0 outside.
    cells : Cells
        Their table; `touches_border` says which the rim may have cut.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    has = np.ones(len(cells), bool)
    columns = (f"{name}_px" for name in ("centroid_row", "centroid_col", "axis_major_length", "area"))
    of_cells = list(zip(*(cells.columns[name] for name in columns), strict=True))
    for cell in np.flatnonzero(cells.columns["touches_border"]):
        row, col, length, area = of_cells[cell]
        reach = math.ceil(length) + 2  # so far the cell does not extend from its centroid, nor the rim from the cell
        around = np.s_[max(int(row) - reach, 0) : int(row) + reach + 2, max(int(col) - reach, 0) : int(col) + reach + 2]
        depth = cv2.distanceTransform(inside[around], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        deepest = float(depth[labels[around] == cell + 1].max(initial=0))
        has[cell] = math.pi / 2 * deepest**2 >= area
    return has
