"""Types and callbacks of options that several commands share: numbers, sizes, durations, amounts of bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cellseg_device.errors import InputError
from cellseg_device.units import parse_bytes, parse_duration, parse_size

_T = TypeVar("_T")


class Number(click.types.FloatParamType):
    """A number between bounds; unlike `click.FloatRange` it refuses NaN."""

    def __init__(self, least: float, most: float) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number in a text, or fail."""
        number = float(super().convert(value, param, ctx))
        if not self._least <= number <= self._most:
            self.fail(f"{value!r} is not a number from {self._least:g} to {self._most:g}", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A whole number between bounds, of which the upper one may be missing."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number in a text, or fail."""
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            bounds = f"of at least {self.min}" if self.max is None else f"from {self.min} to {self.max}"
            self.fail(f"{value!r} is not a whole number {bounds}", param, ctx)


class PathOrNone(click.Path):
    """A path, or the word ``none``, which stays a text; a file of that name is ``./none``."""

    name = "FILE|none"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path in a text, or ``none``."""
        return value if value == "none" else super().convert(value, param, ctx)


def image_size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Return (height, width) in pixels from ``1600x1200``: `units.parse_size` as a click callback; None stays None."""
    return None if value is None else _parsed(parse_size, value)


def duration(least_s: float = 0.0) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """Return `units.parse_duration` as a click callback that refuses less than `least_s`; None stays None."""

    def callback(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        seconds = _parsed(parse_duration, value)
        if seconds < least_s:
            raise click.BadParameter(f"{value!r} is too short: at least {least_s:g}s")
        return seconds

    return callback


def amount_of_bytes(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Return bytes from ``1GB``: `units.parse_bytes` as a click callback; None stays None."""
    return None if value is None else _parsed(parse_bytes, value)


def _parsed(parse: Callable[[str], _T], text: str) -> _T:
    """Return the parsed value; an error names its option."""
    try:
        return parse(text)
    except InputError as error:
        raise click.BadParameter(error.message) from None
