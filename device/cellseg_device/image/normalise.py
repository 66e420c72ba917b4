"""From raw pixel values to the levels a model was trained on, by one look-up table for each image.

The table maps 8- or 16-bit values onto 256 levels between two percentiles of the image's histogram. It is computed
once per image, in integers, so that every machine gives the same bits; tiles only look values up.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# A narrower range of values is noise on an empty field and is not stretched to full contrast. No image of DSB2018 has
# a range under 25.
MIN_RANGE_COUNTS = 16
SAMPLE_PX = 500_000
# In an image of one fluorescent colour, the range of its channel is at least this many times that of the others
_SINGLE_COLOUR_RATIO = 4
_BAND_ROWS = 64


def histograms(pixels: npt.NDArray[Any], field: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.int64]:
    """Return the histogram of each channel.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16
    field : ndarray of uint8, shape (height, width), or None
        Only where it is not 0, pixels are counted. None for all.

    Returns
    -------
    ndarray, shape (1 or 3, 256 or 65536), int64
        Of every n-th row (of the field), so that about half a megapixel is counted, which is enough for percentiles.
    """
    if field is None:
        sampled, inside = pixels[:: max(pixels.shape[0] * pixels.shape[1] // SAMPLE_PX, 1)], None
    else:
        rows = np.flatnonzero(field.any(axis=1))[:: max(cv2.countNonZero(field) // SAMPLE_PX, 1)]
        sampled, inside = pixels[rows], field[rows]
    bins = possible_values(pixels)
    channels = range(1 if pixels.ndim == 2 else pixels.shape[2])
    if not sampled.size:
        return np.zeros((len(channels), bins), np.int64)
    counts = [cv2.calcHist([sampled], [channel], inside, [bins], [0, bins]).ravel() for channel in channels]
    return np.stack(counts).astype(np.int64)


def possible_values(pixels: npt.NDArray[Any]) -> int:
    """Return how many values a pixel can have: the length of a table for them."""
    return 256 if pixels.dtype == np.uint8 else 65536


def filled(pixels: npt.NDArray[Any], field: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Return a copy of an image in which the pixels outside its field have the median of those inside, by channel.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16
    field : ndarray of uint8, shape (height, width)
        0 outside.
    counts : ndarray of int64, shape (1 or 3, n)
        `histograms` of the field.
    """
    medians = np.array([ends(channel, 50, 50)[0] for channel in counts], pixels.dtype)
    whole = np.empty_like(pixels)
    whole[...] = medians if pixels.ndim == 3 else medians[0]
    cv2.copyTo(pixels, field, whole)
    return whole


def level_table(counts: npt.NDArray[np.int64], low_percentile: float, high_percentile: float) -> npt.NDArray[np.uint8]:
    """Return the table from raw value to level.

    Parameters
    ----------
    counts : ndarray of int64, shape (256,) or (65536,)
        Histogram of all channels together.
    low_percentile, high_percentile : float
        Percentiles (0 to 100) that become level 0 and level 255.

    Returns
    -------
    ndarray of uint8, same shape as `counts`
        ``floor((255 (v - low) + range / 2) / range)``, clipped to 0…255, in integers.
    """
    return table_between(*ends(counts, low_percentile, high_percentile), len(counts))


def table_between(low: int, high: int, values: int) -> npt.NDArray[np.uint8]:
    """Return the table from each of so many raw values to its level, as `level_table` does, for these ends."""
    span = max(high - low, MIN_RANGE_COUNTS)
    raw = np.arange(values, dtype=np.int64)
    return np.clip(((raw - low) * 255 + span // 2) // span, 0, 255).astype(np.uint8)


def network_view(
    pixels: npt.NDArray[Any], counts: npt.NDArray[np.int64], low_percentile: float, high_percentile: float
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Return the pixels that a network is shown, and their histogram.

    These are all channels; or only one, in grey, if the image has a single colour such as DAPI's blue, because models
    are trained on fluorescence in grey. An image counts as single-coloured if the range of one channel is at least
    four times that of the others.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16
    counts : ndarray of int64, shape (1 or 3, n)
        Its `histograms`.
    low_percentile, high_percentile : float
        As for `level_table`: the ends of a range.

    Returns
    -------
    pixels : ndarray, shape (height, width) or (height, width, 3)
    counts : ndarray of int64, shape (n,)
        Their histogram, for `level_table`.
    """
    if len(counts) == 3:
        ranges = [high - low for low, high in (ends(channel, low_percentile, high_percentile) for channel in counts)]
        *others, widest = sorted(ranges)
        if widest >= max(_SINGLE_COLOUR_RATIO * max(others), MIN_RANGE_COUNTS):
            only = ranges.index(widest)
            return np.ascontiguousarray(pixels[..., only]), counts[only]
    return pixels, counts.sum(axis=0)


def ends(counts: npt.NDArray[np.int64], low_percentile: float, high_percentile: float) -> tuple[int, int]:
    """Return the values at these percentiles of a histogram: those that become level 0 and level 255."""
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    # In thousandths of a per cent, so that the ranks are integers on every machine
    low_rank = total * round(low_percentile * 1000) // 100_000
    high_rank = total * round(high_percentile * 1000) // 100_000
    low = int(np.searchsorted(cumulative, min(low_rank, total - 1), side="right"))
    high = int(np.searchsorted(cumulative, min(high_rank, total - 1), side="right"))
    return low, high


def stretched(pixels: npt.NDArray[Any], low_percentile: float, high_percentile: float) -> npt.NDArray[np.uint8]:
    """Return the image as a picture: RGB, uint8, with these percentiles of its histogram as black and white."""
    picture = np.empty((*pixels.shape[:2], 3), np.uint8)
    apply_table(level_table(histograms(pixels).sum(axis=0), low_percentile, high_percentile), pixels, picture)
    return picture


def looked_up(table: npt.NDArray[np.uint8], pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the level of every value, in the shape of `pixels`: for grey one channel, unlike `apply_table`."""
    if pixels.dtype == np.uint8:
        return np.asarray(cv2.LUT(pixels, table), np.uint8)
    found = np.empty(pixels.shape, np.uint8)
    for begin in range(0, len(pixels), _BAND_ROWS):  # as below
        np.take(table, pixels[begin : begin + _BAND_ROWS], out=found[begin : begin + _BAND_ROWS], mode="wrap")
    return found


def apply_table(table: npt.NDArray[Any], pixels: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Look up every pixel and write RGB into `out`; grey is copied to the three channels.

    Parameters
    ----------
    table : ndarray, shape (256,) or (65536,)
        In the dtype of `out`.
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16
    out : ndarray, shape (height, width, 3)
    """
    if pixels.dtype != np.uint8:
        # In bands, because NumPy converts the indices to eight bytes each
        for begin in range(0, len(pixels), _BAND_ROWS):
            band = table[pixels[begin : begin + _BAND_ROWS]]
            out[begin : begin + _BAND_ROWS] = band if pixels.ndim == 3 else cv2.merge([band] * 3)
    elif pixels.ndim == 2:
        out[...] = cv2.merge([cv2.LUT(pixels, table)] * 3)
    elif (looked_up := cv2.LUT(pixels, table, dst=out)) is not out:
        out[...] = looked_up
