"""The order in which people list numbered names: ``IMG_2`` before ``IMG_10``."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"([0-9]+)")

NaturalKey = tuple[tuple[str | tuple[int, str], ...], str]


def natural_key(text: str) -> NaturalKey:
    """Return what to sort a text by so that the numbers in it count as numbers, and case only between equals.

    Texts that differ have keys that differ.

    Examples
    --------
    >>> sorted(["IMG_10.png", "img_2.png", "IMG_02.png", "IMG_1.png"], key=natural_key)
    ['IMG_1.png', 'IMG_02.png', 'img_2.png', 'IMG_10.png']
    """
    parts = _NUMBER.split(text.casefold())  # texts and numbers in turn, a text first
    return tuple(_number(part) if place % 2 else part for place, part in enumerate(parts)), text


def _number(digits: str) -> tuple[int, str]:
    """Return what orders numbers however long they are: Python makes no integer of more than 4300 digits."""
    digits = digits.lstrip("0")
    return len(digits), digits
