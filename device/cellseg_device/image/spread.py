"""From pixel values of other types to 16 bits: floats and integers that have more bits or a sign."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ImageError

_TOP = 65535
# A pixel is extreme if it is farther from the others than so many times their range. What the others are is seen in the
# image after a median over 5 × 5 px: it keeps the smallest cell that is counted (7 px), however few there are, and
# drops single pixels and lines.
_FAR = 8
_MEDIAN_PX = 5
_BAND_ROWS = 64
_SAMPLE_PX = 100_000
_NO_DATA = 1e30  # what is larger says that there is no value, as the -3.4e38 of maps does
_MOST_NO_DATA_VALUES = 4  # below and above the others
_MOST_CLIPPED = 0.001


def to_uint16(pixels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint16], bool]:
    """Return pixels on 0…65535, and whether extreme values among them may have spoilt that.

    Integers that fit are kept as they are. Others are mapped linearly, from the least value to the greatest; but where
    those are extreme, because of dead pixels in a flat field, they are clipped. A value that many pixels share and that
    is far from all others, such as -9999, stands for "no data": those pixels are black.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3)
        Of floats or integers.

    Returns
    -------
    ndarray of uint16, same shape
    has_extremes : bool
        True if more than one pixel in a thousand was clipped or has no data; or if some are extreme but lie together,
        as the pixels of a bright cell would, so that they were not, and leave a single level to half of the others.

    Raises
    ------
    ImageError
        If some are NaN or infinite.
    """
    low, high = _ends(pixels)
    if pixels.dtype.kind != "f" and low >= 0 and high <= _TOP:
        return pixels.astype(np.uint16), False
    data = low, high = _without_shared_extremes(pixels, low, high)
    middle, spread = _middle(pixels, data)
    least, greatest = _usual(pixels, data, middle)
    most = _FAR * (greatest - least)
    if most and (least - low > most or high - greatest > most):
        low, high = _within(pixels, max(least - most, low), min(greatest + most, high))
    clipped = 0
    if low > pixels.min() or high < pixels.max():
        clipped = int(pixels.size - np.count_nonzero(_inside(pixels, low, high)))
    scale = _TOP / (high - low) if high > low else 0.0
    mapped = np.empty(pixels.shape, np.uint16)
    for row, values in enumerate(pixels):  # since float64 takes four times the memory
        wide = values.astype(np.float64)
        if clipped:
            wide[(wide > data[1]) & (wide < _NO_DATA)] = low
            wide = np.clip(wide, low, high)
        mapped[row] = np.rint((wide - low) * scale)
    is_crushed = 0 < spread * scale < 1
    return mapped, is_crushed or clipped > _MOST_CLIPPED * pixels.size


def _ends(pixels: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the least and the greatest value that are data; raise ImageError for NaN and infinity."""
    if pixels.dtype.kind != "f":
        return float(pixels.min()), float(pixels.max())
    bad = int(pixels.size - np.count_nonzero(np.isfinite(pixels)))
    if bad:
        raise ImageError(f"has {bad} NaN or infinite pixel values: replace them and save as 16-bit")
    low, high = float(pixels.min()), float(pixels.max())
    if low > -_NO_DATA and high < _NO_DATA:
        return low, high
    low, high = _within(pixels, -_NO_DATA, _NO_DATA)
    if low > high:
        raise ImageError("has no pixel values below 1e30: save it again")
    return low, high


def _within(pixels: npt.NDArray[Any], least: float, most: float) -> tuple[float, float]:
    """Return the least and the greatest value within these bounds; infinity and its negative if there is none."""
    inside = _inside(pixels, least, most)
    if not inside.any():
        return math.inf, -math.inf
    return float(pixels.min(where=inside, initial=pixels.max())), float(pixels.max(where=inside, initial=pixels.min()))


def _inside(pixels: npt.NDArray[Any], least: float, most: float) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (pixels >= np.float64(least)) & (pixels <= np.float64(most))  # beyond float16's
    return inside


def _without_shared_extremes(pixels: npt.NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Return the least and the greatest value but for those that many pixels share and that are far from all others."""
    for _ in range(_MOST_NO_DATA_VALUES):
        before = low, high
        for end in before:
            if end == 0 or np.count_nonzero(pixels == pixels.dtype.type(end)) < _MEDIAN_PX**2:
                continue
            bounds = (math.nextafter(low, math.inf), high) if end == low else (low, math.nextafter(high, -math.inf))
            rest = _within(pixels, *bounds)
            gap = rest[0] - low if end == low else high - rest[1]
            if 0 < _FAR * (rest[1] - rest[0]) < gap < math.inf:
                low, high = rest
        if (low, high) == before:
            break
    return low, high


def _middle(pixels: npt.NDArray[Any], data: tuple[float, float]) -> tuple[float, float]:
    """Return the median of the data, and the median distance from it of those that differ from it, by a sample."""
    step = max(math.isqrt(pixels.shape[0] * pixels.shape[1] // _SAMPLE_PX), 1)
    sampled = pixels[::step, ::step].astype(np.float64)
    sampled = sampled[(sampled >= data[0]) & (sampled <= data[1])]
    if not sampled.size:
        return data[0], 0.0
    middle = float(np.percentile(sampled, 50, method="nearest"))
    away = np.abs(sampled[sampled != middle] - middle)
    # Not by np.median, which would import a module, as a decoder cannot
    return middle, float(np.percentile(away, 50, method="nearest")) if away.size else 0.0


def _usual(pixels: npt.NDArray[Any], data: tuple[float, float], origin: float) -> tuple[float, float]:
    """Return the least and the greatest of the data after a median; or of a part, if none is extreme beside those.

    The median is that of float32, which is precise about `origin`; what is no data counts as that. Of an image that is
    too small for a median, the least and the greatest value are returned as they are given.
    """
    low, high = data
    edge = _MEDIAN_PX // 2  # left out, because beyond the border its pixels would count several times
    least, greatest = math.inf, -math.inf
    for top in range(0, pixels.shape[0], _BAND_ROWS):
        band = pixels[max(top - edge, 0) : top + _BAND_ROWS + edge]
        wide = band.astype(np.float64)
        above = np.where((wide >= low) & (wide <= high), wide, origin) - origin
        smooth = cv2.medianBlur(above.astype(np.float32), _MEDIAN_PX)[edge:-edge, edge:-edge]
        if smooth.size:
            least, greatest = min(least, float(smooth.min())), max(greatest, float(smooth.max()))
        if _FAR * (greatest - least) >= high - low:
            break
    return (origin + least, origin + greatest) if greatest >= least else (low, high)
