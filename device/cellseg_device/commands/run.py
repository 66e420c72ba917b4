"""``cellseg-device run``: the named images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.commands.common import (
    PATH,
    RESULTS_NAME,
    fork_decoder,
    load,
    model_options,
    result_options,
    stop_on_signals,
)
from cellseg_device.commands.counting_options import counting_options
from cellseg_device.errors import EXIT_IMAGES_FAILED

if TYPE_CHECKING:
    from cellseg_device.counting import Counting


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, default=RESULTS_NAME, show_default=True, help="Folder for the results.")
@counting_options
@result_options
@model_options
def run(
    images: tuple[Path, ...],
    out: Path,
    counting: Counting,
    extras: tuple[str, ...],
    strict: bool,
    as_json: bool,
    model: Path | None,
    accelerator: str,
    threads: int | None,
) -> None:
    """Segment the named images (PNG, JPEG, 8- or 16-bit TIFF).

    An image that was done before with the same model and settings, and has not changed since, is not done again.

    \b
    Examples:
      cellseg-device run field.png
      cellseg-device run captures/*.tif --out counted --overlay
      cellseg-device run field.tif --diameter 12um --region circle
      cellseg-device run chamber-*.png --pixel-size-um 0.65 --depth-mm 0.1 --dilution 2
    """
    alarm = stop_on_signals()
    decoder = fork_decoder()
    from cellseg_device import watch as watching
    from cellseg_device.console import Report
    from cellseg_device.output import Output
    from cellseg_device.worker import Worker

    report = Report(as_json, strict, len(images))
    output = Output(out, report.warn)
    try:
        worker = Worker(load(model, threads, accelerator, report.warn), output, extras, counting, decoder.decode)
        for outcome in watching.run(images, worker, alarm):
            report.add(outcome)
    finally:
        output.close()
    report.finish(out, alarm.stopping)
    raise SystemExit(EXIT_IMAGES_FAILED if alarm.stopping else report.exit_code)
