"""The pixels of one decoded field of view."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.image import normalise
from cellseg_device.image.dates import Captured


@dataclass(frozen=True)
class Image:
    """One decoded field of view.

    Attributes
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3), uint8 or uint16
        Grey or RGB, as stored in the file; other types are mapped linearly onto uint16.
    pixel_size_um : float or None
        Edge of a pixel in micrometres; None if the file does not give it.
    channel : int or None
        Index of the RGB channel in which cells are looked for; None for all.
    captured : Captured or None
        When it was taken; None if the file does not say.
    has_extremes : bool
        Whether extreme values among those that were mapped may have spoilt the others (`spread.to_uint16`).
    field : ndarray of uint8, shape (height, width), or None
        255 where cells are looked for, 0 elsewhere; None for everywhere.
    surround : str
        What was found and left out around the field of view, in words; empty if nothing.
    ends : (int, int) or None
        Values that become level 0 and level 255; None for percentiles of its own histogram. A part of an image has
        those of the whole, since a dark part would else be stretched until its noise looks like cells.
    """

    pixels: npt.NDArray[Any]
    pixel_size_um: float | None = None
    channel: int | None = None
    captured: Captured | None = None
    has_extremes: bool = False
    field: npt.NDArray[np.uint8] | None = None
    surround: str = ""
    ends: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @cached_property
    def field_px(self) -> int:
        """Number of pixels in which cells are looked for."""
        return self.shape[0] * self.shape[1] if self.field is None else cv2.countNonZero(self.field)

    @cached_property
    def searched(self) -> npt.NDArray[Any]:
        """Pixels in which cells are looked for and by which the image is assessed: all channels, or `channel`.

        Outside the field each has the median of the field, so that nothing out there has an effect on what is found.
        """
        pixels = self._channels
        return pixels if self.field is None else normalise.filled(pixels, self.field, self.histograms)

    @cached_property
    def histograms(self) -> npt.NDArray[np.int64]:
        """`normalise.histograms` of what is searched in the field: needed both before and after the network."""
        return normalise.histograms(self._channels, self.field)

    @property
    def _channels(self) -> npt.NDArray[Any]:
        return self.pixels if self.channel is None else cv2.extractChannel(self.pixels, self.channel)


def without_alpha(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return grey (height, width) or colour (height, width, 3) of an array of 1 to 4 channels."""
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., 0]
    return np.ascontiguousarray(pixels)
