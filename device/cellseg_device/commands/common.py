"""What several commands have in common: options, loading a model, stopping on a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.memory import return_large_blocks
from cellseg_device.options import amount_of_bytes, duration

if TYPE_CHECKING:
    from cellseg_device.accelerator import Accelerated
    from cellseg_device.decoder import Decoder
    from cellseg_device.model import Model
    from cellseg_device.wake import Alarm

RESULTS_NAME = "cellseg-results"
_MOST_THREADS = 4  # more bring nothing on the small computers this is for

ACCELERATORS = ("auto", "cpu", "edgetpu")

PATH = click.Path(path_type=Path)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --model, --accelerator and --threads to a command."""
    command = click.option(
        "--threads",
        type=click.IntRange(1, 64),
        help=f"Threads for the network.  [default: one per core, at most {_MOST_THREADS}]",
    )(command)
    command = click.option(
        "--accelerator",
        type=click.Choice(ACCELERATORS),
        default="auto",
        show_default=True,
        help="What the network runs on. With auto, where there is a NAME_edgetpu.tflite beside NAME.tflite, an Edge "
        "TPU as long as it works; with edgetpu nothing goes without it.",
    )(command)
    return click.option("--model", type=PATH, help="A .tflite model with a card.  [default: the bundled one]")(command)


# What can be made beside the label image and the table of cells, and what it is
EXTRAS = {
    "overlay": "STEM.overlay.jpg: outlines and count",
    "rois": "STEM.rois.zip: selections for ImageJ",
    "geojson": "STEM.geojson: objects with measurements for QuPath",
    "coco": "STEM.coco.json: masks in COCO's format",
    "outlines": "STEM.outlines.txt: outlines as Cellpose writes them",
}


def result_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --strict, --json, and a flag for each of `EXTRAS`; the names of those wanted come as `extras`."""

    @wraps(command)
    def with_extras(*arguments: Any, **options: Any) -> Any:
        wanted = tuple([name for name in EXTRAS if options.pop(name)])
        return command(*arguments, extras=wanted, **options)

    decorated: Callable[..., Any] = with_extras
    decorated = click.option("--strict", is_flag=True, help="Exit with 1 if a count is flagged as doubtful.")(decorated)
    decorated = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")(decorated)
    for name, what in reversed(EXTRAS.items()):
        decorated = click.option(f"--{name}", is_flag=True, help=f"Also write {what}.")(decorated)
    return decorated


def upkeep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --keep-free and --retain, for commands that run for months."""
    command = click.option(
        "--retain",
        metavar="TIME",
        callback=duration(),
        help="Remove overlays and captures this long after their counts, as 30d; labels and tables stay.  "
        "[default: keep all]",
    )(command)
    return click.option(
        "--keep-free",
        metavar="SIZE",
        callback=amount_of_bytes,
        default="0",
        show_default=True,
        help="Take no work while the disk of the results has less room than this, as 1GB.",
    )(command)


def load(path: Path | None, threads: int | None, accelerator: str, warn: Callable[[str], None]) -> Model | Accelerated:
    """Load a model; where it differs from the known answer, that is told."""
    return_large_blocks()
    from cellseg_device import accelerator as accelerators
    from cellseg_device.model import bundled_path

    return accelerators.load(path or bundled_path(), threads or _default_threads(), accelerator, warn)


def fork_decoder() -> Decoder:
    """Make the decoder of a command, which ends with it; first of all, since a forked process should hold nothing."""
    from cellseg_device.decoder import Decoder

    decoder = Decoder()
    click.get_current_context().call_on_close(decoder.close)
    return decoder


def _default_threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def stop_on_signals() -> Alarm:
    """Let a first SIGTERM or SIGINT end the work after the image in hand, and a second one at once."""
    from cellseg_device.wake import Alarm

    alarm = Alarm()

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        alarm.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return alarm
