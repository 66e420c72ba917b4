"""Labels as a PNG for browsers: red is the low byte, green the high one, blue 255 where cells are looked for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_EFFORT = 1


def encoded(labels: npt.NDArray[np.uint16], field: npt.NDArray[np.uint8] | None, factor: float = 1) -> bytes:
    """Return labels as such a PNG.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
    field : ndarray of uint8, shape (height, width), or None
        As of `Image`.
    factor : float
        Scale at which they are shown.
    """
    labels = scaled(labels, factor, cv2.INTER_NEAREST)
    low, high = (labels & 0xFF).astype(np.uint8), (labels >> 8).astype(np.uint8)
    inside = np.full_like(low, 255) if field is None else scaled(field, factor, cv2.INTER_NEAREST)
    done, data = cv2.imencode(".png", cv2.merge([inside, high, low]), (cv2.IMWRITE_PNG_COMPRESSION, _EFFORT))
    if not done:
        raise RuntimeError("OpenCV could not encode a PNG")
    return bytes(data)


def scaled(array: npt.NDArray[Any], factor: float, method: int) -> npt.NDArray[Any]:
    """Return a picture at another scale, by a method of OpenCV."""
    if factor == 1:
        return array
    height, width = (max(round(side * factor), 1) for side in array.shape[:2])
    return np.asarray(cv2.resize(array, (width, height), interpolation=method))
