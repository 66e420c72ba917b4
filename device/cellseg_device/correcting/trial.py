"""A model tried on an image that was counted: how many cells it finds, and how these agree with those before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells.counting import parse_key
from cellseg_device.cells.matching import average_precision
from cellseg_device.correcting.doubtful import SIDE_PX
from cellseg_device.image import normalise
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline import needs
from cellseg_device.pipeline.predict import Runnable, predict
from cellseg_device.pipeline.segment import finish
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.results import corrected_labels, corrections, export, overlay
from cellseg_device.results.entry import Entry
from cellseg_device.results.export import Originals
from cellseg_device.results.formats.label_images import Labels, consecutive

BEFORE_COLOUR, AFTER_COLOUR, BOTH_COLOUR = (255, 159, 28), (64, 196, 255), (255, 255, 255)  # RGB, told apart by all
_QUALITY = 90

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tried:
    """A model on one image.

    Attributes
    ----------
    before, after : int
        Cells by the model that counted it, and by the one that is tried.
    corrected : int or None
        Cells as corrected, if somebody has checked the image.
    ap50_before, ap50_after : float or None
        How well each agrees with those: AP@0.5.
    crop : (row, column, height, width)
        The part with the most differences.
    picture : ndarray of uint8, shape (height, width, 3)
        That part in RGB, with both outlines.
    """

    before: int
    after: int
    corrected: int | None
    ap50_before: float | None
    ap50_after: float | None
    crop: tuple[int, int, int, int]
    picture: Pixels


def tried(out: Path, entry: Entry, model: Runnable, originals: Originals) -> Tried:
    """Return what a model makes of an image, with the settings by which it was counted.

    Parameters
    ----------
    out : Path
        The output folder.
    entry : Entry
        Of an image that was counted.
    model : Runnable
    originals : Originals
        The image is needed.

    Raises
    ------
    ImageError
        If the image is not there any more, or needs more memory than there is.
    InputError
        If the store of corrections is damaged.
    ModelError
        If the model fails.
    OSError
        On a fault of the disk.
    """
    assert entry.counts is not None, "it was counted"
    machine = export.stored(out, entry).labels
    image = export.subject(entry, machine, originals).image
    counting = parse_key(entry.settings or "{}")
    diameter_px = counting.diameter_px(image)
    room = needs.room_for(image, model, needs.budget(), diameter_px=diameter_px)
    stopwatch = Stopwatch()
    prediction = predict(image, model, stopwatch, diameter_px=diameter_px, whole_px=room.whole_px)
    found = finish(prediction, stopwatch, counting)
    row = corrections.get(out, entry)
    counts = corrections.counts_of(entry, row)
    agreement: tuple[float | None, float | None] = None, None
    if counts is not None and entry.stem is not None:
        corrected = consecutive(corrected_labels.current(out, entry.stem)).astype(np.uint16)
        agreement = _ap50(corrected, machine), _ap50(corrected, found.labels)
    crop = most_different(machine, found.labels)
    return Tried(
        entry.counts.count,
        found.counts.count,
        None if counts is None else counts[0],
        *agreement,
        crop,
        both_outlines(image, machine, found.labels, crop),
    )


def _ap50(corrected: Labels, labels: Labels) -> float:
    return round(float(average_precision(corrected, labels)[0]), 3)


def most_different(before: Labels, after: Labels) -> tuple[int, int, int, int]:
    """Return the part of up to `SIDE_PX` in which the cells of two label images differ in the most pixels."""
    height, width = (min(side, SIDE_PX) for side in before.shape)
    differs = cv2.integral(((before > 0) != (after > 0)).astype(np.uint8)).astype(np.int64)
    tops = np.unique(np.minimum(np.arange(0, before.shape[0], height // 2 or 1), before.shape[0] - height))
    lefts = np.unique(np.minimum(np.arange(0, before.shape[1], width // 2 or 1), before.shape[1] - width))
    rows, columns = tops[:, None], lefts[None, :]
    sums = (
        differs[rows + height, columns + width]
        - differs[rows, columns + width]
        - differs[rows + height, columns]
        + differs[rows, columns]
    )
    row, column = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(tops[row]), int(lefts[column]), height, width


def both_outlines(image: Image, before: Labels, after: Labels, crop: tuple[int, int, int, int]) -> Pixels:
    """Return a part of an image in RGB with the outlines of two label images in two colours, and of both in a third."""
    row, column, height, width = crop
    place = np.s_[row : row + height, column : column + width]
    pixels = np.empty((*image.shape, 3), np.uint8)
    normalise.apply_table(overlay.levels(image), image.pixels, pixels)
    part = np.ascontiguousarray(pixels[place])
    old, new = (overlay.outlines(np.ascontiguousarray(labels[place])) > 0 for labels in (before, after))
    part[old] = BEFORE_COLOUR
    part[new] = AFTER_COLOUR
    part[old & new] = BOTH_COLOUR
    return part


def jpeg(pixels: Pixels) -> bytes:
    """Return RGB as a JPEG file."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return bytes(data)
