"""``cellseg-device snap``: one image from a camera, into a file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import click

from cellseg_device.command_line import Command, section
from cellseg_device.commands.camera_options import camera_options, fail, leave, opened
from cellseg_device.commands.common import PATH, stop_on_signals
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, CameraError, InputError, OutputError
from cellseg_device.stderr import say_warning

_SUFFIXES = (".png", ".tif", ".tiff")


@click.command(cls=Command, short_help="Take one image and save it; nothing is counted.")
@section("Camera", camera_options)
@section(
    "Result",
    click.option("--out", type=PATH, metavar="FILE", help="A .png or .tif.  [default: snap-TIME.png here]"),
    click.option("--force", is_flag=True, help="Overwrite an existing file."),
    click.option("--json", "as_json", is_flag=True, help="Print a JSON object."),
)
def snap(
    *,
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
    """Take one image and save it without loss; nothing is counted.

    \b
    Examples:
      cellseg-device snap
      cellseg-device snap --source usb:0 --size 1600x1200 --out field.png
    """
    stop = stop_on_signals()
    from cellseg_device.camera.captures import encoded
    from cellseg_device.camera.source import EndOfImages, Settings
    from cellseg_device.image import focus
    from cellseg_device.image.sandbox import Decoder
    from cellseg_device.system import files

    out = out or Path(time.strftime("snap-%Y%m%dT%H%M%SZ.png", time.gmtime()))
    suffix = out.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{out} does not end in {', '.join(_SUFFIXES)}: choose such a name (JPEG would lose detail)")
    if os.path.lexists(out) and not force:
        raise InputError(f"{out} already exists: choose another name, or overwrite it with --force")
    taking = None
    decoder = click.get_current_context().with_resource(Decoder(is_stopping=lambda: stop.stopping))
    try:
        taking = opened(
            Settings(size, exposure, gain, awb, warm_up),
            source,
            decoder,
            timeout_s=timeout,
            retries=retries,
            warn=say_warning,
            stop=stop,
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
