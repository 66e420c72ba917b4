"""How often the images of each set and modality are drawn in training. TensorFlow is not needed for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_host.data.dataset import Entry


@dataclass(frozen=True)
class Group:
    """The images of one set and modality, which are drawn alike.

    Attributes
    ----------
    set, modality : str
    images : int
    share : float
        Of all draws, between 0 and 1: it grows with the square root of `images`, so that a small group counts.
    """

    set: str
    modality: str
    images: int
    share: float


def groups(entries: Sequence[Entry]) -> list[Group]:
    """Return the sets and modalities among these images, sorted by their names."""
    counts = sorted(Counter((e.set, e.modality) for e in entries).items())
    roots = sum(count**0.5 for _, count in counts)
    return [Group(name, modality, count, count**0.5 / roots) for (name, modality), count in counts]


def sampling_weights(entries: Sequence[Entry]) -> npt.NDArray[np.float64]:
    """Return the probability of drawing each image; they add up to 1."""
    chances = {(g.set, g.modality): g.share / g.images for g in groups(entries)}
    return np.array([chances[e.set, e.modality] for e in entries])
