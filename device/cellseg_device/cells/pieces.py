"""Of how many pieces each labelled cell consists: one, unless a hand slipped or two cells have one number."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import runs


def pieces_of(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Return of how many pieces each cell consists; pixels that touch in a corner are of one piece.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
        Numbered from 1 without gaps, at least one pixel.

    Returns
    -------
    ndarray of int64, shape (cells,)
    """
    cells = runs.find(np.ascontiguousarray(labels)).cells()
    place = cells.label.astype(np.int64) - 1
    row, left = np.divmod(cells.start, labels.shape[1])
    count = int(labels.max(initial=0))
    low, high = np.full((2, count), np.iinfo(np.int64).max), np.zeros((2, count), np.int64)
    for axis, (first, end) in enumerate(((row, row + 1), (left, left + cells.length))):
        np.minimum.at(low[axis], place, first)
        np.maximum.at(high[axis], place, end)
    boxes = zip(*low.tolist(), *high.tolist(), strict=True)
    return np.array(
        [
            cv2.connectedComponents((labels[top:below, start:end] == number).view(np.uint8), connectivity=8)[0] - 1
            for number, (top, start, below, end) in enumerate(boxes, 1)
        ],
        np.int64,
    )
