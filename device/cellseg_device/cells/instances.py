"""From maps to labels: one number for each cell.

The landscape is the map that is high inside cells and low between them, usually the distance map. Its distinct peaks
are the markers; a watershed grows them over the foreground into pieces; pieces that are one cell are joined. Separation
works at the landscape's resolution (for our models half the image's, a quarter of the work), and the outline comes from
the foreground at full resolution. All arithmetic but the weights of a join is in integers, so that every machine gives
the same labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import contacts, runs
from cellseg_device.cells.bands import bands
from cellseg_device.errors import ImageError

MAX_CELLS = 65_535  # labels are uint16


@dataclass(frozen=True)
class Limits:
    """A `Separation` in the int8 values of a model's maps.

    Attributes
    ----------
    foreground : int
        Smallest value of the foreground map inside a cell, -128 to 128.
    prominence : int
        How far a peak of the landscape must rise above the saddle towards a higher one to be a piece of its own; 1 to
        255.
    confidence : int
        Smallest mean of the foreground map over a cell.
    join : tuple of float
        Bias, and the weights of `contacts.Contacts.features`; empty to join nothing.
    min_area_px : int
        Smallest area of a cell, in pixels of the image.
    """

    foreground: int
    prominence: int = 1
    confidence: int = -128
    join: tuple[float, ...] = ()
    min_area_px: int = 1


def separate(
    foreground: npt.NDArray[np.int8], landscape: npt.NDArray[np.int8] | None, shape: tuple[int, int], limits: Limits
) -> npt.NDArray[np.uint16]:
    """Return the labels of the cells.

    Parameters
    ----------
    foreground : ndarray of int8, shape (h, w)
        The foreground map.
    landscape : ndarray of int8, shape (h / r, w / r), or None
        The landscape, for a whole reduction r; None for a model without one: then the cells are the connected
        components.
    shape : (int, int)
        (height, width) of the image; the maps may be larger, but beyond it there are no cells.
    limits : Limits

    Returns
    -------
    labels : ndarray of uint16, shape `shape`
        0 is background; cells are numbered from 1 by their first pixel, row by row.

    Raises
    ------
    ImageError
        If there are more than 65,535 cells.
    """
    if landscape is None:
        mask = mask_of(foreground, shape, limits.foreground)
        count, found = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
        labels = _cells(_as_uint16(found, count - 1), None, foreground, limits)[: shape[0], : shape[1]]
        labels = np.ascontiguousarray(labels)
    else:
        labels = _enlarged(_regions(foreground, landscape, shape, limits), foreground, shape, limits.foreground)
    _number(labels, limits.min_area_px)
    return labels


def _regions(
    foreground: npt.NDArray[np.int8], landscape: npt.NDArray[np.int8], shape: tuple[int, int], limits: Limits
) -> npt.NDArray[np.uint16]:
    """Return the cells at the landscape's resolution, in its shape."""
    reduction = foreground.shape[0] // landscape.shape[0]
    found = _pieces(_inside(foreground, shape, limits.foreground, reduction), landscape, limits.prominence)
    return _cells(found, landscape, np.ascontiguousarray(foreground[::reduction, ::reduction]), limits)


def mask_of(foreground: npt.NDArray[np.int8], shape: tuple[int, int], threshold: int) -> npt.NDArray[np.uint8]:
    """Return 255 where the map reaches `threshold`, and 0 elsewhere and beyond the image's `shape`; in the map's shape.

    The image's shape may be smaller than the map's.
    """
    mask = _reaching(foreground, threshold)
    mask[shape[0] :] = 0
    mask[:, shape[1] :] = 0
    return mask


def _reaching(values: npt.NDArray[np.int8], threshold: int) -> npt.NDArray[np.uint8]:
    """Return 255 where the values reach the threshold, and 0 elsewhere."""
    mask = (values >= threshold).view(np.int8)
    return np.negative(mask, out=mask).view(np.uint8)


