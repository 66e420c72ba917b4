"""The command line: parse, call, print. Each command imports what it needs, so that ``--help`` is quick."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import cellseg_device
from cellseg_device.errors import EXIT_IMAGES_FAILED
from cellseg_device.memory import return_large_blocks
from cellseg_device.options import parse_size

if TYPE_CHECKING:
    from cellseg_device.model import Model
    from cellseg_device.wake import Alarm


_RESULTS_NAME = "cellseg-results"
_MOST_THREADS = 4  # more bring nothing on the small computers this is for

_PATH = click.Path(path_type=Path)


def _model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--threads",
        type=click.IntRange(1, 64),
        help=f"Threads for the network.  [default: one per core, at most {_MOST_THREADS}]",
    )(command)
    return click.option("--model", type=_PATH, help="A .tflite model with a card.  [default: the bundled one]")(command)


def _result_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")(command)
    return click.option("--overlay", is_flag=True, help="Also write STEM.overlay.jpg: outlines and count.")(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cellseg_device.__version__, prog_name="cellseg-device")
def main() -> None:
    """Segment and count cells in microscope images, on this computer, offline.

    Results go to a folder: counts.csv with a row per image, and for every image STEM.labels.tif (a number per
    cell), STEM.cells.csv (a row per cell) and, with --overlay, STEM.overlay.jpg.

    Exit codes: 0 all well, 1 some images failed, 2 the command cannot work as given.
    """
    _open_standard_streams()


@main.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=_PATH)
@click.option("--out", type=_PATH, default=_RESULTS_NAME, show_default=True, help="Folder for the results.")
@_result_options
@_model_options
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
    alarm = _stop_on_signals()
    from cellseg_device import watch as watching
    from cellseg_device.console import Report
    from cellseg_device.output import Output
    from cellseg_device.worker import Worker

    report = Report(as_json, len(images))
    output = Output(out, report.warn)
    try:
        worker = Worker(_load(model, threads, report.warn), output, overlay)
        for outcome in watching.run(images, worker, alarm):
            report.add(outcome)
    finally:
        output.close()
    report.finish(out, alarm.stopping)
    raise SystemExit(EXIT_IMAGES_FAILED if alarm.stopping else report.exit_code)


@main.command()
@click.argument("folder", type=_PATH)
@click.option("--out", type=_PATH, help=f"Folder for the results.  [default: FOLDER/{_RESULTS_NAME}]")
@click.option("--once", is_flag=True, help="Do the images that are there, and stop.")
@click.option(
    "--settle",
    type=click.FloatRange(0),
    default=0.5,
    show_default=True,
    help="Seconds for which a file must not have changed before it is read.",
)
@click.option(
    "--poll",
    type=click.FloatRange(0.05),
    default=2.0,
    show_default=True,
    help="Seconds between looks at the folder; file events come on top.",
)
@_result_options
@_model_options
def watch(
    folder: Path,
    out: Path | None,
    once: bool,
    settle: float,
    poll: float,
    overlay: bool,
    as_json: bool,
    model: Path | None,
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
    """
    alarm = _stop_on_signals()
    from cellseg_device import watch as watching
    from cellseg_device.console import Report
    from cellseg_device.output import Output
    from cellseg_device.scan import check_folder
    from cellseg_device.worker import Worker

    check_folder(folder)
    out = out or folder / _RESULTS_NAME
    report = Report(as_json, len(watching.listed(folder, out)) if once else None)
    output = Output(out, report.warn)
    timing = watching.Timing(settle, poll)
    look = watching.once if once else watching.watch
    try:
        worker = Worker(_load(model, threads, report.warn), output, overlay)
        for outcome in look(folder, worker, timing, alarm):
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


@main.command()
@click.argument("model", type=_PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(model: Path | None, as_json: bool) -> None:
    """Show a model's card, operators, tensors and memory.

    \b
    Examples:
      cellseg-device info
      cellseg-device info mine.tflite --json
    """
    from cellseg_device import info as infos

    description = infos.describe(_load(model, 1))
    click.echo(json.dumps(description, indent=2, ensure_ascii=False) if as_json else infos.as_text(description))


@main.command()
@click.argument("image", type=_PATH, required=False)
@click.option(
    "--size", metavar="HxW", callback=parse_size, default="1200x1600", show_default=True, help="Of the built-in field."
)
@click.option("--runs", type=click.IntRange(1), default=20, show_default=True)
@click.option("--out", type=_PATH, help="Write on this folder's disk.  [default: the temporary folder's]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@_model_options
def bench(
    image: Path | None,
    size: tuple[int, int],
    runs: int,
    out: Path | None,
    as_json: bool,
    model: Path | None,
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
    runner = _load(model, threads)
    data = images.read(image) if image else benching.known_field(*size)
    with click.progressbar(length=runs, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        result = benching.bench(data, runner, runs, out, lambda number: bar.update(1))
    click.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else benching.as_text(result))


def _load(path: Path | None, threads: int | None, warn: Callable[[str], None] | None = None) -> Model:
    """Load a model; with `warn`, it has to give the known answer first."""
    return_large_blocks()
    from cellseg_device.model import Model, bundled_path

    model = Model(path or bundled_path(), threads or _default_threads())
    if warn is not None:
        from cellseg_device import selftest

        warning = selftest.check(model)
        if warning:
            warn(warning)
    return model


def _default_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def _open_standard_streams() -> None:
    """Open what of the three the caller closed: else a file of ours takes its number, and native code's messages."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _stop_on_signals() -> Alarm:
    """Let a first SIGTERM or SIGINT end the work after the image in hand, and a second one at once."""
    from cellseg_device.wake import Alarm

    alarm = Alarm()

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        alarm.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return alarm
