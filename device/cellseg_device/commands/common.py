"""What several commands have in common: options, loading a model, stopping on a signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cellseg_device.commands.option_types import PathOrNone, WholeNumber, amount_of_bytes, duration
from cellseg_device.system.memory import return_large_blocks

if TYPE_CHECKING:
    from cellseg_device.pipeline.in_use import Loading
    from cellseg_device.pipeline.models import GateChoice, Models
    from cellseg_device.results.export import Originals
    from cellseg_device.watching.wake import StopSignal

RESULTS_NAME = "cellseg-results"
_MOST_THREADS = 4  # more make nothing faster on the small computers that this is for

ACCELERATORS = ("auto", "cpu", "edgetpu")

PATH = click.Path(path_type=Path)


def results_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add RESULTS to a command, as `out`: a folder of results, or one in which `watch` left such a folder."""

    def found(_context: click.Context, _parameter: click.Parameter, given: Path) -> Path:
        return results_folder(given)

    decorated: Callable[..., Any] = click.argument("out", metavar="RESULTS", type=PATH, callback=found)(command)
    return decorated


def results_folder(given: Path) -> Path:
    """Return the folder of results that is meant: the given one, or `RESULTS_NAME` in it if only that holds any."""
    inner = given / RESULTS_NAME
    return inner if _holds_results(inner) and not _holds_results(given) else given


def _holds_results(folder: Path) -> bool:
    from cellseg_device.results import ledger, tables

    # Path.is_file raises where it may not look, or the name is too long
    return any(os.path.isfile(folder / name) for name in (ledger.FILE_NAME, tables.COUNTS_NAME))  # noqa: PTH113


gate_option = click.option(
    "--gate",
    type=PathOrNone(),
    metavar="FILE|none",
    help="A classifier, as a .tflite with a card, that says for each image with which model it is counted, or that it "
    "is empty, or unlike what the models are made for.  [default: the bundled one, if there is one and --model is not "
    "given]",
)


threads_option = click.option(
    "--threads",
    type=WholeNumber(1, 64),
    help=f"Threads for the network.  [default: one per core, at most {_MOST_THREADS}]",
)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --model, --gate, --accelerator and --threads to a command."""
    command = threads_option(command)
    command = click.option(
        "--accelerator",
        type=click.Choice(ACCELERATORS),
        default="auto",
        show_default=True,
        help="What the network runs on. auto: an Edge TPU while one works, if there is a NAME_edgetpu.tflite beside "
        "NAME.tflite, else the CPU; edgetpu: an Edge TPU or nothing.",
    )(command)
    command = gate_option(command)
    return click.option(
        "--model",
        type=PATH,
        help="A .tflite model with a card.  [default: the model in use of the results, models/in-use.tflite, if there "
        "is one; else the bundled one]",
    )(command)


# Files that can be made beside the label image and the table of cells
EXTRAS = {
    "overlay": "STEM.overlay.jpg: the image with the cells' outlines, and their count",
    "numbers": "STEM.numbers.jpg: the same with each cell's label",
    "rois": "STEM.rois.zip: selections for ImageJ",
    "geojson": "STEM.geojson: objects with measurements for QuPath",
    "coco": "STEM.coco.json: masks in COCO's format",
    "outlines": "STEM.outlines.txt: outlines as Cellpose writes them",
}


_BY_DEFAULT = "overlay"


def result_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --strict, --json, and a flag for each of `EXTRAS`.

    The names of those wanted come as `extras`, and those that somebody asked for, on the command line or in a settings
    file, as `asked`.
    """

    @wraps(command)
    def with_extras(*arguments: Any, **options: Any) -> Any:
        source_of = click.get_current_context().get_parameter_source
        wanted = tuple([name for name in EXTRAS if options.pop(name)])
        asked = tuple([name for name in wanted if source_of(name) is not ParameterSource.DEFAULT])
        return command(*arguments, extras=wanted, asked=asked, **options)

    decorated: Callable[..., Any] = with_extras
    decorated = click.option("--strict", is_flag=True, help="Exit with 1 if a count is flagged as doubtful.")(decorated)
    decorated = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")(decorated)
    for name, what in reversed(EXTRAS.items()):
        is_default = name == _BY_DEFAULT
        decorated = click.option(
            f"--{name}/--no-{name}" if is_default else f"--{name}",
            is_flag=True,
            default=is_default,
            show_default=is_default,
            help=f"Also write {what}.",
        )(decorated)
    return decorated


quiet_option = click.option("--quiet", is_flag=True, help="Print only warnings and errors (and with --json, that).")
redo_option = click.option("--redo", is_flag=True, help="Count again what was counted before, too.")


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
        help="Count nothing while the disk of the results has less room than this, as 1GB.",
    )(command)


def load(
    path: Path | None, gate: GateChoice, threads: int | None, accelerator: str, warn: Callable[[str], None]
) -> Models:
    """Load a model, and the gate, and warn where one does not give its known answer."""
    return_large_blocks()
    from cellseg_device.pipeline import models

    return models.load(path, gate, threads or default_threads(), accelerator, warn)


def loading_for(
    out: Path,
    path: Path | None,
    gate: GateChoice,
    *,
    threads: int | None,
    accelerator: str,
    warn: Callable[[str], None],
) -> Loading:
    """Return what loads the models of a results folder: where none is named, with the one that is in use there."""
    return_large_blocks()
    from cellseg_device.pipeline.in_use import Loading

    return Loading(out, path, gate, threads or default_threads(), accelerator, warn)


def opened_originals(out: Path, folder: Path | None) -> Originals:
    """Return the images that results are of, decoded in another process, which ends with the command.

    Parameters
    ----------
    out : Path
        The output folder.
    folder : Path or None
        Where they are; None for the folder that the output folder is in, or itself.
    """
    from cellseg_device.image.sandbox import Decoder
    from cellseg_device.results.export import Originals
    from cellseg_device.watching import scan

    if folder is not None:
        scan.check_folder(folder)
    # Besides the watched folder, images are named by their path within the folder that the results lie in
    folders = (out.absolute().parent, out) if folder is None else (folder, out.absolute().parent)
    decoder = click.get_current_context().with_resource(Decoder())
    return Originals.under(folders, out, decoder.decode)


def default_threads() -> int:
    """Return the number of cores, if that is not more than what makes a network faster."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def stop_on_signals() -> StopSignal:
    """Have a first SIGTERM or SIGINT end the work after the present image, and a second one at once."""
    from cellseg_device.watching.wake import StopSignal

    stop = StopSignal()

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    return stop
