"""Raw pixel values to the levels a model was trained on, by one look-up table an image.

The table maps 8- or 16-bit values onto 256 levels between two percentiles of the image's histogram. It is made
once per image, in integers, so that every machine gives the same bits; tiles only look it up.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

# A range narrower than this many counts is noise on a plain field: it is not stretched to full contrast. No image of
# DSB2018 has one under 25.
MIN_RANGE_COUNTS = 16
SAMPLE_PX = 500_000
# How many times wider the range of one channel is than that of the others in an image of one fluorescent colour
_ONE_COLOUR = 4
_BAND_ROWS = 64


def histograms(pixels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Histogram of each channel.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16

    Returns
    -------
    ndarray, shape (1 or 3, 256 or 65536), int64
        Of every n-th row, so that about half a megapixel is counted: percentiles need no more.
    """
    sampled = pixels[:: max(pixels.shape[0] * pixels.shape[1] // SAMPLE_PX, 1)]
    bins = 256 if pixels.dtype == np.uint8 else 65536
    channels = range(1 if pixels.ndim == 2 else pixels.shape[2])
    counts = [cv2.calcHist([sampled], [channel], None, [bins], [0, bins]).ravel() for channel in channels]
    return np.stack(counts).astype(np.int64)


def level_table(counts: npt.NDArray[np.int64], low_percentile: float, high_percentile: float) -> npt.NDArray[np.uint8]:
    """Table from raw value to level.

    Parameters
    ----------
    counts : ndarray of int64, shape (256,) or (65536,)
        Of all channels together.
    low_percentile, high_percentile : float
        Percentiles (0 to 100) that become level 0 and level 255.

    Returns
    -------
    ndarray of uint8, same shape as `counts`
        ``floor((255 (v - low) + range / 2) / range)``, clipped to 0…255, in integers.
    """
    low, high = _ends(counts, low_percentile, high_percentile)
    span = max(high - low, MIN_RANGE_COUNTS)
    values = np.arange(len(counts), dtype=np.int64)
    return np.clip(((values - low) * 255 + span // 2) // span, 0, 255).astype(np.uint8)


def seen(
    pixels: npt.NDArray[Any], counts: npt.NDArray[np.int64], low_percentile: float, high_percentile: float
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """What of an image a network is shown: of one in a single colour, such as DAPI's blue, that channel in grey.

    Models know fluorescence in grey. A single colour is taken for one where the range of its channel is at least four
    times those of the others.

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
        ranges = [high - low for low, high in (_ends(channel, low_percentile, high_percentile) for channel in counts)]
        *others, widest = sorted(ranges)
        if widest >= max(_ONE_COLOUR * max(others), MIN_RANGE_COUNTS):
            only = ranges.index(widest)
            return np.ascontiguousarray(pixels[..., only]), counts[only]
    return pixels, counts.sum(axis=0)


def _ends(counts: npt.NDArray[np.int64], low_percentile: float, high_percentile: float) -> tuple[int, int]:
    """The values at these percentiles."""
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    # per mille of per cent, so that the ranks are integers on every machine
    low_rank = total * round(low_percentile * 1000) // 100_000
    high_rank = total * round(high_percentile * 1000) // 100_000
    low = int(np.searchsorted(cumulative, min(low_rank, total - 1), side="right"))
    high = int(np.searchsorted(cumulative, min(high_rank, total - 1), side="right"))
    return low, high


def stretched(pixels: npt.NDArray[Any], low_percentile: float, high_percentile: float) -> npt.NDArray[np.uint8]:
    """A picture of the image: RGB, uint8, with these percentiles of its histogram as black and white."""
    picture = np.empty((*pixels.shape[:2], 3), np.uint8)
    apply_table(level_table(histograms(pixels).sum(axis=0), low_percentile, high_percentile), pixels, picture)
    return picture


def apply_table(table: npt.NDArray[Any], pixels: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Look every pixel up, writing RGB into `out`; grey is copied to the three channels.

    Parameters
    ----------
    table : ndarray, shape (256,) or (65536,)
        In the dtype of `out`.
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16
    out : ndarray, shape (height, width, 3)
    """
    if pixels.dtype != np.uint8:
        # In bands, since NumPy turns what it indexes by into eight bytes a value
        for begin in range(0, len(pixels), _BAND_ROWS):
            band = table[pixels[begin : begin + _BAND_ROWS]]
            out[begin : begin + _BAND_ROWS] = band if pixels.ndim == 3 else band[..., None]
    elif pixels.ndim == 2:
        out[...] = cv2.LUT(pixels, table)[..., None]
    elif (looked_up := cv2.LUT(pixels, table, dst=out)) is not out:
        out[...] = looked_up
