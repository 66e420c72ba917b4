"""A picture to judge a result by eye: the outlines of the cells on the image, and their number."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import normalise
from cellseg_device.image import Image

MAX_SIDE_PX = 2048
# Colour at full resolution: the outlines are one pixel wide.
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
_OUTLINE = (255, 225, 0)  # RGB: yellow stands out on dark fields and on violet stains alike


def draw(
    image: Image, labels: npt.NDArray[np.uint16], low_percentile: float = 0.5, high_percentile: float = 99.8
) -> npt.NDArray[np.uint8]:
    """Draw the outlines of the cells on the contrast-stretched image.

    Parameters
    ----------
    image : Image
    labels : ndarray of uint16, shape (height, width)
    low_percentile, high_percentile : float
        Percentiles of the image's histogram that become black and white.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB. An outline is the pixels of a cell that have a 4-neighbour of another label. An image over
        2048 px on a side is scaled down to that: a picture to look at, in little memory.
    """
    pixels = image.pixels
    count = int(labels.max(initial=0))
    scale = MAX_SIDE_PX / max(image.shape)
    if scale < 1:
        size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST).astype(np.uint16, copy=False)
    picture = normalise.stretched(pixels, low_percentile, high_percentile)
    cv2.copyTo(np.full_like(picture, _OUTLINE), outlines(labels), picture)
    _write_count(picture, f"{count} cell" if count == 1 else f"{count} cells")
    return picture


def outlines(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """255 on the pixels of a cell that have a 4-neighbour of another label, 0 elsewhere."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner: npt.NDArray[np.uint8] = cv2.bitwise_and(
        cv2.compare(cv2.dilate(labels, cross), cv2.erode(labels, cross), cv2.CMP_NE),
        cv2.compare(labels, np.zeros_like(labels), cv2.CMP_GT),
    )
    return inner


def encode(picture: npt.NDArray[np.uint8]) -> bytes:
    """Encode a picture as a JPEG file."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), _JPEG)
    if not done:
        raise RuntimeError("OpenCV could not encode a JPEG")
    return bytes(data)


def _write_count(picture: npt.NDArray[Any], text: str) -> None:
    """White on a dark plate in the upper left corner; left out where it would hide the image."""
    height, width = picture.shape[:2]
    scale = max(min(height, width) / 900, 0.4)
    thickness = max(round(scale * 1.6), 1)
    (text_width, text_height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    pad = round(text_height * 0.5)
    plate_height, plate_width = text_height + below + 2 * pad, text_width + 2 * pad
    if plate_width > width // 2 or plate_height > height // 4:
        return
    plate = picture[:plate_height, :plate_width]
    plate[...] = plate // 4
    cv2.putText(
        picture,
        text,
        (pad, pad + text_height),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        (255, 255, 255),
        thickness,
        cv2.LINE_AA,
    )
