"""The size at which the network sees an image whose cells have another size than those that it knows."""

from __future__ import annotations

import math

# An image is not scaled for a diameter this near to the model's: its original pixels give better results
_NEAR_RATIO = 1.15
_MOST_ENLARGED = 4.0
_MAX_ENLARGED_PX = 16_000_000


def scaled_shape(shape: tuple[int, int], ratio: float) -> tuple[int, int]:
    """Return (height, width) of an image made smaller by `ratio`, or larger if that is below 1, within limits."""
    height, width = shape
    if 1 / _NEAR_RATIO < ratio < _NEAR_RATIO:
        return shape
    ratio = max(ratio, 1 / _MOST_ENLARGED, min(1.0, math.sqrt(height * width / _MAX_ENLARGED_PX)))
    return max(round(height / ratio), 1), max(round(width / ratio), 1)
