"""``cellseg-device corrections``: checked images in one file, for a model to learn from."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command
from cellseg_device.commands.common import PATH, opened_originals, results_argument
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError, OutputError
from cellseg_device.stderr import say, say_error
from cellseg_device.units import plural

if TYPE_CHECKING:
    from cellseg_device.correcting.teaching import Material
    from cellseg_device.results.correction_items import Correction


@click.command(cls=Command, short_help="Pack checked images into a corrections.zip, to teach a model.")
@results_argument
@click.option(
    "--out", "to", type=PATH, metavar="FILE.zip", default="corrections.zip", show_default=True, help="Where to write."
)
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@click.option(
    "--model",
    metavar="NAME",
    help="Of the images that this model, or one made from it, counted.  [default: that which counted most]",
)
@click.option("--originals", type=PATH, help="Where the images are.  [default: RESULTS, or the one it is in]")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def corrections(*, out: Path, to: Path, force: bool, model: str | None, originals: Path | None, as_json: bool) -> None:
    """Pack the checked images in the folder RESULTS, with their corrected labels, into a file to teach a model with.

    Images are checked on the page of 'serve', or with 'recount'. One of up to 512 x 512 px is packed whole, of a larger
    one those parts of about this size in which labels were corrected.

    \b
    Examples:
      cellseg-device corrections /captures
      cellseg-device tune corrections.zip
      cellseg-host adapt corrections.zip --out mine.tflite

    Exit codes: 0 all are packed, 1 some had to be left out, 2 the command cannot work as given.
    """
    from cellseg_device.correcting.teaching import Teaching, material
    from cellseg_device.results import correction_file, ledger

    if not (out / ledger.FILE_NAME).is_file():
        raise InputError(f"{out} holds no results of cellseg-device: name the folder that 'run' or 'watch' wrote into")
    if os.path.lexists(to) and not force:
        raise InputError(f"{to} already exists: choose another --out, or overwrite it with --force")
    found = material(out, model)
    teaching = Teaching(out, found, opened_originals(out, originals))
    try:
        items = correction_file.write(to, _shown(teaching, found), card=found.card, model_sha256=found.model_sha256)
    except InputError:
        if not teaching.left_out:
            raise
        items = ()
    except OSError as error:
        raise OutputError(f"{to} cannot be written ({error.strerror}): choose another --out") from None
    for image, reason in teaching.left_out.items():
        say_error(f"{image}: {reason}")
    if not items:
        raise InputError("no checked image can be had, so nothing is written: see the reasons above")
    if as_json:
        about = {"file": str(to), "model": found.kind, "items": [dataclasses.asdict(item) for item in items]}
        click.echo(json.dumps(about | {"left_out": teaching.left_out}, indent=2, ensure_ascii=False))
    else:
        cells = sum(item.cells for item in items)
        images = len({item.source_sha256 for item in items})
        click.echo(f"{to}: {plural(len(items), 'crop')} of {plural(images, 'image')}, {plural(cells, 'cell')}")
    for line in _beside(found):
        say(line)
    raise SystemExit(EXIT_IMAGES_FAILED if teaching.left_out else EXIT_OK)


def _shown(teaching: Iterable[Correction], found: Material) -> Iterator[Correction]:
    """Yield corrections, with a bar for each image that is done."""
    hidden = sys.stderr is None or not sys.stderr.isatty()
    seen: set[str] = set()
    with click.progressbar(length=len(found.entries), file=sys.stderr, hidden=hidden, label="packing") as bar:
        for correction in teaching:
            yield correction
            if correction.source_sha256 not in seen:
                seen.add(correction.source_sha256)
                bar.update(1)


def _beside(found: Material) -> Iterator[str]:
    """Yield what should be known beside the file."""
    for name, number in found.others.items():
        yield f"not in it: {plural(number, 'checked image')} that {name} counted: pack those with --model {name}"
    if found.stale:
        yield f"{plural(found.stale, 'checked image')} left out, since the image is another one now: correct it again"
    if found.card is None:
        yield f"the model {found.kind} is not here: name its file with --model of 'tune', or --init of 'adapt'"
