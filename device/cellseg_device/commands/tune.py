"""``cellseg-device tune``: thresholds for a user's own images, chosen by what was corrected in some of them."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command, section
from cellseg_device.commands.common import PATH, default_threads, threads_option
from cellseg_device.errors import EXIT_NOT_BETTER, NO_MEMORY, InputError, OutputError
from cellseg_device.stderr import say, say_warning
from cellseg_device.units import plural

if TYPE_CHECKING:
    from cellseg_device.model.card import Card, Separation
    from cellseg_device.model.interpreter import Model
    from cellseg_device.pipeline.tuning import Tuning
    from cellseg_device.results.correction_file import Corrections

_TUNED = "-tuned.tflite"
# What is chosen, by its name in the card
_CHOSEN = {
    "foreground": "foreground",
    "prominence": "rise",
    "confidence": "confidence",
    "min_area_px": "min_area_px",
}


@click.command(cls=Command, short_help="Fit a model's thresholds to corrected images.")
@click.argument("corrections", metavar="CORRECTIONS", type=PATH)
@section(
    "Model",
    click.option(
        "--model",
        type=PATH,
        help="The model to start from.  [default: the bundled one that made the labels which were corrected; of a "
        "folder, nuclei]",
    ),
    threads_option,
)
@section(
    "Result",
    click.option(
        "--out",
        type=PATH,
        metavar="FILE",
        help=f"The new model.  [default: NAME{_TUNED} beside --model, or here for a bundled one]",
    ),
    click.option("--force", is_flag=True, help="Overwrite an existing file."),
    click.option("--json", "as_json", is_flag=True, help="Print a JSON object."),
)
def tune(
    *, corrections: Path, model: Path | None, threads: int | None, out: Path | None, force: bool, as_json: bool
) -> None:
    """Fit a model's thresholds to images whose labels were corrected, if that makes it better.

    CORRECTIONS is a corrections.zip, or a folder with images/ and labels/ in which an image and its labels (0 is
    background, each cell a number) have the same name. Five images do; two are the least.

    The network stays as it is; what is chosen is from which probability a pixel belongs to a cell, how deep a notch
    between two cells must be, and which cells are dropped as doubtful or too small. The new model is written only if
    it is better: each image is scored with thresholds that were chosen on the others, and over all images the mean
    AP@0.5 must be higher than with the model's own thresholds, and the count no further off.

    \b
    Examples:
      cellseg-device tune corrections.zip
      cellseg-device tune my-images --model chamber.tflite --out mine.tflite
      cellseg-device run field.png --model mine.tflite

    Exit codes: 0 the new model is written, 1 it would not be better, so nothing is written, 2 the command cannot work
    as given.
    """
    from cellseg_device.model.interpreter import Model
    from cellseg_device.pipeline import selftest
    from cellseg_device.pipeline.tuned_model import tuned_model
    from cellseg_device.results.correction_file import read
    from cellseg_device.system import files
    from cellseg_device.system.memory import return_large_blocks

    return_large_blocks()
    corrected = read(corrections)
    _check_labels(corrected)
    path = model or _bundled(corrected.card)
    loaded = Model(path, threads or default_threads())
    out = out or (path.parent if model else Path()) / f"{loaded.card.name}{_TUNED}"
    _check_place(out, path, force=force)
    warning = selftest.check(loaded)
    if warning is not None:
        say_warning(warning)
    try:
        found = _tuned(loaded, corrected)
    except MemoryError:
        raise InputError(f"{corrections}: an image {NO_MEMORY}") from None
    if found.is_better:
        try:
            files.write(out, tuned_model(loaded, found, out.stem, corrections.name))
        except OSError as error:
            raise OutputError(f"{out} cannot be written ({error.strerror}): choose another --out") from None
    if as_json:
        click.echo(json.dumps(_described(found, loaded, out), indent=2, ensure_ascii=False))
    else:
        click.echo(_in_words(found, loaded, out))
        say(f"{found.settings} settings were tried, {found.ms:.1f} ms each on an image")
    if not found.is_better:
        raise SystemExit(EXIT_NOT_BETTER)


def _bundled(card: Card | None) -> Path:
    """Return the bundled model of this card; without one, the default model."""
    from cellseg_device.model.interpreter import bundled_path

    default = bundled_path()
    if card is None:
        return default
    bundled = {path.stem: path for path in default.parent.glob("*.tflite")}
    if card.name not in bundled:
        raise InputError(f"the labels were made by the model {card.name}, which is not bundled: name it with --model")
    return bundled[card.name]


def _check_place(out: Path, model: Path, *, force: bool) -> None:
    """Raise for a file that must not be written."""
    if os.path.lexists(out) and not force:
        raise InputError(f"{out} already exists: choose another --out, or overwrite it with --force")
    if out.exists() and out.samefile(model):
        raise InputError(f"{out} is the model to start from, which stays: choose another --out")
    if out.suffix != ".tflite":
        raise InputError(f"{out} does not end in .tflite: choose such a name")
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder: make it, or choose another --out")
    if out.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{out} cannot be written: choose another --out")


def _check_labels(corrections: Corrections) -> None:
    """Raise for labels that are masks, and warn of cells in several pieces."""
    from cellseg_device.cells.pieces import pieces_of
    from cellseg_device.results.correction_faults import note_of_pieces

    try:
        note = note_of_pieces({item.name: pieces_of(corrections.labels(item)) for item in corrections.items})
    except InputError as error:
        raise InputError(f"{corrections.path}: {error}") from None
    if note:
        say_warning(note)


def _tuned(model: Model, corrections: Corrections) -> Tuning:
    from cellseg_device.pipeline.tuning import tune as choose

    items = corrections.items
    with click.progressbar(length=1, file=sys.stderr, hidden=not sys.stderr.isatty(), label="choosing") as bar:

        def show(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        return choose(
            model,
            len(items),
            lambda number: (corrections.image(items[number]), corrections.labels(items[number])),
            show,
        )


def _described(found: Tuning, model: Model, out: Path) -> dict[str, object]:
    return {
        "is_better": found.is_better,
        "model": str(model.path),
        "out": str(out) if found.is_better else None,
        "images": found.images,
        "cells": found.cells,
        "before": dataclasses.asdict(found.before) | {"thresholds": _thresholds(found.own)},
        "after": dataclasses.asdict(found.after) | {"thresholds": _thresholds(found.chosen)},
        "settings": found.settings,
        "ms_per_setting_and_image": round(found.ms, 2),
    }


def _thresholds(separation: Separation) -> dict[str, float]:
    return {key: getattr(separation, name) for name, key in _CHOSEN.items()}


def _in_words(found: Tuning, model: Model, out: Path) -> str:
    before, after = found.before, found.after
    numbers = f"{plural(found.images, 'image')}, {plural(found.cells, 'cell')}"
    lines = [
        f"{numbers}; each scored with the thresholds of {model.card.name}, and with those chosen on the others:",
        f"  AP@0.5       {before.ap50:.3f} → {after.ap50:.3f}",
        f"  count error  {before.count_error:.1%} → {after.count_error:.1%}",
    ]
    if not found.is_better:
        return "\n".join([*lines, f"that is not better, so nothing is written: go on with {model.card.name}"])
    own, chosen = _thresholds(found.own), _thresholds(found.chosen)
    changed = ", ".join(f"{key} {own[key]:g} → {value:g}" for key, value in chosen.items() if value != own[key])
    return "\n".join([*lines, f"thresholds: {changed}", f"{out} is written: count with --model {out}"])
