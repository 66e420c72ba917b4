"""From maps to labels: one number per cell.

Seeds are the distinct peaks of the distance map; a watershed grows them over the foreground to pieces; pieces that
are one cell are joined. Separation works at the distance map's resolution (half the image's, for our models: a quarter
of the work) and the outline comes from the foreground at full resolution. It is integer arithmetic, but for the weights
of a join, so every machine gives the same labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import contacts, runs
from cellseg_device.errors import ImageError

MAX_CELLS = 65_535


@dataclass(frozen=True)
class Limits:
    """A `Separation` in the int8 values of a model's maps.

    Attributes
    ----------
    foreground : int
        Smallest value of the foreground map inside a cell, -128 to 128.
    rise : int
        How far a peak of the distance map rises above the saddle towards a higher one, to be a piece of its own; 1 to
        255.
    confidence : int
        Smallest mean of the foreground map over a cell.
    join : tuple of float
        Bias, and the weights of `contacts.Contacts.features`; empty for no joining.
    min_area_px : int
        Smallest area of a cell, in pixels of the image.
    """

    foreground: int
    rise: int = 1
    confidence: int = -128
    join: tuple[float, ...] = ()
    min_area_px: int = 1


def separate(
    foreground: npt.NDArray[np.int8], distance: npt.NDArray[np.int8] | None, shape: tuple[int, int], limits: Limits
) -> npt.NDArray[np.uint16]:
    """Label the cells.

    Parameters
    ----------
    foreground : ndarray of int8, shape (height, width)
        The foreground map.
    distance : ndarray of int8, shape (height / r, width / r), or None
        Distance map for a whole reduction r; None for a model without one: cells are then the connected components.
    shape : (int, int)
        (height, width) of the image, which the maps may exceed; there are no cells beyond.
    limits : Limits

    Returns
    -------
    labels : ndarray of uint16, shape (height, width)
        0 is background; cells are numbered from 1 by their first pixel, row by row.

    Raises
    ------
    ImageError
        If there are more than 65,535 cells.
    """
    mask = mask_of(foreground, shape, limits.foreground)
    if distance is None:
        count, found = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
        regions = _cells(_as_uint16(found, count - 1), None, foreground, limits)
        return number(regions, limits.min_area_px)
    reduction = foreground.shape[0] // distance.shape[0]
    sampled = np.ascontiguousarray(foreground[::reduction, ::reduction])
    regions = _cells(pieces(mask, distance, limits.rise), distance, sampled, limits)
    if reduction > 1:
        height, width = foreground.shape
        regions = cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST)
    regions = cv2.copyTo(regions, mask)  # under the same name: the former is let go of
    return number(regions, limits.min_area_px)


def mask_of(foreground: npt.NDArray[np.int8], shape: tuple[int, int], threshold: int) -> npt.NDArray[np.uint8]:
    """255 where the map reaches `threshold`, 0 elsewhere and beyond the image's `shape`; in the map's own shape."""
    mask: npt.NDArray[np.uint8] = np.negative((foreground >= threshold).view(np.int8)).view(np.uint8)
    mask[shape[0] :] = 0
    mask[:, shape[1] :] = 0
    return mask


def pieces(mask: npt.NDArray[np.uint8], distance: npt.NDArray[np.int8], rise: int) -> npt.NDArray[np.uint16]:
    """What the peaks of the distance map cut the foreground into.

    Parameters
    ----------
    mask : ndarray of uint8, shape (height, width)
        As from `mask_of`.
    distance : ndarray of int8, shape (height / r, width / r)
    rise : int
        As in `Limits`.

    Returns
    -------
    ndarray of uint16, shape (height / r, width / r)
        Numbered from 1, 0 outside.
    """
    inside = _any_in_block(mask, mask.shape[0] // distance.shape[0])
    # The flooding goes a little beyond the inside
    found: npt.NDArray[np.uint16] = cv2.copyTo(_grow(_seeds(inside, distance, rise), inside, distance), inside)
    return found


def number(regions: npt.NDArray[np.uint16], min_area_px: int) -> npt.NDArray[np.uint16]:
    """Drop regions under `min_area_px` and number the others by their first pixel, row by row.

    Parameters
    ----------
    regions : ndarray of uint16, shape (height, width)
    min_area_px : int

    Returns
    -------
    ndarray of uint16, shape (height, width)
    """
    found = runs.find(regions)
    area = np.bincount(found.label, found.length)
    first = np.full(len(area), len(found.label), np.int64)
    first[found.label[::-1]] = np.arange(len(found.label))[::-1]  # of several writes the last one stays
    area[0] = 0  # the background
    kept = np.flatnonzero(area >= max(min_area_px, 1))
    new = np.zeros(len(area), np.uint16)
    new[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1, dtype=np.uint16)
    return np.repeat(new[found.label], found.length).reshape(regions.shape)


def rescale(
    labels: npt.NDArray[np.uint16], foreground: npt.NDArray[np.int8], threshold: int, shape: tuple[int, int]
) -> npt.NDArray[np.uint16]:
    """Bring labels to the size of the image that was scaled for the network.

    Parameters
    ----------
    labels : ndarray of uint16, shape (h, w)
    foreground : ndarray of int8, shape (h, w) or larger
        The map from which the outlines are drawn anew, smooth, where the image is larger.
    threshold : int
        Value of it from which a pixel belongs to a cell.
    shape : (int, int)
        (height, width) of the image.

    Returns
    -------
    ndarray of uint16, shape `shape`
        Numbered without a gap, by the first pixels; a cell that has no pixel at this size is dropped.
    """
    height, width = shape
    larger = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    if height > labels.shape[0]:
        seen = np.ascontiguousarray(foreground[: labels.shape[0], : labels.shape[1]])
        smooth = cv2.resize(seen, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
        mask = np.negative((smooth >= threshold).view(np.int8)).view(np.uint8)
        larger = cv2.copyTo(larger, mask)
        for _ in range(-(-height // labels.shape[0])):  # what the smooth outline has outside the blocks
            left = cv2.bitwise_and(cv2.compare(larger, 0, cv2.CMP_EQ), mask)
            cv2.copyTo(cv2.dilate(larger, _CROSS), left, larger)
    return number(larger, 1)


def _cells(
    regions: npt.NDArray[np.uint16],
    distance: npt.NDArray[np.int8] | None,
    foreground: npt.NDArray[np.int8],
    limits: Limits,
) -> npt.NDArray[np.uint16]:
    """Pieces that are one cell joined, and cells dropped whose mean foreground is too low."""
    found = runs.find(regions)
    numbers = np.arange(int(regions.max()) + 1, dtype=np.uint16)
    if limits.join and distance is not None:
        touching = contacts.find(regions, found, distance, foreground)
        bias, *weights = limits.join
        numbers = contacts.joined(len(numbers) - 1, touching, touching.features @ np.array(weights) + bias > 0)
    if limits.confidence > limits.foreground:
        label = numbers[found.label]
        total = np.bincount(label, np.add.reduceat(foreground.reshape(-1), found.start, dtype=np.int64))
        kept = total >= limits.confidence * np.bincount(label, found.length)
        numbers = np.where(kept[numbers], numbers, np.uint16(0))
    return numbers[regions]


def _any_in_block(mask: npt.NDArray[np.uint8], block: int) -> npt.NDArray[np.uint8]:
    """Maximum over blocks of `block` × `block` pixels."""
    if block == 1:
        return mask
    rows = mask[::block].copy()
    for offset in range(1, block):
        np.bitwise_or(rows, mask[offset::block], out=rows)
    cols = rows[:, ::block].copy()
    for offset in range(1, block):
        np.bitwise_or(cols, rows[:, offset::block], out=cols)
    return cols


def _seeds(inside: npt.NDArray[np.uint8], distance: npt.NDArray[np.int8], rise: int) -> npt.NDArray[np.int32]:
    """Peaks of the distance map that rise by `rise` above their surroundings, numbered from 1; each component has one.

    These are h-maxima [1]_: the map less `rise` is grown under the map itself, as far as it goes without climbing.
    What stands out above that are the domes of the peaks; that of a whole cell stands out by all of `rise`, that of a
    ripple on it by less. A threshold, which this replaces, would have to lie above the saddles of large cells and
    below the peaks of small ones.

    References
    ----------
    .. [1] P. Soille, Morphological image analysis, 2nd edition, section 6.3.5. Springer 2004.
    """
    # At least `rise` inside, so that the highest peak of every component stands out by it
    height = cv2.bitwise_and(np.maximum(distance.view(np.uint8) ^ 128, np.uint8(rise)), inside)
    ground = np.maximum(height, np.uint8(rise)) - np.uint8(rise)
    while True:
        before = ground
        for _ in range(_STEPS_BETWEEN_LOOKS):
            ground = cv2.min(cv2.dilate(ground, _CROSS), height)
        if np.array_equal(ground, before):
            break
    domes = cv2.subtract(height, ground)
    count, found = cv2.connectedComponents(domes, connectivity=4, ltype=cv2.CV_32S)
    whole = np.zeros(count, bool)
    whole[found[domes >= rise]] = True
    numbers = np.where(whole, np.cumsum(whole, dtype=np.int32), np.int32(0))
    seeds: npt.NDArray[np.int32] = numbers[found]
    return seeds


def _grow(
    seeds: npt.NDArray[np.int32], inside: npt.NDArray[np.uint8], distance: npt.NDArray[np.int8]
) -> npt.NDArray[np.uint16]:
    """Watershed of the distance map from `seeds`, over `inside`.

    `cv2.watershed` takes the pixel with the smallest difference to its flooded neighbour first, not the lowest one.
    On a checkerboard of 128 + depth and 127 − depth, the difference of two neighbours is the sum of their depths
    plus one, and so the flooding goes by depth, as in Meyer's algorithm [1]_. All around `inside` lies a ring so deep
    that it is flooded last: what is beyond it (a marker of its own, to save time) never reaches a cell.

    References
    ----------
    .. [1] F. Meyer, Color image segmentation. IEE Image Processing and its Applications, 303–306 (1992).
    """
    count = int(seeds.max(initial=0))
    if count > MAX_CELLS:
        raise _too_many(count)
    if count == 0:
        return np.zeros(seeds.shape, np.uint16)
    height, width = seeds.shape
    # A frame of one pixel, since cv2.watershed gives up the outermost pixels.
    depth = np.full((height + 2, width + 2), _RING_DEPTH, np.uint8)
    cv2.copyTo(cv2.LUT(distance.view(np.uint8), _DEPTH), inside, depth[1:-1, 1:-1])
    odd = np.not_equal.outer(np.arange(height + 2) % 2 == 1, np.arange(width + 2) % 2 == 1)
    relief = np.where(odd, 127 - depth, 128 + depth)
    markers = np.zeros(depth.shape, np.int32)
    markers[1:-1, 1:-1] = seeds
    within = cv2.compare(depth, _RING_DEPTH, cv2.CMP_NE)
    markers[cv2.bitwise_not(cv2.dilate(within, _CROSS)).view(bool)] = count + 1
    cv2.watershed(cv2.merge([relief] * 3), markers)
    markers[markers > count] = 0
    regions = np.maximum(markers, 0).astype(np.uint16)
    # Ridges between basins come back as −1, and what they enclose was not reached: inside, such pixels go to the
    # neighbouring cell with the largest number: then all of every component belongs to a cell.
    while cv2.countNonZero(left := cv2.bitwise_and(cv2.compare(regions, 0, cv2.CMP_EQ), within)):
        cv2.copyTo(cv2.dilate(regions, _CROSS), left, regions)
    return np.ascontiguousarray(regions[1:-1, 1:-1])


def _as_uint16(regions: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.uint16]:
    if count > MAX_CELLS:
        raise _too_many(count)
    return regions.astype(np.uint16)


def _too_many(count: int) -> ImageError:
    return ImageError(f"has {count} cells, over the limit of {MAX_CELLS} for one image: crop or split it")


_STEPS_BETWEEN_LOOKS = 4
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
# int8 distance, seen as uint8, to depth: 0 at the highest peak, 63 at the lowest. Two neighbours inside add up to 127
# at most (with the plus one), one inside and one of the ring to 128 at least.
_RING_DEPTH = 127
_DEPTH = ((127 - np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)) // 4).astype(np.uint8)
