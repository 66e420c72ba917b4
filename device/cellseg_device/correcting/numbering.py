"""New labels in the numbers of former ones: a cell that is still there keeps its number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.instances import MAX_CELLS

Labels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Renumbered:
    """Labels with the numbers of former ones, and how they differ from those.

    Attributes
    ----------
    labels : ndarray of uint16, shape (height, width)
    added, changed : tuple of int
        Numbers of the cells that match no former one, and of those that match one but have other pixels.
    removed : int
        How many former cells match none.
    """

    labels: Labels
    added: tuple[int, ...]
    changed: tuple[int, ...]
    removed: int


def renumbered(labels: Labels, former: Labels) -> Renumbered:
    """Return labels in which each cell that covers most of a former one, and little else, has that one's number.

    They match if their intersection is more than half of their union, which at most one former cell does. Others get
    the numbers after the largest former one, or those that are free.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
        Numbered from 1 without gaps.
    former : ndarray of uint16, shape (height, width)
        Numbers may have gaps.
    """
    pairs, shared = np.unique(labels.astype(np.uint32) << 16 | former, return_counts=True)
    new, old = pairs >> 16, pairs & 0xFFFF
    area, former_area = (np.bincount(of.reshape(-1), minlength=MAX_CELLS + 1) for of in (labels, former))
    is_match = (new > 0) & (old > 0) & (2 * shared > area[new] + former_area[old] - shared)
    count = int(labels.max(initial=0))
    numbers = np.zeros(count + 1, np.int64)
    numbers[new[is_match]] = old[is_match]
    is_new = numbers == 0
    is_new[0] = False
    is_free = np.ones(MAX_CELLS + 1, bool)
    is_free[numbers] = is_free[0] = False
    largest = int(former.max(initial=0))
    free = np.flatnonzero(is_free)
    in_order = np.concatenate([free[free > largest], free[free <= largest]])
    numbers[is_new] = in_order[: np.count_nonzero(is_new)]
    matched = shared[is_match]
    is_equal = (matched == area[new[is_match]]) & (matched == former_area[old[is_match]])
    return Renumbered(
        numbers.astype(np.uint16)[labels],
        tuple(numbers[is_new].tolist()),
        tuple(old[is_match][~is_equal].tolist()),
        int(np.count_nonzero(former_area[1:])) - len(matched),
    )
