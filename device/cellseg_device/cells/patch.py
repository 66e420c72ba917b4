"""A change of a label image, small and exact: applied once it is made, applied again it is undone."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int]  # top, left, height, width
_MOST_PX = 1 << 30


class PatchError(Exception):
    """It is not a patch, or does not fit the label image."""


@dataclass(frozen=True)
class Patch:
    """What differs between two label images of one shape.

    Attributes
    ----------
    box : (int, int, int, int)
        Top, left, height and width of the part that differs.
    change : ndarray of uint16, shape (height, width)
        The exclusive or of the two in that part.
    """

    box: Box
    change: npt.NDArray[np.uint16]

    @property
    def place(self) -> tuple[slice, slice]:
        """The part of the label image that differs."""
        top, left, height, width = self.box
        return slice(top, top + height), slice(left, left + width)

    def apply(self, labels: npt.NDArray[np.uint16]) -> None:
        """Make the change in place, or undo it where it is made; raise PatchError if it does not fit."""
        top, left, height, width = self.box
        if top + height > labels.shape[0] or left + width > labels.shape[1]:
            raise PatchError("reaches beyond the image")
        labels[self.place] ^= self.change

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it: the box, and the change as little-endian numbers, deflated, in base64."""
        data = zlib.compress(self.change.astype("<u2").tobytes(), 6)
        return {"box": list(self.box), "change": base64.b64encode(data).decode()}


def made(
    labels: npt.NDArray[np.uint16], around: tuple[slice, slice], change: Callable[[npt.NDArray[np.uint16]], object]
) -> Patch | None:
    """Change a part of a label image in place, and return what became different; None if nothing did.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
    around : (slice, slice)
        Rows and columns of a part, from 0 or above, within which all changes lie.
    change : callable
        Is given that part, and changes it; what it changed before it raised is undone.
    """
    part = labels[around]
    before = part.copy()
    try:
        change(part)
    except BaseException:
        part[...] = before
        raise
    before ^= part
    return cut(before, (around[0].start, around[1].start))


def difference(before: npt.NDArray[np.uint16], after: npt.NDArray[np.uint16]) -> Patch | None:
    """Return the patch that makes one label image of another of its shape; None if they are equal."""
    return cut(before ^ after, (0, 0))


def cut(change: npt.NDArray[np.uint16], corner: tuple[int, int]) -> Patch | None:
    """Return the smallest patch of a change in a part of an image that begins at this corner."""
    if not change.any():
        return None
    left, top, width, height = cv2.boundingRect((change != 0).view(np.uint8))
    kept = np.ascontiguousarray(change[top : top + height, left : left + width])
    return Patch((corner[0] + top, corner[1] + left, height, width), kept)


def parse(values: dict[str, Any]) -> Patch:
    """Return the patch in what `Patch.as_json` returned; raise PatchError if it is none."""
    try:
        top, left, height, width = (int(number) for number in values["box"])
        if min(top, left) < 0 or min(height, width) < 1 or height * width > _MOST_PX:
            raise ValueError("a box without pixels")
        expected = 2 * height * width
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(values["change"], validate=True), expected + 1)
        if len(data) != expected:
            raise ValueError("as many numbers as pixels are needed")
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise PatchError(f"is not a change of labels ({error})") from None
    change = np.frombuffer(data, "<u2").astype(np.uint16).reshape(height, width)
    return Patch((top, left, height, width), change)
