"""``cellseg-device run``: the named images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command, section
from cellseg_device.commands.common import (
    PATH,
    RESULTS_NAME,
    loading_for,
    model_options,
    quiet_option,
    redo_option,
    result_options,
    stop_on_signals,
)
from cellseg_device.commands.counting_options import counting_options
from cellseg_device.errors import EXIT_IMAGES_FAILED

if TYPE_CHECKING:
    from cellseg_device.cells.counting import Counting
    from cellseg_device.pipeline.models import GateChoice


@click.command(cls=Command)
@click.argument("given", metavar="IMAGE|FOLDER...", nargs=-1, required=True, type=PATH)
@section(
    "Images",
    click.option("--recursive", is_flag=True, help="Look into the folders in each FOLDER, too."),
    redo_option,
)
@section("Counting", counting_options)
@section(
    "Results",
    click.option(
        "--out",
        type=PATH,
        help=f"Folder for the results.  [default: {RESULTS_NAME}; for one FOLDER alone FOLDER/{RESULTS_NAME}]",
    ),
    result_options,
    quiet_option,
)
@section("Model", model_options)
def run(
    *,
    given: tuple[Path, ...],
    recursive: bool,
    redo: bool,
    out: Path | None,
    counting: Counting,
    extras: tuple[str, ...],
    asked: tuple[str, ...],
    strict: bool,
    as_json: bool,
    quiet: bool,
    model: Path | None,
    gate: GateChoice,
    accelerator: str,
    threads: int | None,
) -> None:
    """Segment the named images, and those in the named folders.

    Images are PNG, JPEG, and TIFF of 1 to 16 bits or of floating-point numbers. One that was done before with the same
    model and settings, and has not changed since, is not done again, unless you ask for that with --redo; files that
    you ask for with a flag are then made of its stored result. If a --redo is stopped, the results stay that were made
    until then, and a new one begins from the start.

    \b
    Examples:
      cellseg-device run field.png
      cellseg-device run captures
      cellseg-device run captures/*.tif --out counted --rois
      cellseg-device run field.tif --diameter 12um --region circle
      cellseg-device run chamber-*.png --pixel-size-um 0.65 --depth-mm 0.1 --dilution 2
    """
    stop = stop_on_signals()
    from cellseg_device.commands.console import Report
    from cellseg_device.image.sandbox import Decoder
    from cellseg_device.watching import given as givens
    from cellseg_device.watching import watch as watching
    from cellseg_device.watching.session import worker_for
    from cellseg_device.watching.standing import PassedOver

    folder = givens.only_folder(given)
    out = out or (folder or Path()) / RESULTS_NAME
    images = givens.images_of(given, out, recursive=recursive)
    report = Report(as_json=as_json, strict=strict, total=len(images.paths), quiet=quiet)
    PassedOver(report.warn).note(images.passed_over)
    if not images.paths:
        report.finish_empty(*given)
        return
    loading = loading_for(out, model, gate, threads=threads, accelerator=accelerator, warn=report.warn)
    with (
        Decoder(is_stopping=lambda: stop.stopping) as decoder,
        worker_for(
            out,
            loading.first,
            report.warn,
            decode=decoder.decode,
            counting=counting,
            extras=extras,
            asked=asked,
            watched=folder,
        ) as worker,
    ):
        for outcome in watching.run(images.paths, worker, stop, redo=redo):
            report.add(outcome)
    report.finish(out, is_stopped=stop.stopping)
    raise SystemExit(EXIT_IMAGES_FAILED if stop.stopping else report.exit_code)
