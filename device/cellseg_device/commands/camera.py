"""``cellseg-device camera``: images from a camera at even times, counted as they come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.commands.camera_options import camera_options, fail, leave, opened
from cellseg_device.commands.common import (
    PATH,
    RESULTS_NAME,
    load,
    model_options,
    result_options,
    stop_on_signals,
    upkeep_options,
)
from cellseg_device.commands.counting_options import counting_options
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, CameraError
from cellseg_device.options import duration

if TYPE_CHECKING:
    from cellseg_device.counting import Counting


@click.command()
@click.option("--out", type=PATH, default=RESULTS_NAME, show_default=True, help="Folder for the results.")
@click.option(
    "--every",
    metavar="TIME",
    callback=duration(),
    default="30s",
    show_default=True,
    help="From one image to the next; 0 for no pause.",
)
@click.option("--count", type=click.IntRange(1), help="How many images to take.  [default: until stopped]")
@click.option(
    "--keep-originals/--discard-originals",
    default=True,
    show_default=True,
    help="Images go to OUT/captures as PNG, or stay in memory until their results are written.",
)
@click.option("--focus-aid", is_flag=True, help="Show a score of sharpness instead, live; nothing is counted.")
@click.option("--preview", type=PATH, metavar="FILE.jpg", help="With --focus-aid: a small picture that follows.")
@camera_options
@counting_options
@upkeep_options
@result_options
@model_options
def camera(
    out: Path,
    every: float,
    count: int | None,
    keep_originals: bool,
    focus_aid: bool,
    preview: Path | None,
    source: str,
    size: tuple[int, int] | None,
    exposure: float | None,
    gain: float | None,
    awb: tuple[float, float] | int | None,
    warm_up: float,
    timeout: float,
    retries: int,
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
    """Take an image every so often, and segment it.

    Exposure, gain and white balance settle during the warm-up and are locked then, so that counts do not drift
    with the light; the values are printed as options, for the next time. Results are as those of 'watch', and it
    may be stopped at any moment in the same way: what was taken and not yet counted is counted at the next start.

    A camera that hangs or is unplugged is opened again. A file or folder is played from its start, an image per tick.

    \b
    Examples:
      cellseg-device camera --out counts --every 5min
      cellseg-device camera --source usb:0 --size 1600x1200 --exposure 10ms --count 20
      cellseg-device camera --source http://microscope:8080/stream --every 1min --discard-originals
      cellseg-device camera --focus-aid
    """
    alarm = stop_on_signals()
    from cellseg_device import notify
    from cellseg_device.camera.aid import focus_aid as show_focus
    from cellseg_device.camera.captures import Captures
    from cellseg_device.camera.source import Settings
    from cellseg_device.camera.timelapse import timelapse
    from cellseg_device.console import Report
    from cellseg_device.output import Output
    from cellseg_device.retention import Retention
    from cellseg_device.watch import MAY_PASS, open_output
    from cellseg_device.worker import Worker

    if preview is not None and not focus_aid:
        raise click.UsageError("--preview goes with --focus-aid")
    report = Report(as_json, strict, count)
    output = Output(out, report.warn, keep_free)
    settings = Settings(size, exposure, gain, awb, warm_up)
    captures = Captures(out, keep_originals)
    taking = None
    try:
        if focus_aid:
            taking = opened(settings, source, timeout, retries, report.warn, alarm)
            show_focus(taking, alarm, count, as_json, preview)
            leave(taking, EXIT_OK)
        worker = Worker(load(model, threads, accelerator, report.warn), output, extras, counting)
        worker.retention = Retention(output, retain) if retain is not None else None
        open_output(worker, MAY_PASS)
        taking = opened(settings, source, timeout, retries, report.warn, alarm)
        for outcome in timelapse(taking, captures, worker, every, count, alarm):
            report.add(outcome)
    except CameraError as error:
        fail(taking, error)
    finally:
        notify.stopping()
        captures.close()
        output.close()
    if count is None and alarm.stopping:
        leave(taking, EXIT_OK)
    report.finish(out, alarm.stopping)
    leave(taking, EXIT_IMAGES_FAILED if alarm.stopping else report.exit_code)
