"""What options of several commands have in common: numbers, sizes, durations, amounts of bytes, channels."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

PIXEL_SIZES_UM = (1e-5, 1e5)  # beyond them no microscope or lens has one
CHANNELS = ("red", "green", "blue")  # of an RGB image, in their order

_SECONDS = {"ms": 1e-3, "": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 3650 * 86400.0
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class Number(click.types.FloatParamType):
    """A number between bounds: `click.FloatRange` lets nan through."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Make a number of what was given, or fail."""
        number = float(super().convert(value, param, ctx))
        if not self._least <= number <= self._most:
            self.fail(f"{value!r} is not a number from {self._least:g} to {self._most:g}", param, ctx)
        return number


def is_pixel_size(size_um: float) -> bool:
    """Whether a pixel may have this edge, in µm."""
    return PIXEL_SIZES_UM[0] <= size_um <= PIXEL_SIZES_UM[1]


def parse_size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """Height and width in pixels from ``520x696``; a click callback.

    Raises
    ------
    click.BadParameter
        If it is not of that form, or zero.
    """
    match = re.fullmatch(r"([1-9]\d*)\s*[x×]\s*([1-9]\d*)", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size: write height x width in pixels, as 520x696")
    return int(match[1]), int(match[2])


def parse_duration(text: str) -> float:
    """Seconds from ``500ms``, ``2s``, ``1min``, ``12h``, ``30d``, or a number of seconds.

    Raises
    ------
    click.BadParameter
        If it is not of that form, or longer than ten years.
    """
    number, unit = _number_and_unit(text)
    scale = _SECONDS.get(unit.lower())
    if number is None or scale is None:
        raise click.BadParameter(f"{text!r} is not a duration: write it as 500ms, 2s, 1min, 12h or 30d")
    if number * scale > _LONGEST_S:
        raise click.BadParameter(f"{text!r} is too long: at most 3650d")
    return number * scale


def parse_bytes(text: str) -> int:
    """Bytes from ``500MB``, ``1GB``, ``1.5GiB``, or a number of bytes.

    Raises
    ------
    click.BadParameter
        If it is not of that form, or more than any disk holds.
    """
    number, unit = _number_and_unit(text)
    scale = _BYTES.get(unit.upper())
    if number is None or scale is None:
        raise click.BadParameter(f"{text!r} is not an amount of bytes: write it as 500MB, 1GB or 1.5GiB")
    if number * scale > 2**60:
        raise click.BadParameter(f"{text!r} is more than any disk holds")
    return round(number * scale)


def _number_and_unit(text: str) -> tuple[float | None, str]:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", text.strip(), re.ASCII | re.IGNORECASE)
    return (float(match[1]), match[2]) if match else (None, "")


def duration(least_s: float = 0.0) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """Make a click callback of `parse_duration` that refuses what is shorter than `least_s`; none stays None."""

    def callback(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        seconds = parse_duration(value)
        if seconds < least_s:
            raise click.BadParameter(f"{value!r} is too short: at least {least_s:g}s")
        return seconds

    return callback


def amount_of_bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Bytes from ``1GB``: `parse_bytes` as a click callback; none stays None."""
    return None if value is None else parse_bytes(value)
