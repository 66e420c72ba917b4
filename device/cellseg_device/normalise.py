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
_BAND_ROWS = 64


def histogram(pixels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Histogram over all pixels and channels.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16

    Returns
    -------
    ndarray, shape (256,) or (65536,), int64
        Of every n-th row, so that about half a megapixel is counted: percentiles need no more.
    """
    pixels = pixels[:: max(pixels.shape[0] * pixels.shape[1] // SAMPLE_PX, 1)]
    bins = 256 if pixels.dtype == np.uint8 else 65536
    flat = np.ascontiguousarray(pixels).reshape(-1, 1)
    counts: npt.NDArray[np.float32] = cv2.calcHist([flat], [0], None, [bins], [0, bins])
    return counts.ravel().astype(np.int64)


def level_table(counts: npt.NDArray[np.int64], low_percentile: float, high_percentile: float) -> npt.NDArray[np.uint8]:
    """Table from raw value to level.

    Parameters
    ----------
    counts : ndarray of int64, shape (256,) or (65536,)
        The image's `histogram`.
    low_percentile, high_percentile : float
        Percentiles (0 to 100) that become level 0 and level 255.

    Returns
    -------
    ndarray of uint8, same shape as `counts`
        ``floor((255 (v - low) + range / 2) / range)``, clipped to 0…255, in integers.
    """
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    # per mille of per cent, so that the ranks are integers on every machine
    low_rank = total * round(low_percentile * 1000) // 100_000
    high_rank = total * round(high_percentile * 1000) // 100_000
    low = int(np.searchsorted(cumulative, min(low_rank, total - 1), side="right"))
    high = int(np.searchsorted(cumulative, min(high_rank, total - 1), side="right"))
    span = max(high - low, MIN_RANGE_COUNTS)
    values = np.arange(len(counts), dtype=np.int64)
    return np.clip(((values - low) * 255 + span // 2) // span, 0, 255).astype(np.uint8)


def stretched(pixels: npt.NDArray[Any], low_percentile: float, high_percentile: float) -> npt.NDArray[np.uint8]:
    """A picture of the image: RGB, uint8, with these percentiles of its histogram as black and white."""
    picture = np.empty((*pixels.shape[:2], 3), np.uint8)
    apply_table(level_table(histogram(pixels), low_percentile, high_percentile), pixels, picture)
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
