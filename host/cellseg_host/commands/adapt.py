"""The command ``cellseg-host adapt``."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.command_line import Command, section
from cellseg_device.errors import EXIT_NOT_BETTER, CellsegError, InputError
from cellseg_device.units import plural
from cellseg_host.adapt.settings import Settings
from cellseg_host.training.settings import FREEZES

if TYPE_CHECKING:
    from cellseg_device.results.correction_file import Corrections
    from cellseg_host.adapt.adapt import Adapted, Watcher
    from cellseg_host.adapt.corrected import Checked
    from cellseg_host.adapt.judge import Judged
    from cellseg_host.adapt.pace import Pace
    from cellseg_host.adapt.start import Start
    from cellseg_host.adapt.verdict import Verdict

_DEFAULT = Settings()


class NotBetterError(CellsegError):
    """The new model is not better than the old one, so it was not written."""

    exit_code = EXIT_NOT_BETTER


@click.command(cls=Command, short_help="Teach a model your cells, from a handful of corrected images.")
@click.argument("corrections", type=click.Path(path_type=Path, exists=True))
@section(
    "Model",
    click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        required=True,
        help="The new model's file, NAME.tflite; a page, NAME.html, is written beside it.",
    ),
    click.option(
        "--init",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="MODEL.tflite",
        help="The model to start from.  [default: the one that the corrections were made with, or nuclei]",
    ),
    click.option(
        "--anyway",
        is_flag=True,
        help="Write the new model even if it is not better, or nothing can tell whether it is.",
    ),
)
@section(
    "Data",
    click.option(
        "--replay",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        metavar="DATASET",
        help="Show images of this dataset's train split again, so that the model does not forget them. Synthetic "
        "fields of the kinds that the start model knows are shown in any case.",
    ),
)
@section(
    "Work",
    click.option(
        "--work",
        type=click.Path(path_type=Path, file_okay=False),
        help="Folder for what is made on the way.  [default: NAME.adapt beside --out, removed at the end]",
    ),
    click.option("--resume", is_flag=True, help="Go on with what was begun in the work folder."),
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, and nothing else."),
)
@section(
    "Training",
    click.option(
        "--epochs", type=click.IntRange(1), default=_DEFAULT.epochs, show_default=True, help="Epochs of each model."
    ),
    click.option(
        "--steps", type=click.IntRange(1), default=_DEFAULT.steps, show_default=True, help="Batches in an epoch."
    ),
    click.option(
        "--learning-rate",
        type=click.FloatRange(0, min_open=True),
        default=_DEFAULT.learning_rate,
        show_default=True,
        help="The highest rate.",
    ),
    click.option(
        "--freeze",
        type=click.Choice(FREEZES),
        default=_DEFAULT.freeze,
        show_default=True,
        help="Layers that keep their weights.",
    ),
    click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed makes the same model."
    ),
)
def adapt(
    *,
    corrections: Path,
    out: Path,
    init: Path | None,
    anyway: bool,
    replay: Path | None,
    work: Path | None,
    resume: bool,
    as_json: bool,
    **training: Any,
) -> None:
    """Make from a handful of corrected images a model that is proven better on your cells.

    CORRECTIONS is a corrections.zip, or a folder with images/ and labels/ of the same names: in a label image 0 is
    background, and each cell has a number of its own.

    Some of the images are held out: the new model is judged by those that it has not learnt from. It is better if the
    mean AP@0.5 is higher and the counts of the images are not further off. If it is not better, no model is
    written. Below 20 images, each is held out once, from one of up to three models; a last one learns from all. From 20
    on, a quarter is held out.

    It can be stopped at any time; the same command with --resume goes on.

    \b
    Examples:
      cellseg-host adapt corrections.zip --out mine.tflite
      cellseg-host adapt my-labels --out chamber2.tflite --init chamber.tflite
      cellseg-host adapt corrections.zip --out mine.tflite --replay nuclei-data
      cellseg-host adapt corrections.zip --out mine.tflite --resume --anyway

    Exit codes: 0 the new model was written, 1 it is not better, 2 the command cannot work as given.
    """
    from cellseg_host.adapt import work as works
    from cellseg_host.commands.console import StoppedError

    settings = Settings(**training)
    place = work or out.with_suffix(".adapt")
    again = _again(corrections, out, {"init": init, "replay": replay, "work": work, **training})
    try:
        found, page = _adapted(
            corrections,
            out,
            place,
            settings,
            init=init,
            replay=replay,
            anyway=anyway,
            resume=resume,
            quiet=as_json,
        )
    except KeyboardInterrupt:
        raise StoppedError(f"stopped; continue with: {again}{' --anyway' if anyway else ''}") from None
    _print(found, out, page, as_json=as_json)
    if found.data is None and found.verdict is not None:
        raise NotBetterError(
            f"the new model is not better ({found.verdict.numbers()}), so it was not written: correct more images, or "
            f"write it all the same with: {again} --anyway"
        )
    if work is None:
        works.remove(place)


def _adapted(
    path: Path,
    out: Path,
    place: Path,
    settings: Settings,
    *,
    init: Path | None,
    replay: Path | None,
    anyway: bool,
    resume: bool,
    quiet: bool,
) -> tuple[Adapted, Path]:
    """Return what came of it, and the page that was written."""
    from cellseg_device.results import correction_file
    from cellseg_host.adapt import corrected
    from cellseg_host.adapt import start as starts
    from cellseg_host.adapt.written import check_out
    from cellseg_host.data.dataset import load
    from cellseg_host.tensorflow_quietly import import_tensorflow

    check_out(out)
    known = correction_file.read(path)
    start = starts.find(init, known.card, known.model_sha256, path)
    if out.exists() and out.samefile(start.path):
        raise InputError(f"{out}: is the model to start from: choose another --out")
    replayed = load(replay) if replay else None
    checked = corrected.check(known, anyway=anyway)
    if not quiet:
        click.echo("\n".join([*_plan(known, checked, start), "loading TensorFlow …"]))
    import_tensorflow()
    from cellseg_host.adapt import work as works
    from cellseg_host.adapt import written
    from cellseg_host.adapt.adapt import Request
    from cellseg_host.adapt.adapt import adapt as run

    request = Request(known, checked, start, replayed, settings, out.stem, anyway)
    with works.opened(place, request.about(), start, resume=resume) as kept, _watched(quiet=quiet) as watcher:
        found = run(request, kept, place, watcher)
        return found, written.write(found, out, place)


def _plan(known: Corrections, checked: Checked, start: Start) -> list[str]:
    """Return what will be done, in a few lines."""
    return [
        f"corrections: {plural(len(checked.items), 'image')} with {plural(sum(checked.cells), 'cell')} ({known.path})",
        *(f"note: {note}" for note in checked.notes),
        f"start: {start.card.name}, because {start.why}",
    ]


def _again(path: Path, out: Path, given: Mapping[str, Any]) -> str:
    """Return the command that goes on with what was begun."""
    defaults = dataclasses.asdict(_DEFAULT)
    flags = [
        word
        for name, value in given.items()
        if value is not None and value != defaults.get(name)
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return shlex.join(["cellseg-host", "adapt", str(path), "--out", str(out), *flags, "--resume"])


@contextmanager
def _watched(*, quiet: bool) -> Iterator[Watcher]:
    """Show what is being done: a bar where standard error is a terminal, and a line for each model."""
    from cellseg_host.adapt.adapt import Watcher
    from cellseg_host.commands.console import bar
    from cellseg_host.training.progress import duration

    with bar() as shown:
        task = shown.add_task("reading", total=None)
        paces: list[Pace] = []

        def moved(pace: Pace) -> None:
            paces[:] = [pace]
            shown.update(task, completed=int(100 * pace.done), total=int(100 * pace.total))

        def model(number: int, models: int, found: Judged) -> None:
            if quiet:
                return
            judged = found.held.numbers() if found.held else "learnt from all images"
            left = paces[0].left_s()
            time_left = f"; about {duration(left)} left" if number < models and left is not None else ""
            click.echo(f"model {number} of {models}: {judged}{time_left}")

        yield Watcher(lambda text: shown.update(task, description=text), moved, model)


def _print(found: Adapted, out: Path, page: Path, *, as_json: bool) -> None:
    from cellseg_host.adapt.page import losses, sentences
    from cellseg_host.commands.console import print_next
    from cellseg_host.json_text import to_json

    if as_json:
        click.echo(to_json(_document(found, out, page)))
        return
    for sentence in sentences(found):
        click.echo(sentence)
    for title, (old, new) in losses(found.replayed).items() if found.replayed else ():
        click.echo(f"shown again, {title}: AP@0.5 {old.ap50:.3f} to {new.ap50:.3f} ({plural(old.images, 'image')})")
    click.echo(f"page: {page}")
    if found.data is not None:
        click.echo(f"model: {out}")
        print_next("cellseg-device", "run", "IMAGES", "--model", out)


def _document(found: Adapted, out: Path, page: Path) -> dict[str, Any]:
    proven, checked, start = found.verdict, found.request.checked, found.request.start
    return {
        "model": str(out) if found.data is not None else None,
        "page": str(page),
        "better": found.is_better,
        "images": len(checked.items),
        "cells": sum(checked.cells),
        "notes": checked.notes,
        "start": {"name": start.card.name, "sha256": start.sha256},
        "held_out": _compared(proven) if proven else None,
        "replayed": _compared(found.replayed) if found.replayed else None,
    }


def _compared(verdict: Verdict) -> dict[str, Any]:
    from cellseg_host.report.write import finite

    gains = {name: finite(dataclasses.asdict(gain)) for name, gain in verdict.gains.items()}
    return {"before": verdict.old, "after": verdict.new, "gains": gains}
