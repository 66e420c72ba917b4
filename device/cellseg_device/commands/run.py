"""``cellseg-device run``: the named images."""

from __future__ import annotations

from pathlib import Path

import click

from cellseg_device.commands.common import PATH, RESULTS_NAME, load, model_options, result_options, stop_on_signals
from cellseg_device.errors import EXIT_IMAGES_FAILED


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, default=RESULTS_NAME, show_default=True, help="Folder for the results.")
@result_options
@model_options
def run(
    images: tuple[Path, ...], out: Path, overlay: bool, as_json: bool, model: Path | None, threads: int | None
) -> None:
    """Segment the named images (PNG, JPEG, 8- or 16-bit TIFF).

    An image that was done before with the same model and has not changed since is not done again.

    \b
    Examples:
      cellseg-device run field.png
      cellseg-device run captures/*.tif --out counted --overlay
    """
    alarm = stop_on_signals()
    from cellseg_device import watch as watching
    from cellseg_device.console import Report
    from cellseg_device.output import Output
    from cellseg_device.worker import Worker

    report = Report(as_json, len(images))
    output = Output(out, report.warn)
    try:
        worker = Worker(load(model, threads, report.warn), output, overlay)
        for outcome in watching.run(images, worker, alarm):
            report.add(outcome)
    finally:
        output.close()
    report.finish(out, alarm.stopping)
    raise SystemExit(EXIT_IMAGES_FAILED if alarm.stopping else report.exit_code)
