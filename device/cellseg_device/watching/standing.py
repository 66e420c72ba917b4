"""What there is to do in a folder when the work begins, and what in it is passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """How many images of a folder are done, and how many are not.

    Attributes
    ----------
    done, failed : int
        Those that need no work unless they change.
    to_do : int
    """

    done: int
    failed: int
    to_do: int


class PassedOver:
    """Says which images are passed over because files of their kind are not read: once of each kind.

    Parameters
    ----------
    warn : callable
        Receives a line for the user.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._said: set[str] = set()

    def note(self, found: Mapping[str, int]) -> None:
        """Warn of the kinds, by suffix with their numbers, of which nothing was said yet."""
        new = {suffix: number for suffix, number in found.items() if suffix not in self._said}
        if new:
            self._said |= new.keys()
            self._warn(_line(new))


def _line(found: Mapping[str, int]) -> str:
    *others, last = sorted(found)
    kinds = f"{', '.join(others)} and {last}" if others else last
    number = sum(found.values())
    files, them = ("1 image file is", "it") if number == 1 else (f"{number:,} image files are", "them")
    return f"{files} passed over, since {kinds} cannot be read: save {them} as TIFF"
