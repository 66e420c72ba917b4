"""The options of the commands that take images from a camera, and the camera they describe."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cellseg_device.errors import CameraError
from cellseg_device.options import Number, duration

if TYPE_CHECKING:
    from cellseg_device.camera.source import Settings
    from cellseg_device.camera.supervise import Supervised
    from cellseg_device.wake import Alarm


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """(height, width) from ``1600x1200``, width first as cameras have it."""
    if value is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})\s*[x×]\s*([1-9]\d{0,4})", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size: write width x height in pixels, as 1600x1200")
    return int(match[2]), int(match[1])


def _awb(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, float] | int | None:
    """Two gains from ``1.8,1.5``, or kelvin from ``5000K``."""
    if value is None:
        return None
    if match := re.fullmatch(r"([1-9]\d{3,4})\s*k", value.strip().lower()):
        return int(match[1])
    if match := re.fullmatch(r"(\d+\.?\d*)\s*,\s*(\d+\.?\d*)", value.strip()):
        gains = float(match[1]), float(match[2])
        if all(0.1 <= gain <= 32 for gain in gains):
            return gains
    raise click.BadParameter(f"{value!r} is no white balance: write the gains of red and blue as 1.8,1.5, or 5000K")


def camera_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which camera, and how it takes images."""
    for option in reversed(
        (
            click.option(
                "--source",
                default="picamera2",
                show_default=True,
                help="picamera2, usb:0, a URL (http, https, rtsp), a video file or a folder of images.",
            ),
            click.option(
                "--size", metavar="WxH", callback=_size, help="Of the images.  [default: the camera's largest]"
            ),
            click.option(
                "--exposure",
                metavar="TIME",
                callback=duration(least_s=1e-6),
                help="As 12.5ms.  [default: found, locked]",
            ),
            click.option("--gain", type=Number(0, 1e6), help="Of the sensor.  [default: found, locked]"),
            click.option(
                "--awb",
                metavar="R,B",
                callback=_awb,
                help="White balance: gains of red and blue as 1.8,1.5, or 5000K.  [default: found, locked]",
            ),
            click.option(
                "--warm-up",
                metavar="TIME",
                callback=duration(),
                default="2s",
                show_default=True,
                help="Time for exposure and white balance to settle before they are locked.",
            ),
            click.option(
                "--timeout",
                metavar="TIME",
                callback=duration(least_s=0.1),
                default="10s",
                show_default=True,
                help="How long an image may take, beside its exposure, before the camera is opened again.",
            ),
            click.option(
                "--retries",
                type=click.IntRange(0, 1000),
                default=8,
                show_default=True,
                help="How often in a row it is opened again, 1, 2, 4 … 60 s apart, before the command fails with 3.",
            ),
        )
    ):
        command = option(command)
    return command


def opened(
    settings: Settings, source: str, timeout: float, retries: int, warn: Callable[[str], None], alarm: Alarm
) -> Supervised:
    """Open the camera, and say what it is and what was locked."""
    from cellseg_device.camera import parse
    from cellseg_device.camera.supervise import Limits, Supervised
    from cellseg_device.quiet import say

    opener = parse.opener(source, timeout, warn)
    camera = Supervised(opener, settings, Limits(timeout, retries), warn, alarm)
    locked = camera.settings.options
    say(f"camera: {camera.description}{'; locked: ' + locked if locked else ''}")
    return camera


def leave(camera: Supervised | None, code: int) -> NoReturn:
    """End the process; where a thread hangs in the camera's driver, past Python's own end, which would wait for it."""
    if camera is not None:
        camera.close()
        if camera.is_hung:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    raise SystemExit(code)


def fail(camera: Supervised | None, error: CameraError) -> NoReturn:
    """Show an error of the camera, and end the process."""
    error.show()
    leave(camera, error.exit_code)
