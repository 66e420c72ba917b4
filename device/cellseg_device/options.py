"""What options of several commands have in common."""

from __future__ import annotations

import re

import click


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
