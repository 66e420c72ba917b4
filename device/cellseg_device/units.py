"""Quantities and their units as people write them: lengths, pixel sizes, image sizes, durations, bytes, channels."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cellseg_device.errors import ImageError, InputError

PIXEL_SIZES_UM = (1e-5, 1e5)  # smallest and largest that a microscope or lens can have
CHANNELS = ("red", "green", "blue")  # of an RGB image, in their order

_LONGEST_LENGTH = 1e6
_SECONDS = {"ms": 1e-3, "": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 3650 * 86400.0
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def is_pixel_size(size_um: float) -> bool:
    """Return whether this is a possible edge of a pixel, in µm."""
    return PIXEL_SIZES_UM[0] <= size_um <= PIXEL_SIZES_UM[1]


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) in pixels from ``1600x1200``, which has the width first, as cameras and ImageJ have it.

    Raises
    ------
    InputError
        If it is not of that form, or zero.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})\s*[x×]\s*([1-9]\d{0,4})", text.strip().lower())
    if match is None:
        raise InputError(f"{text!r} is not a size: write width x height in pixels, as 1600x1200")
    return int(match[2]), int(match[1])


def parse_duration(text: str) -> float:
    """Return the seconds in ``500ms``, ``2s``, ``1min``, ``12h``, ``30d``, or a number of seconds.

    Raises
    ------
    InputError
        If it is not of that form, or longer than ten years.
    """
    number, unit = _number_and_unit(text)
    scale = _SECONDS.get(unit.lower())
    if number is None or scale is None:
        raise InputError(f"{text!r} is not a duration: write it as 500ms, 2s, 1min, 12h or 30d")
    if number * scale > _LONGEST_S:
        raise InputError(f"{text!r} is too long: at most 3650d")
    return number * scale


def parse_bytes(text: str) -> int:
    """Return the bytes in ``500MB``, ``1GB``, ``1.5GiB``, or a number of bytes.

    Raises
    ------
    InputError
        If it is not of that form, or more than any disk holds.
    """
    number, unit = _number_and_unit(text)
    scale = _BYTES.get(unit.upper())
    if number is None or scale is None:
        raise InputError(f"{text!r} is not an amount of bytes: write it as 500MB, 1GB or 1.5GiB")
    if number * scale > 2**60:
        raise InputError(f"{text!r} is more than any disk holds: give less")
    return round(number * scale)


def plural(count: int, noun: str) -> str:
    """Return a count with its noun in the right number."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _number_and_unit(text: str) -> tuple[float | None, str]:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", text.strip(), re.ASCII | re.IGNORECASE)
    return (float(match[1]), match[2]) if match else (None, "")


@dataclass(frozen=True)
class Length:
    """A length, in pixels or micrometres.

    Attributes
    ----------
    value : float
    unit : str
        ``"px"`` or ``"um"``.
    """

    value: float
    unit: str

    def px(self, pixel_size_um: float | None, what: str) -> float:
        """Return the length in pixels of an image.

        Raises
        ------
        ImageError
            If it is in µm and the image's pixel size is unknown; `what` names the option in the message.
        """
        if self.unit == "px":
            return self.value
        if pixel_size_um is None:
            raise ImageError(f"has no pixel size, which {what} in µm needs: give --pixel-size-um, or {what} in px")
        return self.value / pixel_size_um


def parse_length(text: str) -> Length:
    """Return the length in ``12um``, ``12 µm`` or ``40px``.

    Raises
    ------
    InputError
        If it is not of that form, not positive, or beyond a million.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(px|um|µm|μm)", text.strip().lower())
    if match is None or not 0 < float(match[1]) <= _LONGEST_LENGTH:
        raise InputError(f"{text!r} is not a length: write it with its unit, as 12um or 40px")
    return Length(float(match[1]), "px" if match[2] == "px" else "um")
