"""Which corrected images are held out, so that a model is judged by images it has not learnt from.

Below 20 images each one counts: up to three models are trained, half as long, each judged by the images that it was not
shown, and a last one on all, which is kept. From 20 on a quarter is held out once, and the model that was judged is the
one kept: the rest is enough to learn from, and what is written is then exactly what was proven.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MANY = 20  # images from which one part is held out instead of each in turn
_MOST_FOLDS = 3
_HELD_SHARE = 0.25
_LEAST_HELD = 5


@dataclass(frozen=True)
class Fold:
    """The images, by their places, that one model learns from, and those it is judged by."""

    train: tuple[int, ...]
    held: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """How images are divided.

    Attributes
    ----------
    folds : tuple of Fold
        No image is held out twice; none where there is nothing to judge by.
    final : Fold or None
        All images, for the model that is kept; None if that is the model of the only fold.
    is_one_source : bool
        All images are crops of one, so that crops of one image had to be divided.
    """

    folds: tuple[Fold, ...]
    final: Fold | None
    is_one_source: bool = False

    @property
    def models(self) -> int:
        """Number of models to train."""
        return len(self.folds) + (self.final is not None)


def plan(sources: Sequence[str], cells: Sequence[int], seed: int) -> Plan:
    """Return how images are divided; crops of one source stay together.

    Parameters
    ----------
    sources : sequence of str
        For each image what it is from; "" for an image of its own.
    cells : sequence of int
        For each image its number of cells. Sources with cells are spread evenly, so that each model learns from some.
    seed : int

    Returns
    -------
    Plan
        The same for the same arguments.
    """
    number = len(sources)
    everything = Fold(tuple(range(number)), ())
    if sum(count > 0 for count in cells) < 2:
        return Plan((), everything)
    groups = _groups(sources)
    has_cells = [any(cells[place] for place in group) for group in groups]
    is_one_source = sum(has_cells) < 2
    if is_one_source:
        groups = [[place] for place in range(number)]
        has_cells = [count > 0 for count in cells]
    rich = sum(has_cells)
    # Sources with cells first, dealt out in turn: of two folds or more none gets all of them
    order = sorted(np.random.default_rng(seed).permutation(len(groups)), key=lambda place: not has_cells[place])
    dealt = [groups[place] for place in order]
    if number >= MANY:
        return Plan((_fold(_held_out(dealt, rich, number), number),), None, is_one_source)
    count = min(_MOST_FOLDS, rich)
    parts = [itertools.chain.from_iterable(dealt[first::count]) for first in range(count)]
    return Plan(tuple(_fold(part, number) for part in parts), everything, is_one_source)


def _held_out(dealt: Sequence[Sequence[int]], rich: int, number: int) -> list[int]:
    """Return the images of sources, the `rich` first of which have cells, that are about a quarter of all."""
    wanted = max(_LEAST_HELD, math.ceil(_HELD_SHARE * number))
    held: list[int] = []
    for group in (*dealt[: rich - 1], *dealt[rich:]):
        if len(held) < wanted and len(held) + len(group) <= number // 2:
            held += group
    return held or min(
        (list(group) for group in dealt[:rich]), key=len
    )  # each source is more than half of what may be held out


def _groups(sources: Sequence[str]) -> list[list[int]]:
    """Return the places of the images of each source, in the order of the first of each."""
    found: dict[object, list[int]] = {}
    for place, source in enumerate(sources):
        found.setdefault(source or place, []).append(place)
    return list(found.values())


def _fold(held: Iterable[int], number: int) -> Fold:
    out = sorted(held)
    return Fold(tuple(place for place in range(number) if place not in out), tuple(out))
