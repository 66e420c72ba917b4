"""Where each labelled cell lies, and of how many pieces it consists: one, unless a hand slipped."""

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
    return np.array(
        [
            cv2.connectedComponents((labels[top:below, start:end] == number).view(np.uint8), connectivity=8)[0] - 1
            for number, (top, start, below, end) in enumerate(boxes_of(labels).tolist(), 1)
        ],
        np.int64,
    )


def boxes_of(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Return the bounding box of each cell: its first row and column, and those after its last.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
        Numbered from 1 without gaps, at least one pixel.

    Returns
    -------
    ndarray of int64, shape (cells, 4)
    """
    cells = runs.find(np.ascontiguousarray(labels)).cells()
    place = cells.label.astype(np.int64) - 1
    row, left = np.divmod(cells.start, labels.shape[1])
    boxes = np.empty((int(labels.max(initial=0)), 4), np.int64)
    boxes[:, :2], boxes[:, 2:] = np.iinfo(np.int64).max, 0
    for axis, (first, end) in enumerate(((row, row + 1), (left, left + cells.length))):
        np.minimum.at(boxes[:, axis], place, first)
        np.maximum.at(boxes[:, axis + 2], place, end)
    return boxes