def pieces(mask: npt.NDArray[np.uint8], landscape: npt.NDArray[np.int8], prominence: int) -> npt.NDArray[np.uint16]:
    """Return the pieces into which the landscape's peaks divide the foreground.

    Parameters
    ----------
    mask : ndarray of uint8, shape (height, width)
        As from `mask_of`.
    landscape : ndarray of int8, shape (height / r, width / r)
    prominence : int
        As in `Limits`.

    Returns
    -------
    ndarray of uint16, shape (height / r, width / r)
        Numbered from 1, 0 outside.
    """
    return _pieces(_any_in_block(mask, mask.shape[0] // landscape.shape[0]), landscape, prominence)


def _pieces(inside: npt.NDArray[np.uint8], landscape: npt.NDArray[np.int8], prominence: int) -> npt.NDArray[np.uint16]:
    # The watershed goes a little beyond the inside
    grown = grow(_markers(inside, landscape, prominence), inside, landscape)
    found: npt.NDArray[np.uint16] = cv2.copyTo(grown, inside)
    return found


def _inside(
    foreground: npt.NDArray[np.int8], shape: tuple[int, int], threshold: int, reduction: int
) -> npt.NDArray[np.uint8]:
    """Return the mask of `mask_of` in blocks: 255 where it is so anywhere in a block."""
    height, width = foreground.shape
    inside = np.empty((height // reduction, width // reduction), np.uint8)
    for rows in bands(height, width, reduction):
        mask = mask_of(foreground[rows], (max(shape[0] - rows.start, 0), shape[1]), threshold)
        inside[rows.start // reduction : rows.stop // reduction] = _any_in_block(mask, reduction)
    return inside


def _enlarged(
    regions: npt.NDArray[np.uint16], foreground: npt.NDArray[np.int8], shape: tuple[int, int], threshold: int
) -> npt.NDArray[np.uint16]:
    """Return the regions at the foreground map's resolution, where that reaches the threshold, cut to `shape`."""
    reduction = foreground.shape[0] // regions.shape[0]
    labels = np.zeros(shape, np.uint16)
    height, width = shape
    for rows in bands(height, width, reduction):
        band = regions[rows.start // reduction : -(-rows.stop // reduction)]
        if reduction > 1:
            size = (band.shape[1] * reduction, band.shape[0] * reduction)
            band = cv2.resize(band, size, interpolation=cv2.INTER_NEAREST)
        mask = mask_of(foreground[rows, :width], (height, width), threshold)
        cv2.copyTo(band[: rows.stop - rows.start, :width], mask, labels[rows])
    return labels


def number(regions: npt.NDArray[np.uint16], min_area_px: int) -> npt.NDArray[np.uint16]:
    """Return the regions of at least `min_area_px`, numbered by their first pixel, row by row.

    Parameters
    ----------
    regions : ndarray of uint16, shape (height, width)
    min_area_px : int

    Returns
    -------
    ndarray of uint16, shape (height, width)
    """
    labels = regions.copy()
    _number(labels, min_area_px)
    return labels


def _number(labels: npt.NDArray[np.uint16], min_area_px: int) -> None:
    """Number regions as `number` does, in place."""
    parts = []
    area = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    first = np.full(len(area), labels.size, np.int64)
    for rows in bands(*labels.shape):
        found = runs.find(labels[rows])
        area += np.bincount(found.label, found.length, len(area)).astype(np.int64)
        # Of several writes the last one counts
        begins = np.full(len(area), labels.size, np.int64)
        begins[found.label[::-1]] = found.start[::-1] + rows.start * labels.shape[1]
        np.minimum(first, begins, out=first)
        parts.append((rows, found.label, found.length.astype(np.int32)))
    area[0] = 0  # the background
    kept = np.flatnonzero(area >= max(min_area_px, 1))
    new = np.zeros(len(area), np.uint16)
    new[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1, dtype=np.uint16)
    for rows, label, length in parts:
        labels[rows] = np.repeat(new[label], length).reshape(labels[rows].shape)


def rescale(
    labels: npt.NDArray[np.uint16], foreground: npt.NDArray[np.int8], threshold: int, shape: tuple[int, int]
) -> npt.NDArray[np.uint16]:
    """Return labels at the size of the image, for an image that was scaled for the network.

    Parameters
    ----------
    labels : ndarray of uint16, shape (h, w)
    foreground : ndarray of int8, shape (h, w) or larger
        The map from which smooth outlines are drawn if the image is larger than `labels`.
    threshold : int
        Value of the map from which a pixel belongs to a cell.
    shape : (int, int)
        (height, width) of the image.

    Returns
    -------
    ndarray of uint16, shape `shape`
        Numbered by the first pixels, without a gap; a cell that has no pixel at this size is dropped.
    """
    height, width = shape
    larger: npt.NDArray[np.uint16] = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    if height > labels.shape[0]:
        covered = np.ascontiguousarray(foreground[: labels.shape[0], : labels.shape[1]])
        smooth = cv2.resize(covered, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
        _trim(larger, smooth, threshold)
        for _ in range(-(-height // labels.shape[0])):  # fill what lies inside the smooth outline, outside the blocks
            _fill(larger, smooth, threshold)
    _number(larger, 1)
    return larger


def _trim(labels: npt.NDArray[np.uint16], smooth: npt.NDArray[np.int8], threshold: int) -> None:
    """Set labels to 0, in place, where the map does not reach the threshold."""
    for rows in bands(*labels.shape):
        labels[rows] *= smooth[rows] >= threshold


def _fill(labels: npt.NDArray[np.uint16], smooth: npt.NDArray[np.int8], threshold: int) -> None:
    """Give pixels without a label where the map reaches the threshold the largest label beside them, in place."""
    above = labels[:0]  # the row above a band, as it was before
    for rows in bands(*labels.shape):
        band = labels[rows]
        spread = cv2.dilate(np.vstack([above, labels[rows.start : rows.stop + 1]]), _CROSS)
        spread = spread[len(above) : len(above) + len(band)]
        left = ((band == 0) & (smooth[rows] >= threshold)).view(np.uint8)
        above = band[-1:].copy()
        cv2.copyTo(spread, left, band)


def _cells(
    regions: npt.NDArray[np.uint16],
    landscape: npt.NDArray[np.int8] | None,
    foreground: npt.NDArray[np.int8],
    limits: Limits,
) -> npt.NDArray[np.uint16]:
    """Return the cells: pieces of one cell are joined, and cells whose mean foreground is too low dropped."""
    found = runs.find(regions)
    numbers = np.arange(int(regions.max()) + 1, dtype=np.uint16)
    if limits.join and landscape is not None:
        touching = contacts.find(regions, found, landscape, foreground)
        bias, *weights = limits.join
        numbers = contacts.joined(len(numbers) - 1, touching, touching.features @ np.array(weights) + bias > 0)
    if limits.confidence > limits.foreground:
        total = area = np.zeros(len(numbers))
        for rows in bands(*regions.shape):
            part = runs.find(regions[rows])
            label = numbers[part.label]
            sums = np.add.reduceat(foreground[rows].reshape(-1), part.start, dtype=np.int64)
            total = total + np.bincount(label, sums, len(numbers))
            area = area + np.bincount(label, part.length, len(numbers))
        numbers = np.where((total >= limits.confidence * area)[numbers], numbers, np.uint16(0))
    return np.repeat(numbers[found.label], found.length).reshape(regions.shape)


def _any_in_block(mask: npt.NDArray[np.uint8], block: int) -> npt.NDArray[np.uint8]:
    """Return the maximum over blocks of `block` × `block` pixels."""
    if block == 1:
        return mask
    rows = mask[::block].copy()
    for offset in range(1, block):
        np.bitwise_or(rows, mask[offset::block], out=rows)
    cols = rows[:, ::block].copy()
    for offset in range(1, block):
        np.bitwise_or(cols, rows[:, offset::block], out=cols)
    return cols


def _markers(inside: npt.NDArray[np.uint8], landscape: npt.NDArray[np.int8], prominence: int) -> npt.NDArray[np.int32]:
    """Return the landscape's peaks of at least this prominence, numbered from 1; each component has at least one.

    These are h-maxima [1]_: the landscape lowered by `prominence` is dilated under the landscape itself until nothing
    changes. What rises above the result are the domes of the peaks: that of a whole cell by all of `prominence`, that
    of a ripple on it by less. No threshold could do this: it would have to lie above the saddles of large cells and
    below the peaks of small ones.

    References
    ----------
    .. [1] P. Soille, Morphological image analysis, 2nd edition, section 6.3.5. Springer 2004.
    """
    # At least `prominence` inside, so that the highest peak of every component rises by all of it
    height = cv2.bitwise_and(np.maximum(landscape.view(np.uint8) ^ 128, np.uint8(prominence)), inside)
    ground = np.maximum(height, np.uint8(prominence)) - np.uint8(prominence)
    while True:
        before = ground
        for _ in range(_STEPS_BETWEEN_CHECKS):
            ground = cv2.min(cv2.dilate(ground, _CROSS), height)
        if np.array_equal(ground, before):
            break
    domes = cv2.subtract(height, ground)
    del height, ground, before
    count, found = cv2.connectedComponents(domes, connectivity=4, ltype=cv2.CV_32S)
    whole = np.zeros(count, bool)
    for rows in bands(*found.shape):
        whole[found[rows][domes[rows] >= prominence]] = True
    numbers = np.where(whole, np.cumsum(whole, dtype=np.int32), np.int32(0))
    markers: npt.NDArray[np.int32] = found
    for rows in bands(*found.shape):
        markers[rows] = numbers[markers[rows]]
    return markers


def grow(
    peaks: npt.NDArray[np.int32], inside: npt.NDArray[np.uint8], landscape: npt.NDArray[np.int8]
) -> npt.NDArray[np.uint16]:
    """Return the watershed of the landscape from the markers `peaks`, over `inside`.

    `cv2.watershed` next floods the pixel with the smallest difference to its flooded neighbour, not the lowest one. On
    a checkerboard of 128 + depth and 127 − depth, the difference of two neighbours is the sum of their depths plus one,
    so that flooding goes by depth, as in Meyer's algorithm [1]_. `inside` is surrounded by a ring so deep that it is
    flooded last: what lies beyond the ring (which has a marker of its own, to save time) never reaches a cell.

    References
    ----------
    .. [1] F. Meyer, Color image segmentation. IEE Image Processing and its Applications, 303–306 (1992).
    """
    count = int(peaks.max(initial=0))
    if count > MAX_CELLS:
        raise _too_many(count)
    if count == 0:
        return np.zeros(peaks.shape, np.uint16)
    # With a frame of one pixel, since cv2.watershed does not label the outermost pixels
    markers = cv2.copyMakeBorder(peaks, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    del peaks
    within = cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    markers[cv2.bitwise_not(cv2.dilate(within, _CROSS)).view(bool)] = count + 1
    cv2.watershed(_checkerboard(inside, landscape), markers)
    regions = np.empty(markers.shape, np.uint16)
    for rows in bands(*markers.shape):
        band = markers[rows]
        # As uint32, the −1 of ridges between basins is the largest number
        np.multiply(band, band.view(np.uint32) <= count, out=regions[rows], casting="unsafe")
    del markers
    # Ridges and what they enclose is not reached. Inside, such pixels go to the neighbouring cell with the largest
    # number, so that all of every component belongs to a cell.
    while cv2.countNonZero(left := cv2.bitwise_and(cv2.compare(regions, 0, cv2.CMP_EQ), within)):
        cv2.copyTo(cv2.dilate(regions, _CROSS), left, regions)
    return np.ascontiguousarray(regions[1:-1, 1:-1])


def _checkerboard(inside: npt.NDArray[np.uint8], landscape: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Return what `grow` floods, with a frame of one pixel and in three channels, as cv2.watershed demands."""
    height, width = inside.shape
    depth = np.full((height + 2, width + 2), _RING_DEPTH, np.uint8)
    cv2.copyTo(cv2.LUT(landscape.view(np.uint8), _DEPTH), inside, depth[1:-1, 1:-1])
    for row in (0, 1):
        for col in (0, 1):
            field = depth[row::2, col::2]
            if row == col:
                np.add(128, field, out=field)
            else:
                np.subtract(127, field, out=field)
    board: npt.NDArray[np.uint8] = cv2.merge([depth] * 3)
    return board


def _as_uint16(regions: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.uint16]:
    if count > MAX_CELLS:
        raise _too_many(count)
    return regions.astype(np.uint16)


def _too_many(count: int) -> ImageError:
    return ImageError(f"has {count} cells, over the limit of {MAX_CELLS} for one image: crop or split it")


_STEPS_BETWEEN_CHECKS = 4
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
# From the landscape's int8, viewed as uint8, to depth: 0 for the highest value, 63 for the lowest. Two neighbours
# inside add up to at most 127 (with the plus one), one inside and one of the ring to at least 128.
_RING_DEPTH = 127
_DEPTH = ((127 - np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)) // 4).astype(np.uint8)
