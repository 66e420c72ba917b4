"""The focus aid: a live score of sharpness, as a bar in the terminal and, on request, a small picture."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import cv2
import numpy as np

from cellseg_device.camera.source import EndOfImages, Pixels
from cellseg_device.camera.supervise import Supervised
from cellseg_device.errors import OutputError
from cellseg_device.image import focus
from cellseg_device.system import files
from cellseg_device.watching.wake import StopSignal

_EVERY_S = 0.2
_BAR = 40
_PREVIEW_PX = 640  # width at most


def focus_aid(camera: Supervised, stop: StopSignal, *, count: int | None, as_json: bool, preview: Path | None) -> None:
    """Print the sharpness of the camera's images about five times a second, until `stop` ends it.

    Parameters
    ----------
    camera : Supervised
    stop : StopSignal
    count : int or None
        How many scores to print; None for no end.
    as_json : bool
        Print an object per line instead of one line with a bar.
    preview : Path or None
        A JPEG file that always shows the latest image with its score.
    """
    shown = _Shown(as_json=as_json, preview=preview)
    best, due, last = 0.0, 0.0, None
    while shown.count != count and not stop.stopping:
        try:
            pixels = camera.capture()
        except EndOfImages:
            break
        if pixels is None:
            break
        # Every frame is fetched and scored, so that none queues up and is shown late
        score = focus.score(pixels)
        best = max(best, score)
        last = pixels, score
        if time.monotonic() >= due:
            due = time.monotonic() + _EVERY_S
            shown.show(pixels, score, best)
            last = None
    if last is not None:
        shown.show(*last, best)
    shown.end()


class _Shown:
    """What is on the screen: one line that is overwritten or, without a terminal, one line per score."""

    def __init__(self, *, as_json: bool, preview: Path | None) -> None:
        self.count = 0
        self._as_json, self._preview = as_json, preview
        self._is_one_line = not as_json and sys.stdout.isatty()

    def show(self, pixels: Pixels, score: float, best: float) -> None:
        if self._as_json:
            click.echo(json.dumps({"focus": round(score, 6), "best": round(best, 6)}))
        else:
            click.echo(("\r" if self._is_one_line else "") + bar(score, best), nl=not self._is_one_line)
        if self._preview is not None:
            _write_preview(pixels, score, best, self._preview)
        self.count += 1

    def end(self) -> None:
        if self._is_one_line and self.count:
            click.echo()


def bar(score: float, best: float) -> str:
    """Return one line with the score, a bar that is full at the best score so far, and the best score."""
    part = score / best if best else 0.0
    full = round(part * _BAR)
    return f"focus {score:.4f}  {'█' * full}{'·' * (_BAR - full)}  {part:4.0%} of the best {best:.4f}"


def small(pixels: Pixels, width_px: int) -> Pixels:
    """Return an image at most this wide, as OpenCV encodes it: uint8, blue first."""
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = min(1.0, width_px / width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    picture: Pixels = cv2.cvtColor(resized, cv2.COLOR_GRAY2BGR if resized.ndim == 2 else cv2.COLOR_RGB2BGR)
    return picture


def _write_preview(pixels: Pixels, score: float, best: float, path: Path) -> None:
    picture = small(pixels, _PREVIEW_PX)
    text = f"focus {score:.4f}  best {best:.4f}"
    for colour, thickness in (((0, 0, 0), 4), ((0, 255, 255), 1)):
        cv2.putText(picture, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thickness, cv2.LINE_AA)
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    # Replaced whole, so that viewers never read half a picture; not synced, since it is replaced again soon
    temporary = path.with_name(files.temporary_name())
    try:
        with os.fdopen(files.new_file(temporary), "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{path} cannot be written ({error.strerror}): choose another --preview") from None
