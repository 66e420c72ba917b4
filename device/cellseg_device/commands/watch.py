"""``cellseg-device watch``: the images of a folder, and those that come."""

from __future__ import annotations

from functools import partial
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
    upkeep_options,
)
from cellseg_device.commands.counting_options import counting_options
from cellseg_device.errors import EXIT_IMAGES_FAILED
from cellseg_device.options import duration

if TYPE_CHECKING:
    from cellseg_device.counting import Counting


@click.command()
@click.argument("folder", type=PATH)
@click.option("--out", type=PATH, help=f"Folder for the results.  [default: FOLDER/{RESULTS_NAME}]")
@click.option("--recursive", is_flag=True, help="Look into the folders in FOLDER, too.")
@click.option("--once", is_flag=True, help="Do the images that are there, and stop.")
@click.option(
    "--settle",
    metavar="TIME",
    callback=duration(),
    default="500ms",
    show_default=True,
    help="How long a file must not have changed before it is read.",
)
@click.option(
    "--poll",
    metavar="TIME",
    callback=duration(least_s=0.05),
    default="2s",
    show_default=True,
    help="Time between looks at the folder; file events come on top, but not from a network drive.",
)
@counting_options
@upkeep_options
@result_options
@model_options
def watch(
    folder: Path,
    out: Path | None,
    recursive: bool,
    once: bool,
    settle: float,
    poll: float,
    counting: Counting,
    keep_free: int,
    retain: float | None,
    extras: tuple[str, ...],
    strict: bool,
    as_json: bool,
    model: Path | None,
    accelerator: str,
    threads: int | None,
) -> None:
    """Segment every image that is in FOLDER or comes into it.

    It may be stopped at any moment, in any way: the next start goes on where it was. Images that cannot be
    read are listed in failed.csv with the reason, and tried again when they change.

    \b
    Examples:
      cellseg-device watch /captures
      cellseg-device watch /captures --out /results --overlay
      cellseg-device watch /captures --once --json
      cellseg-device watch /mnt/microscope --recursive --poll 10s
      cellseg-device watch /captures --overlay --keep-free 1GB --retain 30d
    """
    alarm = stop_on_signals()
    decoder = fork_decoder()
    from cellseg_device import watch as watching
    from cellseg_device.console import Report
    from cellseg_device.output import Output
    from cellseg_device.renewal import Renewal
    from cellseg_device.retention import Retention
    from cellseg_device.scan import check_folder
    from cellseg_device.worker import Worker

    check_folder(folder)
    out = out or folder / RESULTS_NAME
    report = Report(as_json, strict, len(watching.listed(folder, out, recursive)) if once else None)
    output = Output(out, report.warn, keep_free)
    timing = watching.Timing(settle, poll)
    look = watching.once if once else watching.watch
    try:
        worker = Worker(load(model, threads, accelerator, report.warn), output, extras, counting, decoder.decode)
        worker.retention = Retention(output, retain) if retain is not None else None
        if not once:
            worker.renewal = Renewal(worker.model, partial(load, model, threads, accelerator, report.warn), report.warn)
        for outcome in look(folder, worker, timing, alarm, recursive):
            report.add(outcome)
    finally:
        output.close()
    if not once:
        return
    if report.is_empty and not alarm.stopping:
        click.echo(f"no images in {folder}: nothing to do", err=as_json)
        return
    report.finish(out, alarm.stopping)
    raise SystemExit(EXIT_IMAGES_FAILED if alarm.stopping else report.exit_code)
