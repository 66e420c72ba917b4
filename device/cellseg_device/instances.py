"""From maps to labels: one number per cell.

Seeds are the peaks of the distance map; a watershed grows them over the foreground. Separation works at the
distance map's resolution (half the image's, for our models: a quarter of the work) and the outline comes from the
foreground at full resolution. All of it is integer arithmetic, so every machine gives the same labels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.card import Separation
from cellseg_device.errors import ImageError

MAX_CELLS = 65_535
_SEED_MIN_PX = 2  # smaller peaks are noise of the int8 steps


def separate(
    foreground: npt.NDArray[np.uint8],
    distance: npt.NDArray[np.int8] | None,
    seed_threshold: int,
    settings: Separation,
) -> npt.NDArray[np.uint16]:
    """Label the cells.

    Parameters
    ----------
    foreground : ndarray of uint8, shape (height, width)
        0 outside, 255 inside cells.
    distance : ndarray of int8, shape (height / r, width / r), or None
        Distance map for a whole reduction r; None for a model without one: cells are then the connected components.
    seed_threshold : int
        Value of `distance` from which a pixel belongs to a seed.
    settings : Separation

    Returns
    -------
    labels : ndarray of uint16, shape (height, width)
        0 is background; cells are numbered from 1 by their first pixel, row by row.

    Raises
    ------
    ImageError
        If there are more than 65,535 cells.
    """
    if distance is None:
        count, regions = cv2.connectedComponents(foreground, connectivity=8, ltype=cv2.CV_32S)
        return number(_as_uint16(regions, count - 1), settings.min_area_px)
    reduction = foreground.shape[0] // distance.shape[0]
    inside = _any_in_block(foreground, reduction)
    regions = _grow(_seeds(inside, distance, seed_threshold), inside, distance)
    if reduction > 1:
        height, width = foreground.shape
        regions = cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST)
    return number(cv2.copyTo(regions, foreground), settings.min_area_px)


def number(regions: npt.NDArray[np.uint16], min_area_px: int) -> npt.NDArray[np.uint16]:
    """Drop regions under `min_area_px` and number the others by their first pixel, row by row, in place.

    Parameters
    ----------
    regions : ndarray of uint16, shape (height, width)
    min_area_px : int

    Returns
    -------
    ndarray of uint16, shape (height, width)
        `regions` itself.
    """
    flat = regions.reshape(-1)
    inside = np.flatnonzero(flat)
    values = flat[inside]
    area = np.bincount(values)
    first = np.full(len(area), flat.size, np.int64)
    first[values[::-1]] = inside[::-1]  # of several writes the last one stays: the first pixel
    kept = np.flatnonzero(area >= max(min_area_px, 1))
    new = np.zeros(len(area), np.uint16)
    new[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1, dtype=np.uint16)
    flat[inside] = new[values]
    return regions


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


def _seeds(
    inside: npt.NDArray[np.uint8], distance: npt.NDArray[np.int8], threshold: int
) -> npt.NDArray[np.int32]:
    """Connected peaks of the distance map, numbered from 1; a component without a peak is a seed as a whole."""
    peaks = cv2.compare(distance, threshold, cv2.CMP_GE) if threshold <= 127 else np.zeros_like(inside)
    peaks = cv2.bitwise_and(peaks, inside)
    count, seeds, stats, _ = cv2.connectedComponentsWithStats(peaks, connectivity=4, ltype=cv2.CV_32S)
    if count > 1:
        small = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < _SEED_MIN_PX)
        if len(small):
            keep = np.arange(count, dtype=np.int32)
            keep[small] = 0
            seeds = keep[seeds]
    parts, components = cv2.connectedComponents(inside, connectivity=4, ltype=cv2.CV_32S)
    has_seed = np.zeros(parts, bool)
    has_seed[components[seeds > 0]] = True
    has_seed[0] = True
    orphans = np.flatnonzero(~has_seed)
    if len(orphans):
        own = np.zeros(parts, np.int32)
        own[orphans] = np.arange(count, count + len(orphans), dtype=np.int32)
        seeds = np.maximum(seeds, own[components])
    return seeds


def _grow(
    seeds: npt.NDArray[np.int32], inside: npt.NDArray[np.uint8], distance: npt.NDArray[np.int8]
) -> npt.NDArray[np.uint16]:
    """Watershed of the distance map from `seeds`, over `inside`.

    `cv2.watershed` takes the pixel with the smallest difference to its flooded neighbour first, not the lowest one.
    On a checkerboard of 128 + depth and 127 − depth, the difference of two neighbours is the sum of their depths
    plus one, and so the flooding goes by depth, as in Meyer's algorithm. Outside lies deepest, hence is flooded last.
    """
    count = int(seeds.max(initial=0))
    if count > MAX_CELLS:
        raise ImageError(f"has {count} cells, over the limit of {MAX_CELLS} for one image: crop or split it")
    if count == 0:
        return np.zeros(seeds.shape, np.uint16)
    height, width = seeds.shape
    # A frame of one pixel, since cv2.watershed gives up the outermost pixels.
    depth = np.full((height + 2, width + 2), 127, np.uint8)
    cv2.copyTo(cv2.LUT(distance.view(np.uint8), _DEPTH), inside, depth[1:-1, 1:-1])
    relief = np.empty_like(depth)
    odd = (np.add.outer(np.arange(height + 2), np.arange(width + 2)) & 1).astype(bool)
    np.add(depth, 128, out=relief)
    np.subtract(127, depth, out=relief, where=odd)
    markers = np.zeros(depth.shape, np.int32)
    markers[1:-1, 1:-1] = seeds
    cv2.watershed(cv2.merge([relief] * 3), markers)
    # Ridges between basins come back as −1: they go to the neighbour with the largest number.
    ridges = markers < 0
    markers[ridges] = 0
    regions = markers.astype(np.uint16)
    cv2.copyTo(cv2.dilate(regions, np.ones((3, 3), np.uint8)), ridges.view(np.uint8), regions)
    return np.ascontiguousarray(regions[1:-1, 1:-1])


def _as_uint16(regions: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.uint16]:
    if count > MAX_CELLS:
        raise ImageError(f"has {count} cells, over the limit of {MAX_CELLS} for one image: crop or split it")
    return regions.astype(np.uint16)


# int8 distance, seen as uint8, to depth: 0 at the highest peak, 100 at the lowest.
_DEPTH = ((127 - np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)) * 100 // 255).astype(np.uint8)
