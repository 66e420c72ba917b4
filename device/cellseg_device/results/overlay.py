"""A picture for checking a result by eye: the image with the outlines of its cells, over a strip that says the count.

Outlines are the pixels of the label image, none wider than a pixel, in green beside a dark line, which shows on bright
and on dark, in grey and on stains. Cells that the counting frame leaves to other fields are dashed, those that are left
out of the count are dashed in grey.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import runs, surround
from cellseg_device.cells.bands import bands
from cellseg_device.cells.counting import Counting
from cellseg_device.cells.counts import Counts
from cellseg_device.cells.measure import EDGES, outside_frame
from cellseg_device.image import normalise
from cellseg_device.image.pixels import Image
from cellseg_device.results import caption

MAX_SIDE_PX, MAX_NUMBERED_SIDE_PX = 2048, 4096
_MIN_SIDE_PX, _MOST_ENLARGED = 640, 4  # a smaller image is enlarged, so that lines do not cover its cells
_PERCENTILES = 0.5, 99.8  # of the image's histogram: what becomes black and white

_Picture = npt.NDArray[np.uint8]
_Colour = tuple[int, int, int]
_COUNTED: _Colour = (0, 255, 0)
_DARK: _Colour = (0, 0, 0)
_LEFT_OUT: _Colour = (190, 190, 190)
_REGION: _Colour = (0, 190, 255)
_EXCLUDING: _Colour = (255, 50, 50)
_INCLUDING: _Colour = (230, 230, 230)
_DASH_PX, _FRAME_DASH_PX = 4, 8
_DIMMED = 0.5  # brightness outside the image's field
_NUMBERED_PX, _NUMBER_SCALE = 40, 0.5  # diameter at which a cell has room for its number, and the size of that

# Outlines are one pixel wide, so that colour is kept at full resolution; a large picture would take half as long again
_QUALITY, _LARGE_PX = 85, 1_000_000


@dataclass(frozen=True)
class Subject:
    """What a picture is made of.

    Attributes
    ----------
    image : Image
        From `counting.Counting.applied`.
    labels : ndarray of uint16, shape (height, width)
        The cells that are counted.
    counts : Counts
    frame : tuple of str
        As in `counting.Counting`.
    found : ndarray of uint16, shape (height, width), or None
        All cells, in other numbers; those that are left out of the count are drawn where it is given.
    """

    image: Image
    labels: npt.NDArray[np.uint16]
    counts: Counts
    frame: tuple[str, ...] = Counting.frame
    found: npt.NDArray[np.uint16] | None = None


def make(subject: Subject, *, is_numbered: bool = False) -> bytes:
    """Return the picture from `draw` as a JPEG file."""
    return encode(draw(subject, is_numbered=is_numbered))


def draw(subject: Subject, *, is_numbered: bool = False) -> _Picture:
    """Return the contrast-stretched image with the outlines of its cells, and a strip below it.

    The picture begins with the image's top left pixel. Its scale is 1, but for an image that is larger than 2048 px,
    or smaller than 320.

    Parameters
    ----------
    subject : Subject
    is_numbered : bool
        Whether each cell has its label's number, where there is room for that. The scale is then chosen for the
        numbers, up to a side of 4096 px.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB. An outline consists of the pixels of a cell that have a 4-neighbour of another label.
    """
    image, counts = subject.image, subject.counts
    scale = _scale(image.shape, counts.median_diameter_px if is_numbered else None)
    height, width = (max(round(n * scale), 1) for n in image.shape)
    pixels = _scaled(image.pixels, (height, width), cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    labels = _scaled(subject.labels, (height, width))
    numbers = _Numbers.of(labels) if is_numbered else None
    size_um = counts.pixel_size_um
    full_width = max(width, caption.MIN_WIDTH_PX)
    bar = None if size_um is None else caption.scale_bar(width, size_um / scale)
    strip = caption.strip(full_width, _texts(subject, numbers), bar)
    whole = np.empty((height + len(strip), full_width, 3), np.uint8)
    whole[height:] = strip
    picture = whole[:height] if width == full_width else np.empty((height, width, 3), np.uint8)
    normalise.apply_table(levels(image), pixels, picture)
    del pixels  # as large as the picture, or twice as large
    field = None if image.field is None else _scaled(image.field, (height, width))
    if field is not None:
        cv2.copyTo(cv2.convertScaleAbs(picture, alpha=_DIMMED), cv2.bitwise_not(field), picture)
    outside = outside_frame(subject.labels, subject.frame)
    _draw_cells(picture, labels, _COUNTED, outside)
    if subject.found is not None:
        found = _scaled(subject.found, (height, width))
        left_out = cv2.copyTo(found, cv2.compare(labels, 0, cv2.CMP_EQ))
        _draw_cells(picture, left_out, _LEFT_OUT, np.ones(int(found.max(initial=0)), bool))
    if field is not None:
        _paint(picture, _places(field)[0], _REGION)
    _draw_frame(picture, subject.frame)
    if numbers is not None:
        numbers.draw(picture)
    if width < full_width:
        whole[:height] = cv2.copyMakeBorder(picture, 0, 0, 0, full_width - width, cv2.BORDER_CONSTANT)
    return whole


def outlines(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return 255 on the pixels of a cell that have a 4-neighbour of another label, 0 elsewhere."""
    drawn = np.zeros(labels.shape, np.uint8)
    drawn.reshape(-1)[_places(np.ascontiguousarray(labels))[0]] = 255
    return drawn


