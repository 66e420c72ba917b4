"""The options of the commands that take images from a camera, and opening that camera."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cellseg_device.commands.option_types import Number, WholeNumber, duration, image_size
from cellseg_device.errors import CameraError

if TYPE_CHECKING:
    from cellseg_device.camera.source import Settings
    from cellseg_device.camera.supervise import Supervised
    from cellseg_device.image.sandbox import Decoder
    from cellseg_device.watching.wake import StopSignal


def _awb(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[float, float] | int | None:
    """Return two gains from ``1.8,1.5``, or kelvin from ``5000K``."""
    if value is None:
        return None
    if match := re.fullmatch(r"([1-9]\d{3,4})\s*k", value.strip().lower()):
        return int(match[1])
    if match := re.fullmatch(r"(\d+\.?\d*)\s*,\s*(\d+\.?\d*)", value.strip()):
        gains = float(match[1]), float(match[2])
        if all(0.1 <= gain <= 32 for gain in gains):
            return gains
    raise click.BadParameter(f"{value!r} is not a white balance: write the gains of red and blue as 1.8,1.5, or 5000K")


def camera_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the camera and how it takes images to a command."""
    for option in reversed(
        (
            click.option(
                "--source",
                metavar="SOURCE",
                default="picamera2",
                show_default=True,
                help="picamera2, usb:0, a URL (http, https, rtsp), a video file, a folder of images, or @FILE, a file "
                "with one of these in it.",
            ),
            click.option(
                "--size",
                metavar="WIDTHxHEIGHT",
                callback=image_size,
                help="Size of the images in pixels, as 1600x1200.  [default: the camera's largest]",
            ),
            click.option(
                "--exposure",
                metavar="TIME",
                callback=duration(least_s=1e-6),
                help="Exposure time, as 12.5ms.  [default: found by the camera, then locked]",
            ),
            click.option(
                "--gain",
                type=Number(0, 1e6),
                metavar="FACTOR",
                help="Gain of the sensor.  [default: found by the camera, then locked]",
            ),
            click.option(
                "--awb",
                metavar="R,B",
                callback=_awb,
                help="White balance: gains of red and blue as 1.8,1.5, or 5000K.  [default: found by the camera, then "
                "locked]",
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
                help="How long an image may take, in addition to its exposure, before the camera is opened again.",
            ),
            click.option(
                "--retries",
                type=WholeNumber(0, 1000),
                default=8,
                show_default=True,
                help="How often in a row the camera is opened again, 1, 2, 4 … 60 s apart, before the command fails "
                "with exit code 3.",
            ),
        )
    ):
        command = option(command)
    return command


def opened(
    settings: Settings,
    source: str,
    decoder: Decoder,
    *,
    timeout_s: float,
    retries: int,
    warn: Callable[[str], None],
    stop: StopSignal,
) -> Supervised:
    """Return the camera, opened, and print what it is and what was locked."""
    from cellseg_device.camera import parse
    from cellseg_device.camera.supervise import Limits, Supervised
    from cellseg_device.stderr import say

    opener = parse.opener(source, timeout_s, warn, decoder)
    camera = Supervised(opener, settings, Limits(timeout_s, retries), warn, stop)
    click.get_current_context().call_on_close(camera.close)
    locked = camera.settings.options
    if camera.description:  # else it was stopped meanwhile
        say(f"camera: {camera.description}{'; locked: ' + locked if locked else ''}")
    return camera


def leave(camera: Supervised | None, code: int) -> NoReturn:
    """End the process, at once if a thread hangs in the camera's driver: Python's own exit would wait for it."""
    if camera is not None:
        camera.close()
        if camera.is_hung:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    raise SystemExit(code)


def fail(camera: Supervised | None, error: CameraError) -> NoReturn:
    """Print an error of the camera, and end the process."""
    error.show()
    leave(camera, error.exit_code)
