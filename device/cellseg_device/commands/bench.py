"""``cellseg-device bench``: how long each step takes on this computer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command, section
from cellseg_device.commands.common import PATH, load, model_options
from cellseg_device.commands.option_types import WholeNumber, image_size
from cellseg_device.errors import ImageError, InputError
from cellseg_device.stderr import say_warning

if TYPE_CHECKING:
    from cellseg_device.pipeline.models import GateChoice


@click.command(cls=Command, short_help="Measure how long each step takes on this computer.")
@click.argument("image", type=PATH, required=False)
@section(
    "Measurement",
    click.option(
        "--size",
        metavar="WIDTHxHEIGHT",
        callback=image_size,
        default="1600x1200",
        show_default=True,
        help="Size of the built-in field in pixels.",
    ),
    click.option("--runs", type=WholeNumber(1), default=20, show_default=True, help="Number of runs to measure."),
    click.option("--out", type=PATH, help="Write to this folder's disk.  [default: the temporary folder's]"),
    click.option("--json", "as_json", is_flag=True, help="Print it as JSON."),
)
@section("Model", model_options)
def bench(
    *,
    image: Path | None,
    size: tuple[int, int],
    runs: int,
    out: Path | None,
    as_json: bool,
    model: Path | None,
    gate: GateChoice,
    accelerator: str,
    threads: int | None,
) -> None:
    """Measure on this computer each step from an image file to its results on the disk.

    Without IMAGE, a built-in field of nuclei is repeated to fill --size.

    \b
    Examples:
      cellseg-device bench
      cellseg-device bench field.tif --threads 1 --json
    """
    from cellseg_device.image import opencv
    from cellseg_device.image.sandbox import Decoder
    from cellseg_device.image.source import read
    from cellseg_device.watching import bench as benching

    if image is None and max(size) > opencv.MAX_SIDE_PX:
        raise click.BadParameter(f"at most {opencv.MAX_SIDE_PX} pixels a side", param_hint="--size")
    with Decoder() as decoder:
        models = load(model, gate, threads, accelerator, say_warning)
        try:
            data = read(image) if image else benching.known_field(*size)
            with click.progressbar(length=runs, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
                result = benching.bench(data, models, runs, out, lambda _number: bar.update(1), decode=decoder.decode)
        except ImageError as error:
            raise InputError(f"{image or 'the built-in field'}: {error.message}") from None
    click.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else benching.as_text(result))
