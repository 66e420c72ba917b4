"""The focus aid: a live score of sharpness, as a bar in the terminal and, if wished, a small picture."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import click
import cv2
import numpy as np

from cellseg_device import focus
from cellseg_device.camera.source import EndOfImages, Pixels
from cellseg_device.camera.supervise import Supervised
from cellseg_device.errors import OutputError
from cellseg_device.wake import Alarm

_EVERY_S = 0.2
_BAR = 40
_PREVIEW_PX = 640  # width at most


def focus_aid(camera: Supervised, alarm: Alarm, count: int | None, as_json: bool, preview: Path | None) -> None:
    """Print the score of what the camera sees about five times a second, until `alarm` stops it.

    Parameters
    ----------
    camera : Supervised
    alarm : Alarm
    count : int or None
        How many scores to print; None for no end.
    as_json : bool
        An object per line instead of one line with a bar.
    preview : Path or None
        A JPEG file that always shows the latest image with its score.
    """
    shown = _Shown(as_json, preview)
    best, due, last = 0.0, 0.0, None
    while shown.count != count and not alarm.stopping:
        try:
            pixels = camera.capture()
        except EndOfImages:
            break
        if pixels is None:
            break
        # Every frame is fetched and scored, so that none queues up and is seen late.
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
    """What is on the screen: a line that is written over, or a line each where it is no terminal."""

    def __init__(self, as_json: bool, preview: Path | None) -> None:
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
    """One line: the score, a bar that is full at the best score so far, and that one."""
    part = score / best if best else 0.0
    full = round(part * _BAR)
    return f"focus {score:.4f}  {'█' * full}{'·' * (_BAR - full)}  {part:4.0%} of the best {best:.4f}"


def _write_preview(pixels: Pixels, score: float, best: float, path: Path) -> None:
    if pixels.dtype != np.uint8:
        pixels = (pixels >> 8).astype(np.uint8)
    height, width = pixels.shape[:2]
    scale = min(1.0, _PREVIEW_PX / width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    small = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if small.ndim == 2 else cv2.COLOR_RGB2BGR)
    text = f"focus {score:.4f}  best {best:.4f}"
    for colour, thickness in (((0, 0, 0), 4), ((0, 255, 255), 1)):
        cv2.putText(small, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thickness, cv2.LINE_AA)
    data = cv2.imencode(".jpg", small)[1].tobytes()
    # Whole for whoever looks at it; not synced, since it lives for a fifth of a second
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}): choose another --preview") from None
