"""``cellseg-device bench``: how long each step takes here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cellseg_device.commands.common import PATH, load, model_options
from cellseg_device.errors import ImageError, InputError
from cellseg_device.options import parse_size
from cellseg_device.quiet import say


@click.command()
@click.argument("image", type=PATH, required=False)
@click.option(
    "--size", metavar="HxW", callback=parse_size, default="1200x1600", show_default=True, help="Of the built-in field."
)
@click.option("--runs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--out", type=PATH, help="Write on this folder's disk.  [default: the temporary folder's]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@model_options
def bench(
    image: Path | None,
    size: tuple[int, int],
    runs: int,
    out: Path | None,
    as_json: bool,
    model: Path | None,
    accelerator: str,
    threads: int | None,
) -> None:
    """Measure each step from an image file to results on the disk, on this computer.

    Without IMAGE, a built-in field of nuclei is repeated to --size.

    \b
    Examples:
      cellseg-device bench
      cellseg-device bench field.tif --threads 1 --json
    """
    from cellseg_device import bench as benching
    from cellseg_device import image as images

    if image is None and max(size) > images.MAX_SIDE_PX:
        raise click.BadParameter(f"at most {images.MAX_SIDE_PX} pixels a side", param_hint="--size")
    runner = load(model, threads, accelerator, lambda line: say(f"warning: {line}"))
    try:
        data = images.read(image) if image else benching.known_field(*size)
        with click.progressbar(length=runs, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            result = benching.bench(data, runner, runs, out, lambda number: bar.update(1))
    except ImageError as error:
        raise InputError(f"{image or 'the built-in field'} {error.message}") from None
    click.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else benching.as_text(result))
