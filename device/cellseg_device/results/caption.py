"""The strip below an overlay: the count and the flags in words, and a scale bar, none of which hides a cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

MIN_WIDTH_PX = 280  # of a strip: on a narrower one no sentence can be read

_Colour = tuple[int, int, int]
INK: _Colour = (240, 240, 240)
DOUBT: _Colour = (255, 190, 60)
_GROUND: _Colour = (38, 38, 38)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_HAS_UNICODE = int(cv2.__version__.split(".", maxsplit=1)[0]) >= 5  # older fonts of OpenCV lack the letter µ
_UM_PER_MM = 1000
_MOST_OF_WIDTH = 0.25  # that a scale bar takes
_TEXT_SCALE, _PX_PER_TEXT_SCALE, _LARGEST_TEXT_SCALE = 0.5, 1200, 1.0


@dataclass(frozen=True)
class ScaleBar:
    """A scale bar.

    Attributes
    ----------
    length_px : int
    text : str
    """

    length_px: int
    text: str


def scale_bar(width_px: int, pixel_size_um: float) -> ScaleBar | None:
    """Return the longest bar of 1, 2 or 5 times a power of ten that takes no more than a quarter of a picture's width.

    None where not even a bar of ten pixels does, or where the number would be absurd.
    """
    longest_um = width_px * _MOST_OF_WIDTH * pixel_size_um
    power = 10.0 ** math.floor(math.log10(longest_um))
    length_um = max(factor * power for factor in (1, 2, 5) if factor * power <= longest_um)
    length_px = round(length_um / pixel_size_um)
    if length_px < 10:
        return None
    if length_um >= _UM_PER_MM:
        return ScaleBar(length_px, f"{length_um / _UM_PER_MM:g} mm")
    return ScaleBar(length_px, f"{length_um:g} {'µ' if _HAS_UNICODE else 'u'}m")


def strip(width_px: int, texts: Sequence[tuple[str, _Colour]], bar: ScaleBar | None = None) -> npt.NDArray[np.uint8]:
    """Return a strip of this width, in RGB, as high as its texts need.

    Parameters
    ----------
    width_px : int
        At least `MIN_WIDTH_PX`.
    texts : sequence of (str, colour)
        Each begins a line, and is broken between words where there is no room.
    bar : ScaleBar or None
        At the right, beside the first line, or below all where that is too narrow.
    """
    scale = min(max(_TEXT_SCALE, width_px / _PX_PER_TEXT_SCALE), _LARGEST_TEXT_SCALE)
    thickness = 1 if _HAS_UNICODE or scale < 0.8 else 2
    line_px = round(32 * scale)
    pad_px = round(16 * scale)
    bar_px = 0 if bar is None else bar.length_px + _width(bar.text, scale, thickness) + 2 * pad_px
    first_px = width_px - 2 * pad_px - bar_px
    is_beside = first_px >= width_px // 2
    lines: list[tuple[str, _Colour]] = []
    for text, colour in texts:
        room_px = first_px if is_beside and not lines else width_px - 2 * pad_px
        lines += [(line, colour) for line in _wrapped(text, room_px, scale, thickness)]
    rows = len(lines) + (bar is not None and not is_beside)
    drawn = np.empty((rows * line_px + pad_px, width_px, 3), np.uint8)
    drawn[...] = _GROUND
    baseline_px = (pad_px + line_px) // 2 + round(10 * scale)
    for row, (text, colour) in enumerate(lines):
        place = (pad_px, baseline_px + row * line_px)
        cv2.putText(drawn, text, place, _FONT, scale, colour, thickness, cv2.LINE_AA)
    if bar is not None:
        bottom = baseline_px + (0 if is_beside else rows - 1) * line_px
        left = width_px - pad_px - bar.length_px
        text_left = width_px - bar_px
        cv2.putText(drawn, bar.text, (text_left, bottom), _FONT, scale, INK, thickness, cv2.LINE_AA)
        height = max(round(6 * scale), 2)
        top = bottom - round(11 * scale)
        drawn[top : top + height, left : left + bar.length_px] = INK
    return drawn


def _wrapped(text: str, room_px: int, scale: float, thickness: int) -> list[str]:
    """Return the lines of a text, broken between words."""
    first, *words = text.split(" ")
    lines = [first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if _width(longer, scale, thickness) <= room_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _width(text: str, scale: float, thickness: int) -> int:
    return int(cv2.getTextSize(text, _FONT, scale, thickness)[0][0])
