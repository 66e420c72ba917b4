"""``cellseg-device watch``: the images of a folder, and those that come."""

from __future__ import annotations

from functools import partial
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
    upkeep_options,
)
from cellseg_device.commands.counting_options import counting_options
from cellseg_device.commands.option_types import duration
from cellseg_device.errors import EXIT_IMAGES_FAILED

if TYPE_CHECKING:
    from cellseg_device.cells.counting import Counting
    from cellseg_device.pipeline.models import GateChoice
    from cellseg_device.watching.standing import Standing


@click.command(cls=Command)
@click.argument("folder", type=PATH)
@section(
    "Images",
    click.option("--recursive", is_flag=True, help="Look into the folders in FOLDER, too."),
    click.option("--once", is_flag=True, help="Do the images that are there, then stop."),
    redo_option,
    click.option(
        "--settle",
        metavar="TIME",
        callback=duration(),
        default="500ms",
        show_default=True,
        help="How long a file must not have changed before it is read.",
    ),
    click.option(
        "--poll",
        metavar="TIME",
        callback=duration(least_s=0.05),
        default="2s",
        show_default=True,
        help="Time between two scans of the folder. File events start one earlier, but network drives give none.",
    ),
)
@section("Counting", counting_options)
@section(
    "Results",
    click.option("--out", type=PATH, help=f"Folder for the results.  [default: FOLDER/{RESULTS_NAME}]"),
    result_options,
    upkeep_options,
    quiet_option,
)
@section("Model", model_options)
def watch(
    *,
    folder: Path,
    out: Path | None,
    recursive: bool,
    once: bool,
    redo: bool,
    settle: float,
    poll: float,
    counting: Counting,
    keep_free: int,
    retain: float | None,
    quiet: bool,
    extras: tuple[str, ...],
    asked: tuple[str, ...],
    strict: bool,
    as_json: bool,
    model: Path | None,
    gate: GateChoice,
    accelerator: str,
    threads: int | None,
) -> None:
    """Segment every image that is in FOLDER or comes into it.

    It may be stopped at any moment, even by switching the computer off: the next start continues where it stopped.
    Images that cannot be read are listed in failed.csv with the reason, and tried again when they change.

    With --once --redo all images are counted again, each result taking the place of the former one. If that is stopped,
    the results stay that were made until then, and a new --redo begins from the start.

    \b
    Examples:
      cellseg-device watch /captures
      cellseg-device watch /captures --out /results --rois
      cellseg-device watch /captures --once --json
      cellseg-device watch /mnt/microscope --recursive --poll 10s
      cellseg-device watch /captures --keep-free 1GB --retain 30d
    """
    stop = stop_on_signals()
    from cellseg_device.commands.console import Report
    from cellseg_device.image.sandbox import Decoder
    from cellseg_device.watching import watch as watching
    from cellseg_device.watching.scan import check_folder
    from cellseg_device.watching.session import worker_for

    if redo and not once:
        raise click.UsageError("--redo goes with --once: a watch would count all images again at each start")
    check_folder(folder)
    out = out or folder / RESULTS_NAME
    report = Report(as_json=as_json, strict=strict, quiet=quiet)
    loading = loading_for(out, model, gate, threads=threads, accelerator=accelerator, warn=report.warn)
    work = partial(watching.once, redo=redo) if once else watching.watch
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
            keep_free_bytes=keep_free,
            retain_s=retain,
            reload=None if once else loading.again,
            awaited=loading.awaited,
        ) as worker,
    ):
        timing = watching.Timing(settle, poll)

        def begin(standing: Standing) -> None:
            report.begin_folder(folder, standing, out, worker.models, is_watch=not once)

        for outcome in work(folder, worker, timing, stop, recursive=recursive, begin=begin):
            report.add(outcome)
    if once and report.is_empty and not stop.stopping:
        report.finish_empty(folder)
        return
    report.finish(out, is_stopped=stop.stopping, is_endless=not once)
    if not once:
        return
    raise SystemExit(EXIT_IMAGES_FAILED if stop.stopping else report.exit_code)
