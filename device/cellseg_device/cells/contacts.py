"""Which touching pieces are one cell.

The peaks of the distance map cut a cluster of cells into pieces, on purpose into too many rather than too few. Whether
a cut stays then depends on more than the depth of the valley: on how sure the foreground is along it, how wide it is,
and how large the joined cell would be beside the image's other cells. A logistic regression (`card.Join`) weighs these
features; the host fits it to the contacts in the training images, where the truth is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.bands import bands
from cellseg_device.cells.runs import Runs

# Smaller pieces are specks, which say nothing about the size of the image's cells
_SPECK_PX = 6


@dataclass(frozen=True)
class Contacts:
    """Pairs of pieces that touch, with the features that decide whether they are one cell.

    Attributes
    ----------
    first, second : ndarray of int64, shape (n,)
        Numbers of the pieces; `first` is the smaller number.
    features : ndarray of float64, shape (n, 5)
        As `card.Join` weighs them: the valley's depth below the lower of the two peaks, in steps of the distance map;
        the mean foreground along the contact, in steps of its map; the contact's length divided by the square root of
        the smaller piece's area; the logarithm of the area of the image's median piece, in pixels; and that of the area
        of both pieces together divided by the median.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    features: npt.NDArray[np.float64]


def find(
    pieces: npt.NDArray[np.uint16], runs: Runs, distance: npt.NDArray[np.int8], foreground: npt.NDArray[np.int8]
) -> Contacts:
    """Return the pairs of pieces that have a common edge.

    Parameters
    ----------
    pieces : ndarray of uint16, shape (height, width)
        Numbered from 1; 0 is background.
    runs : Runs
        Of the pieces.
    distance, foreground : ndarray of int8, shape (height, width)
    """
    keys, lows, sures = [], [], []
    for rows in bands(*pieces.shape):
        below = slice(rows.start + 1, rows.stop + 1)
        last = min(rows.stop, len(pieces) - 1)
        for here, there in ((np.s_[rows, :-1], np.s_[rows, 1:]), (np.s_[rows.start : last], np.s_[below])):
            at = _touching(pieces[here], pieces[there])
            a, b = (pieces[side][at].astype(np.int64) for side in (here, there))
            keys.append(np.minimum(a, b) << 16 | np.maximum(a, b))
            lows.append(np.minimum(distance[here][at], distance[there][at]))
            sures.append(np.minimum(foreground[here][at], foreground[there][at]))
    pairs, of, length = np.unique(np.concatenate(keys), return_inverse=True, return_counts=True)
    first, second = pairs >> 16, pairs & 0xFFFF
    if not len(pairs):
        return Contacts(first, second, np.zeros((0, 5)))
    saddle = np.full(len(pairs), -128, np.int8)
    np.maximum.at(saddle, of, np.concatenate(lows))
    sure = np.bincount(of, np.concatenate(sures)) / length
    area = np.bincount(runs.label, runs.length)
    area[0] = 0
    peak = np.full(len(area), -128, np.int8)
    np.maximum.at(peak, runs.label, np.maximum.reduceat(distance.reshape(-1), runs.start))
    median = np.median(area[area >= _SPECK_PX]) if (area >= _SPECK_PX).any() else 1.0
    depth = np.minimum(peak[first], peak[second]).astype(np.int64) - saddle
    width = length / np.sqrt(np.minimum(area[first], area[second]))
    whole = np.log((area[first] + area[second]) / median)
    return Contacts(first, second, np.stack([depth, sure, width, np.full(len(pairs), np.log(median)), whole], axis=1))


def joined(count: int, contacts: Contacts, same: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    """Return new numbers for the pieces 0…`count`: in each group linked by contacts that are `same`, the smallest."""
    first, second = contacts.first[same], contacts.second[same]
    number = np.arange(count + 1, dtype=np.uint16)
    while True:
        least = np.minimum(number[first], number[second])
        if (number[first] == least).all() and (number[second] == least).all():
            return number
        np.minimum.at(number, first, least)
        np.minimum.at(number, second, least)


def _touching(a: npt.NDArray[np.uint16], b: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the rows and columns at which `a` and `b` hold two different pieces."""
    return np.divmod(np.flatnonzero((a != b) & (a > 0) & (b > 0)), max(a.shape[1], 1))
