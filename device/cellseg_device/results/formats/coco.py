"""COCO: one JSON file with the image, its cells as run-length encoded masks, and the one category *cell*.

Run lengths, because they are the exact mask: COCO's polygons have no holes, and every reader draws them differently.
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt

from cellseg_device.cells import runs
from cellseg_device.results.formats.content import Content


def encode(content: Content) -> bytes:
    """Return a result as COCO JSON.

    The masks are uncompressed run lengths down the columns, one column after the other, alternating between outside and
    inside the cell, outside first. An annotation's identifier is its cell's label; boxes are (x, y, width, height) in
    pixels.
    """
    height, width = content.labels.shape
    annotations = [
        {
            "id": label,
            "image_id": 1,
            "category_id": 1,
            "bbox": box,
            "area": area,
            "iscrowd": 0,
            "segmentation": {"size": [height, width], "counts": counts},
        }
        for label, box, area, counts in _cells(content.labels)
    ]
    document = {
        "info": {"description": "cells found by cellseg-device"},
        "images": [{"id": 1, "file_name": content.name, "width": width, "height": height}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": annotations,
    }
    return (json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _cells(labels: npt.NDArray[np.uint16]) -> list[tuple[int, list[int], int, list[int]]]:
    """Return label, box, area and run lengths of every cell."""
    height = labels.shape[0]
    columnwise = np.ascontiguousarray(labels.T)
    found = runs.find(columnwise).cells()
    order = np.argsort(found.label, kind="stable")
    start, length, label = found.start[order], found.length[order], found.label[order]
    if not label.size:
        return []
    first = np.flatnonzero(np.diff(label, prepend=0))  # of each cell's runs
    area = np.add.reduceat(length, first)
    col, row = np.divmod(start, height)
    left, right = np.minimum.reduceat(col, first), np.maximum.reduceat(col, first) + 1
    top, bottom = np.minimum.reduceat(row, first), np.maximum.reduceat(row + length, first)
    boxes = np.stack([left, top, right - left, bottom - top], axis=1).tolist()

    # A run that continues from the end of a column at the start of the next is one run
    end = start + length
    begins = np.ones(start.size, bool)
    begins[1:] = (start[1:] != end[:-1]) | (label[1:] != label[:-1])
    finishes = np.append(begins[1:], True)
    start, end, label = start[begins], end[finishes], label[begins]
    first = np.flatnonzero(np.diff(label, prepend=0))
    gap = start.copy()
    gap[1:] -= end[:-1]
    gap[first] = start[first]
    counts = np.stack([gap, end - start], axis=1)
    last = np.append(first[1:], label.size)
    cells = []
    for number, (begin, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        tail = labels.size - int(end[stop - 1])
        listed = counts[begin:stop].ravel().tolist() + ([tail] if tail else [])
        cells.append((int(label[begin]), boxes[number], int(area[number]), listed))
    return cells