def encode(picture: _Picture) -> bytes:
    """Return a picture as a JPEG file."""
    is_large = picture.shape[0] * picture.shape[1] > _LARGE_PX
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if is_large else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    how = (cv2.IMWRITE_JPEG_QUALITY, _QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), how)
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return bytes(data)


def _scale(shape: tuple[int, int], numbered_px: float | None) -> float:
    """Return the scale of a picture; a whole number where the image is enlarged.

    Parameters
    ----------
    shape : (int, int)
    numbered_px : float or None
        Diameter of the cells that get numbers.
    """
    side, most, wanted = max(shape), MAX_SIDE_PX, _MIN_SIDE_PX // max(shape)
    if numbered_px is not None:
        most, wanted = MAX_NUMBERED_SIDE_PX, max(wanted, math.ceil(_NUMBERED_PX / numbered_px))
    if side > most:
        return most / side
    return max(min(wanted, _MOST_ENLARGED, most // side), 1)


def _scaled(array: npt.NDArray[Any], shape: tuple[int, int], method: int = cv2.INTER_NEAREST) -> npt.NDArray[Any]:
    if array.shape[:2] == shape:
        return array
    return np.asarray(cv2.resize(array, shape[::-1], interpolation=method))


def levels(image: Image) -> npt.NDArray[np.uint8]:
    """Return the look-up table from the image's values to those of the picture."""
    counts = image.histograms if image.channel is None else normalise.histograms(image.pixels, image.field)
    return normalise.level_table(counts.sum(axis=0), *_PERCENTILES)


def _texts(subject: Subject, numbers: _Numbers | None) -> list[tuple[str, tuple[int, int, int]]]:
    """Return what the strip says."""
    counts = subject.counts
    parts = [f"{counts.count:,} cell" if counts.count == 1 else f"{counts.count:,} cells"]
    if counts.count_in_frame != counts.count:
        parts.append(f"{counts.count_in_frame:,} in the frame")
        parts.append(f"{counts.count - counts.count_in_frame:,} not (dashed)")
    if counts.left_out:
        parts.append(f"{counts.left_out:,} left out ({'not drawn' if subject.found is None else 'grey'})")
    if counts.surround:
        parts.append(surround.in_words(counts.surround))
    if numbers is not None and numbers.lacking:
        parts.append(f"{numbers.lacking:,} too small for a number")
    texts = [(", ".join(parts), caption.INK)]
    return texts + ([(f"Doubtful: {counts.flags}", caption.DOUBT)] if counts.flags else [])


def _places(labels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where the outlines of cells are, and the background's pixels beside them, in the flattened image."""
    height, width = labels.shape
    found = []
    for rows in bands(height, width):
        top = max(rows.start - 1, 0)
        part = labels[top : rows.stop + 1]
        differs = np.zeros(part.shape, bool)
        for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
            pairs = part[one] != part[other]
            differs[one] |= pairs
            differs[other] |= pairs
        found.append(np.flatnonzero(differs[rows.start - top : rows.stop - top]) + rows.start * width)
    places = np.concatenate(found)
    is_cell = labels.reshape(-1)[places] > 0
    return places[is_cell], places[~is_cell]


def _draw_cells(
    picture: _Picture, labels: npt.NDArray[np.uint16], colour: _Colour, is_dashed: npt.NDArray[np.bool_]
) -> None:
    """Draw the outlines of cells, with a dark line around them.

    Parameters
    ----------
    is_dashed : ndarray of bool
        For every cell, in the order of the labels.
    """
    line, halo = _places(labels)
    _paint(picture, halo, _DARK)
    if is_dashed.any():
        cell = labels.reshape(-1)[line]
        chosen = is_dashed[cell - 1]
        dashed = line[chosen]
        _paint(picture, dashed, _DARK)
        on = _dashes(dashed, cell[chosen], labels.shape[1])
        line = np.concatenate([line[~chosen], dashed[on]])
    _paint(picture, line, colour)


def _dashes(indices: npt.NDArray[np.intp], cell: npt.NDArray[np.uint16], width: int) -> npt.NDArray[np.bool_]:
    """Return which pixels of outlines belong to a dash, by their direction from the middle of their outline."""
    row, col = np.divmod(indices, width)
    length = np.maximum(np.bincount(cell), 1)
    row_off, col_off = (at - (np.bincount(cell, at) / length)[cell] for at in (row, col))
    pairs = np.maximum(length // (2 * _DASH_PX), 2)[cell]
    turn = np.arctan2(row_off, col_off) / (2 * np.pi)
    return np.asarray((turn % 1 * pairs) % 1 < 0.5)


def _draw_frame(picture: _Picture, edges: tuple[str, ...]) -> None:
    """Draw the counting frame on the outermost pixels: dashed red where it excludes cells, else light grey."""
    if not edges:
        return
    height, width = picture.shape[:2]
    thick = 2 if min(height, width) > 2 * _FRAME_DASH_PX else 1
    # The excluding edges last, since the corners are theirs
    for edge in sorted(EDGES, key=lambda edge: edge in edges):
        row, col = {
            "top": (slice(0, thick), slice(None)),
            "bottom": (slice(-thick, None), slice(None)),
            "left": (slice(None), slice(0, thick)),
            "right": (slice(None), slice(-thick, None)),
        }[edge]
        line = picture[row, col] if edge in ("top", "bottom") else picture[row, col].transpose(1, 0, 2)
        if edge not in edges:
            line[...] = _INCLUDING
            continue
        line[...] = _DARK
        for begin in range(0, line.shape[1], 2 * _FRAME_DASH_PX):
            line[:, begin : begin + _FRAME_DASH_PX] = _EXCLUDING


def _paint(picture: _Picture, indices: npt.NDArray[np.intp], colour: _Colour) -> None:
    picture.reshape(-1, 3)[indices] = colour


@dataclass(frozen=True)
class _Numbers:
    """The cells' numbers, and where they stand.

    Attributes
    ----------
    texts : list of (str, int, int)
        With the row and column of the middle.
    lacking : int
        Cells that are too small for theirs.
    """

    texts: list[tuple[str, int, int]]
    lacking: int

    @classmethod
    def of(cls, labels: npt.NDArray[np.uint16]) -> _Numbers:
        """Return the numbers of cells as large as in the picture."""
        found = runs.find(labels).cells()
        row, col = np.divmod(found.start, labels.shape[1])
        area = np.bincount(found.label, found.length)
        with np.errstate(invalid="ignore"):
            rows = np.bincount(found.label, row * found.length) / area
            cols = np.bincount(found.label, (col + (found.length - 1) / 2) * found.length) / area
        texts = []
        for label in np.unique(found.label).tolist():
            width, _ = cv2.getTextSize(str(label), cv2.FONT_HERSHEY_SIMPLEX, _NUMBER_SCALE, 1)[0]
            if width <= 2 * math.sqrt(area[label] / math.pi):
                texts.append((str(label), round(rows[label]), round(cols[label])))
        return cls(texts, int(labels.max(initial=0)) - len(texts))

    def draw(self, picture: _Picture) -> None:
        """Write the numbers: white on a dark rim."""
        for text, row, col in self.texts:
            width, height = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _NUMBER_SCALE, 1)[0]
            left = min(max(col - width // 2, 1), picture.shape[1] - width - 1)
            place = (left, row + height // 2)
            for colour, aside in ((_DARK, (-1, 1)), ((255, 255, 255), (0,))):
                for down, right in itertools.product(aside, aside):
                    at = (place[0] + right, place[1] + down)
                    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, _NUMBER_SCALE, colour, 1, cv2.LINE_AA)
