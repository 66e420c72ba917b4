"""What an import left out, and what else should be said of an image: each kind once, with how many and which first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rejection:
    """An image that was left out, and why."""

    id: str
    set: str
    reason: str


@dataclass(frozen=True)
class Note:
    """Something that should be known of an image that was imported."""

    id: str
    set: str
    reason: str


@dataclass(frozen=True)
class Kind:
    """Faults of one kind.

    Attributes
    ----------
    first : Rejection or Note
    number : int
        How many images have it.
    """

    first: Rejection | Note
    number: int

    def text(self, *, with_set: bool = False) -> str:
        """Return it in a line: the first image, how many more there are, and the reason of the first."""
        which = f"{self.first.id} of {self.first.set}" if with_set else self.first.id
        return f"{which}{f' and {self.number - 1} more' if self.number > 1 else ''}: {self.first.reason}"


def kinds(faults: Iterable[Rejection | Note]) -> list[Kind]:
    """Return the kinds of faults, the most frequent first."""
    groups: dict[str, list[Rejection | Note]] = {}
    for fault in faults:
        groups.setdefault(_kind(fault.reason), []).append(fault)
    return sorted((Kind(group[0], len(group)) for group in groups.values()), key=lambda kind: -kind.number)


def _kind(reason: str) -> str:
    """Return a reason without what differs from image to image: a path before it, names in brackets, numbers."""
    path, colon, rest = reason.partition(": ")
    text = rest if colon and "/" in path else reason
    return re.sub(r"\d[\d,.]*", "N", re.sub(r" \([^)]*\)", "", text.partition(": ")[0]))
