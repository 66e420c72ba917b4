"""``cellseg-device camera``: images from a camera at even times, counted as they come."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command, section
from cellseg_device.commands.camera_options import camera_options, fail, leave, opened
from cellseg_device.commands.common import (
    PATH,
    RESULTS_NAME,
    loading_for,
    model_options,
    quiet_option,
    result_options,
    stop_on_signals,
    upkeep_options,
)
from cellseg_device.commands.counting_options import counting_options
from cellseg_device.commands.option_types import WholeNumber, duration
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, CameraError

if TYPE_CHECKING:
    from cellseg_device.cells.counting import Counting
    from cellseg_device.pipeline.models import GateChoice


@click.command(cls=Command)
@section("Camera", camera_options)
@section(
    "Images",
    click.option(
        "--every",
        metavar="TIME",
        callback=duration(),
        default="30s",
        show_default=True,
        help="Time from one image to the next; 0 for no pause.",
    ),
    click.option("--count", type=WholeNumber(1), help="How many images to take.  [default: until stopped]"),
    click.option(
        "--keep-originals/--discard-originals",
        default=True,
        show_default=True,
        help="Keep images in OUT/captures as PNG, or only in memory until their results are written.",
    ),
    click.option("--focus-aid", is_flag=True, help="Show a live score of sharpness instead, and count nothing."),
    click.option(
        "--preview", type=PATH, metavar="FILE.jpg", help="With --focus-aid: a small picture that is kept up to date."
    ),
)
@section("Counting", counting_options)
@section(
    "Results",
    click.option("--out", type=PATH, default=RESULTS_NAME, show_default=True, help="Folder for the results."),
    result_options,
    upkeep_options,
    quiet_option,
)
@section("Model", model_options)
def camera(
    *,
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
    """Take images at regular intervals, and segment them.

    Exposure, gain and white balance settle during the warm-up and are then locked, so that counts do not drift with the
    light; the values are printed as options for the next time. The results are like those of 'watch', and it may be
    stopped at any moment in the same way: images not yet counted are counted at the next start.

    While somebody looks at the screen Camera of the page ('serve'), it has a live picture there between two images.

    A camera that hangs or is unplugged is opened again. A file or folder is played from its start, an image per tick.

    \b
    Examples:
      cellseg-device camera --out counts --every 5min
      cellseg-device camera --source usb:0 --size 1600x1200 --exposure 10ms --count 20
      cellseg-device camera --source http://microscope:8080/stream --every 1min --discard-originals
      cellseg-device camera --focus-aid
    """
    stop = stop_on_signals()
    from cellseg_device.camera import parse
    from cellseg_device.camera.aid import focus_aid as show_focus
    from cellseg_device.camera.captures import Captures
    from cellseg_device.camera.live import Live
    from cellseg_device.camera.live_folder import LiveFolder
    from cellseg_device.camera.source import Settings
    from cellseg_device.camera.timelapse import timelapse
    from cellseg_device.commands.console import Report
    from cellseg_device.image.sandbox import Decoder
    from cellseg_device.system import notify
    from cellseg_device.watching.session import worker_for
    from cellseg_device.watching.watch import open_output

    if preview is not None and not focus_aid:
        raise click.UsageError("--preview goes with --focus-aid")
    report = Report(as_json=as_json, strict=strict, total=count, quiet=quiet)
    settings = Settings(size, exposure, gain, awb, warm_up)
    decoder = click.get_current_context().with_resource(Decoder(is_stopping=lambda: stop.stopping))
    opening = partial(
        opened, settings, source, decoder, timeout_s=timeout, retries=retries, warn=report.warn, stop=stop
    )
    captures = Captures(out, keep=keep_originals)
    taking = live = None
    try:
        if focus_aid:
            taking = opening()
            show_focus(taking, stop, count=count, as_json=as_json, preview=preview)
            leave(taking, EXIT_OK)
        loading = loading_for(out, model, gate, threads=threads, accelerator=accelerator, warn=report.warn)
        with worker_for(
            out,
            loading.first,
            report.warn,
            decode=decoder.decode,
            counting=counting,
            extras=extras,
            asked=asked,
            keep_free_bytes=keep_free,
            retain_s=retain,
            reload=loading.again,
            awaited=loading.awaited,
        ) as worker:
            open_output(worker, is_patient=True)
            taking = opening()
            pace = f"an image every {every:g} s" if every else "one image after the other"
            report.begin(f"taking {pace}, {f'{count:,} in all' if count else 'until stopped'}", out, worker.models)
            live = Live(LiveFolder(out), taking, is_played=parse.is_played(source))
            for outcome in timelapse(taking, captures, worker, stop, every_s=every, count=count, live=live):
                report.add(outcome)
    except CameraError as error:
        fail(taking, error)
    finally:
        notify.stopping()
        captures.close()
        if live is not None:
            live.end()
    report.finish(out, is_stopped=stop.stopping, is_endless=count is None)
    if count is None and stop.stopping:
        leave(taking, EXIT_OK)
    leave(taking, EXIT_IMAGES_FAILED if stop.stopping else report.exit_code)
