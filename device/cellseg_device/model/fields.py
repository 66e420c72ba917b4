"""JSON from a file that may hold anything: its text read within limits, its fields taken with their types and ranges.

Every function raises ValueError with a reason for the user, in one line, and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

_DEEPEST = 32  # what the host writes is nested 5 deep
_LONGEST_INTEGER = 20  # digits: more than 64 bits can hold
_LONGEST_SHOWN = 40  # characters of a wrong value in a reason
_REQUIRED: Any = object()


def load_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a text of UTF-8; a number that JSON has not (NaN, Infinity, 1e999) is read as None.

    Python's reader alone ends with a RecursionError for deep nesting, takes the last of two fields with one name, and
    gives strings that no file can hold (lone surrogates).
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=lambda _name: None,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    _check_inside(value)
    return value


class Fields:
    """The fields of a JSON object, each taken once; `end` refuses those that are left.

    Parameters
    ----------
    raw : object
        As from `load_object`, or a value in it.
    name : str
        What it is called in a reason.
    """

    def __init__(self, raw: object, name: str) -> None:
        if not isinstance(raw, dict):
            raise ValueError(f"{name} is {_shown(raw)}, not an object")
        self._left = dict(raw)

    def has(self, name: str) -> bool:
        """Return whether a field has a value; one that is null counts as taken."""
        if self._left.get(name) is None:
            self._left.pop(name, None)
            return False
        return True

    def take(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a field of any type."""
        if name not in self._left and default is _REQUIRED:
            raise ValueError(f"'{name}' is missing")
        return self._left.pop(name, default)

    def whole(self, name: str, least: int, most: int, default: int = _REQUIRED) -> int:
        """Return a whole number in a range, both ends included."""
        value = self.take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"'{name}' is {_shown(value)}, not a whole number from {least} to {most}")
        return value

    def number(self, name: str, least: float, most: float, default: float = _REQUIRED) -> float:
        """Return a number in a range, both ends included."""
        value = self.take(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"'{name}' is {_shown(value)}, not a number from {least:g} to {most:g}")
        return value

    def word(self, name: str, words: Sequence[str]) -> str:
        """Return a string that is one of these."""
        value = self.take(name)
        if value not in words:
            raise ValueError(f"'{name}' is {_shown(value)}, not one of {', '.join(words)}")
        return str(value)

    def line(self, name: str, longest: int) -> str:
        """Return a string of one line that can be printed and is not empty."""
        value = self.take(name)
        if not isinstance(value, str) or not 1 <= len(value) <= longest or not value.isprintable():
            raise ValueError(f"'{name}' is {_shown(value)}, not one line of 1 to {longest} characters")
        return value

    def digest(self, name: str) -> str:
        """Return a string of 64 hexadecimal digits, as SHA-256 gives."""
        value = self.take(name)
        if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
            raise ValueError(f"'{name}' is {_shown(value)}, not a SHA-256 of 64 digits")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object with whatever is in it; an empty one if it is left out."""
        value = self.take(name, {})
        if not isinstance(value, dict):
            raise ValueError(f"'{name}' is {_shown(value)}, not an object")
        return value

    def end(self) -> None:
        """Raise for a field that has not been taken."""
        for name in self._left:
            raise ValueError(f"there is an unknown field {_shown(name)}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {_shown(name)} is listed twice")
        found[name] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _check_inside(value: object) -> None:
    """Raise for nesting that is too deep to work with, and for strings that are not text."""
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        inside: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inside += [*item, *item.values()]
            elif isinstance(item, list):
                inside += item
            elif isinstance(item, str) and not _is_text(item):
                raise ValueError(f"{_shown(item)} is not text")
        if not inside:
            return
        level = inside
    raise ValueError(f"it is nested more than {_DEEPEST} deep")


def _is_text(string: str) -> bool:
    try:
        string.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _shown(value: object) -> str:
    """Return a value as a short text of printable characters."""
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
