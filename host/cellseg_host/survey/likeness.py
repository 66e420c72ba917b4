"""Images that are alike: the same one again, turned, mirrored, brighter, saved as JPEG, or the next frame.

Each has a perceptual hash [1]_: the signs of its low frequencies. Images whose hashes differ in few bits are compared
once more, by the correlation of what is left of them at 32 × 32 pixels, since fields of few cells have much the same
hash.

References
----------
.. [1] C. Zauner, Implementation and benchmarking of perceptual image hash functions. Upper Austria University of
   Applied Sciences, Hagenberg (2010): the hash by the discrete cosine transform.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_SIDE_PX, _FREQUENCIES = 32, 8
_MOST_BITS = 10  # of 64, that differ
_LEAST_CORRELATION = 0.99  # two other fields under one uneven light had 0.98
_LEAST_CONTRAST = 0.02  # standard deviation of the small image: one of less shows nothing that could be the same
_BLOCK = 256  # images that are compared with all others at once


@dataclass(frozen=True)
class Look:
    """What is left of an image to compare it by.

    Attributes
    ----------
    small : ndarray of float32, shape (32, 32)
        The image made small and grey, of mean 0 and standard deviation 1; zeros where it shows nothing.
    hashes : tuple of int
        Its own, and those of its seven turned and mirrored views.
    """

    small: npt.NDArray[np.float32]
    hashes: tuple[int, ...]


@dataclass(frozen=True)
class Pair:
    """Two images that are alike, by their places, the lower first, and the correlation of what they show."""

    first: int
    second: int
    correlation: float


def look(pixels: npt.NDArray[Any], levels: float) -> Look:
    """Return the look of an image.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3)
    levels : float
        How far apart dark and bright are in it, against which its contrast counts.
    """
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    small = cv2.resize(grey.astype(np.float32), (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA) / max(levels, 1.0)
    spread = float(small.std())
    small = (small - small.mean()) / spread if spread >= _LEAST_CONTRAST else np.zeros_like(small)
    return Look(small, tuple(_hash(view) for view in _turned(small)))


def alike(looks: Sequence[Look], groups: Sequence[str]) -> Iterator[Pair]:
    """Yield the pairs of images of different groups, such as splits, that are alike; in any of eight positions.

    Parameters
    ----------
    looks : sequence of Look
    groups : sequence of str
        One for each image.
    """
    shown = [place for place, one in enumerate(looks) if one.small.any()]
    hashes = np.array([looks[place].hashes for place in shown], np.uint64).reshape(-1, 8)
    group = np.array([groups[place] for place in shown])
    for start in range(0, len(shown), _BLOCK):
        block = slice(start, start + _BLOCK)
        differing = np.min([np.bitwise_count(hashes[block, :1] ^ hashes[:, view]) for view in range(8)], axis=0)
        near = (differing <= _MOST_BITS) & (group[block, None] != group[None])
        for one, other in np.argwhere(near):
            first, second = shown[start + one], shown[other]
            if first < second and (found := _correlation(looks[first], looks[second])) >= _LEAST_CORRELATION:
                yield Pair(first, second, found)


def _correlation(one: Look, other: Look) -> float:
    return max(float((one.small * view).mean()) for view in _turned(other.small))


def _turned(small: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield an image from its eight sides, as it is first."""
    for view in (small, small.T):
        for turns in range(4):
            yield np.rot90(view, turns)


def _hash(small: npt.NDArray[np.float32]) -> int:
    low = cv2.dct(np.ascontiguousarray(small))[:_FREQUENCIES, :_FREQUENCIES].ravel()
    low[0] = 0  # the mean
    return int("".join("1" if value > np.median(low) else "0" for value in low), 2)
