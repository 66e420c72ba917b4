"""``cellseg-device snap``: one image from a camera, into a file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click

from cellseg_device.commands.camera_options import camera_options, fail, leave, opened
from cellseg_device.commands.common import PATH, stop_on_signals
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, CameraError, InputError, OutputError
from cellseg_device.quiet import say

_SUFFIXES = (".png", ".tif", ".tiff")


@click.command()
@click.option("--out", type=PATH, metavar="FILE", help="A .png or .tif.  [default: snap-TIME.png here]")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@camera_options
def snap(
    out: Path | None,
    force: bool,
    as_json: bool,
    source: str,
    size: tuple[int, int] | None,
    exposure: float | None,
    gain: float | None,
    awb: tuple[float, float] | int | None,
    warm_up: float,
    timeout: float,
    retries: int,
) -> None:
    """Take one image, without loss, and count nothing.

    \b
    Examples:
      cellseg-device snap
      cellseg-device snap --source usb:0 --size 1600x1200 --out field.png
    """
    alarm = stop_on_signals()
    from cellseg_device import files, focus
    from cellseg_device.camera.captures import encoded
    from cellseg_device.camera.source import EndOfImages, Settings

    out = out or Path(time.strftime("snap-%Y%m%dT%H%M%SZ.png", time.gmtime()))
    suffix = out.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{out}: the name has to end in {', '.join(_SUFFIXES)} (JPEG would lose detail)")
    if os.path.lexists(out) and not force:
        raise InputError(f"{out} is there: choose another name, or --force to write over it")
    taking = None
    try:
        taking = opened(
            Settings(size, exposure, gain, awb, warm_up),
            source,
            timeout,
            retries,
            lambda line: say(f"warning: {line}"),
            alarm,
        )
        pixels = taking.capture()
    except CameraError as error:
        fail(taking, error)
    except EndOfImages:
        raise InputError(f"{source} has no image in it: choose another") from None
    if pixels is None:
        leave(taking, EXIT_IMAGES_FAILED)
    try:
        files.write(out, encoded(pixels, suffix))
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror}): choose another --out") from None
    height, width = pixels.shape[:2]
    score = focus.score(pixels)
    if as_json:
        click.echo(json.dumps({"image": str(out), "height_px": height, "width_px": width, "focus": round(score, 6)}))
    else:
        click.echo(f"{out}  {width}×{height}  focus {score:.4f}")
    leave(taking, EXIT_OK)
