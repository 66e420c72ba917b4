"""Label images: which cells touch, and what a slip of the hand or another program's habit left in them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells.pieces import boxes_of, pieces_of

Labels = npt.NDArray[np.uint16]

SPECK_PX = 4  # a labelled cell of fewer pixels is a slip of the hand
_LEAST_BOX_PX = 5  # a smaller cell may well be a rectangle


@dataclass(frozen=True)
class Faults:
    """Of how many cells of an image something is amiss.

    Attributes
    ----------
    holed : int
        With background, or another cell, all inside.
    specks : int
        Of fewer than `SPECK_PX` pixels.
    in_pieces : int
        Whose number is in several places.
    boxes : int
        That are upright rectangles, as if drawn for a detector.
    on_border : int
        Cut by the border of the image, which is no fault.
    """

    holed: int = 0
    specks: int = 0
    in_pieces: int = 0
    boxes: int = 0
    on_border: int = 0


def faults(labels: Labels) -> Faults:
    """Return the faults of labels that are numbered from 1 without gaps."""
    count = int(labels.max(initial=0))
    if not count:
        return Faults()
    area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return Faults(
        holed=len(_holed(labels)),
        specks=int(np.count_nonzero(area < SPECK_PX)),
        in_pieces=int(np.count_nonzero(pieces_of(labels) > 1)),
        boxes=_boxes(labels, area),
        on_border=len(np.unique(border[border > 0])),
    )


def touching(labels: Labels) -> float:
    """Return the share of cells that touch another one, also by a corner; 0 without cells."""
    count = int(labels.max(initial=0))
    if not count:
        return 0.0
    is_touching = np.zeros(count + 1, bool)
    for one, other in _neighbours(labels):
        meet = (one != other) & (one > 0) & (other > 0)
        is_touching[one[meet]] = True
        is_touching[other[meet]] = True
    return float(np.count_nonzero(is_touching)) / count


def _neighbours(labels: Labels) -> tuple[tuple[Labels, Labels], ...]:
    """Return pairs of views of which each pixel is a neighbour of the other's."""
    return (
        (labels[:, :-1], labels[:, 1:]),
        (labels[:-1], labels[1:]),
        (labels[:-1, :-1], labels[1:, 1:]),
        (labels[:-1, 1:], labels[1:, :-1]),
    )


def _holed(labels: Labels) -> set[int]:
    """Return the cells that enclose background: parts of it, joined by sides, that border on one cell alone."""
    number, parts, boxes, _ = cv2.connectedComponentsWithStats((labels == 0).astype(np.uint8), connectivity=4)
    height, width = labels.shape
    found = set()
    for part in range(1, number):
        left, top, across, down = (int(n) for n in boxes[part, :4])
        if left == 0 or top == 0 or left + across == width or top + down == height:
            continue
        around = np.s_[top - 1 : top + down + 1, left - 1 : left + across + 1]
        inside = (parts[around] == part).astype(np.uint8)
        rim = (cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside) & (labels[around] > 0)
        owners = np.unique(labels[around][rim])
        if len(owners) == 1:
            found.add(int(owners[0]))
    return found


def _boxes(labels: Labels, area: npt.NDArray[np.int64]) -> int:
    """Return how many cells fill their bounding box."""
    boxes = boxes_of(labels)
    sides = boxes[:, 2:] - boxes[:, :2]
    return int(np.count_nonzero((sides.prod(axis=1) == area) & (sides.min(axis=1) >= _LEAST_BOX_PX)))
