"""Which parts of images are worth correcting: those with the most doubtful cells, and some at random.

No certainty of single cells is stored, so a cell is as doubtful as its size or its shape is unusual: how far its
diameter is from the median of its image, on a scale of the ratio, and how far its circularity is below that of a single
cell. Cells that were not found are not in the table; that is what the parts at random are for.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device.results.correction_items import Crop
from cellseg_device.results.entry import CELLS, Entry
from cellseg_device.system import files

SIDE_PX = 256  # of a part
_RANDOM_EVERY = 3
_LEAST_CIRCULARITY = 0.8  # of single cells, mostly
_MOST_RATIO = 2.0  # of diameters: from there on a cell is as doubtful as can be
_STEP_PX = SIDE_PX // 2
_COLUMNS = ("centroid_row_px", "centroid_col_px", "equivalent_diameter_area_px", "circularity")

Column = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A part of an image.

    Attributes
    ----------
    image : str
    crop : (row, column, height, width)
    doubt : float
        Sum over its cells, each 0 to 1.
    is_random : bool
        Whether it was chosen by chance.
    """

    image: str
    crop: Crop
    doubt: float
    is_random: bool


def doubts(diameter: Column, circularity: Column) -> Column:
    """Return how doubtful each cell of an image is, 0 to 1; of unknown circularity, by its size alone."""
    if not len(diameter):
        return np.zeros(0)
    ratio = np.abs(np.log(diameter / np.median(diameter))) / np.log(_MOST_RATIO)
    shape = (_LEAST_CIRCULARITY - np.nan_to_num(circularity, nan=_LEAST_CIRCULARITY)) / _LEAST_CIRCULARITY
    doubt: Column = np.clip(np.maximum(ratio, shape), 0.0, 1.0)
    return doubt


def most_doubtful(row: Column, column: Column, doubt: Column, shape: tuple[int, int]) -> tuple[Crop, float]:
    """Return the part of an image with the most doubt in all, and how much; steps of half a part are tried.

    Parameters
    ----------
    row, column, doubt : ndarray of float64, shape (n,)
        Of the cells.
    shape : (int, int)
        Height and width of the image.
    """
    height, width = (min(SIDE_PX, side) for side in shape)
    tops, lefts = (_starts(side, part) for side, part in zip(shape, (height, width), strict=True))
    in_row = (row >= tops[:, None]) & (row < tops[:, None] + height)
    in_column = (column >= lefts[:, None]) & (column < lefts[:, None] + width)
    sums = (in_row * doubt) @ in_column.T.astype(np.float64)
    best = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return (int(tops[best[0]]), int(lefts[best[1]]), height, width), float(sums[best])


def _starts(side: int, part: int) -> npt.NDArray[np.int64]:
    return np.unique(np.minimum(np.arange(0, side, _STEP_PX), side - part))


def suggested(out: Path, entries: Sequence[Entry], number: int) -> list[Part]:
    """Return parts that are worth correcting, one an image: two thirds the most doubtful, a third by chance.

    By chance means by the digest of an image's name, so that the same ones come each time. Images whose tables cannot
    be read are left out.

    Parameters
    ----------
    out : Path
        The output folder.
    entries : sequence of Entry
        Of images that were counted and are not checked.
    number : int
        How many at most.
    """
    parts = [part for entry in entries if (part := _part(out, entry)) is not None]
    by_doubt = sorted(parts, key=lambda part: -part.doubt)
    by_chance = sorted(parts, key=lambda part: chance(part.image))
    chosen: dict[str, Part] = {}
    for place in range(min(number, len(parts))):
        is_random = place % _RANDOM_EVERY == _RANDOM_EVERY - 1
        part = next(part for part in (by_chance if is_random else by_doubt) if part.image not in chosen)
        chosen[part.image] = replace(part, is_random=is_random)
    return list(chosen.values())


def chance(image: str) -> bytes:
    """Return what images are drawn by: as if by chance, but the same each time."""
    return hashlib.sha256(image.encode(errors="replace")).digest()


def _part(out: Path, entry: Entry) -> Part | None:
    assert entry.counts is not None, "it was counted"
    try:
        with open(out / f"{entry.stem}{CELLS}", newline="", encoding="utf-8", opener=files.regular) as file:
            rows = csv.DictReader(file)
            values = np.array([[float(row[name] or "nan") for name in _COLUMNS] for row in rows], np.float64)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    row, column, diameter, circularity = values.reshape(-1, len(_COLUMNS)).T
    shape = entry.counts.height_px, entry.counts.width_px
    crop, doubt = most_doubtful(row, column, doubts(diameter, circularity), shape)
    return Part(entry.image, crop, round(doubt, 2), is_random=False)
