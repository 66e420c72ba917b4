"""``cellseg-device export``: the optional formats, later."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.commands.common import EXTRAS, PATH
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError, OutputError
from cellseg_device.quiet import say

if TYPE_CHECKING:
    from cellseg_device.export import Originals


def _names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Names of `EXTRAS` from ``rois,geojson``; a click callback."""
    given = [name.strip() for name in value.split(",")]
    unknown = [name for name in given if name not in EXTRAS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(EXTRAS)}")
    return tuple(name for name in EXTRAS if name in given)


@click.command()
@click.argument("out", type=PATH)
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=PATH)
@click.option(
    "--format",
    "names",
    metavar="NAME[,NAME]...",
    required=True,
    callback=_names,
    help=f"What to make: {', '.join(EXTRAS)}.",
)
@click.option("--force", is_flag=True, help="Make also what is there.")
@click.option(
    "--originals", type=PATH, help="For overlays: the folder that was watched.  [default: OUT, or the one it is in]"
)
@click.option("--model", type=PATH, help="For overlays: the model the images were done with.  [default: the bundled]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
def export(
    out: Path,
    images: tuple[Path, ...],
    names: tuple[str, ...],
    force: bool,
    originals: Path | None,
    model: Path | None,
    as_json: bool,
) -> None:
    """Make further files from the results in the folder OUT: of all images, or of those named.

    The cells are not sought again: the files are those that 'run' or 'watch' writes with the flag of the same name.
    Files that are there are kept. It can be done beside a running watch. Only an overlay needs the image itself.

    \b
    Examples:
      cellseg-device export cellseg-results --format rois,geojson
      cellseg-device export /results --format coco field-07.png
      cellseg-device export /results --format overlay --originals /captures
    """
    from cellseg_device import export as exporting
    from cellseg_device import ledger

    if not (out / ledger.FILE_NAME).is_file() or ledger.is_new(out / ledger.FILE_NAME):
        raise InputError(f"{out} holds no results of cellseg-device: name the folder that 'run' or 'watch' wrote into")
    drawn = _originals(out, originals, model) if "overlay" in names else None
    made = kept = failed = 0
    try:
        with closing(ledger.Ledger(out / ledger.FILE_NAME)) as book:
            todo = list(exporting.chosen(book, images))
            shows_bar = sys.stderr is not None and sys.stderr.isatty()
            with click.progressbar(todo, file=sys.stderr, hidden=not shows_bar) as bar:
                for item in bar:
                    done = (
                        item
                        if isinstance(item, exporting.Exported)
                        else exporting.export(out, book, item, names, force, drawn)
                    )
                    made, kept, failed = made + len(done.made), kept + len(done.kept), failed + bool(done.reason)
                    if as_json:
                        click.echo(json.dumps(vars(done), ensure_ascii=False))
                    if done.reason:
                        say(f"{chr(13) if shows_bar else ''}{done.image}: {done.reason}")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the ledger in {out} fails ({error.strerror}): check the disk, then try again") from None
    click.echo(
        f"files made: {made:,}, there before: {kept:,}; images: {len(todo):,}, failed: {failed:,}; {out}", err=as_json
    )
    raise SystemExit(EXIT_IMAGES_FAILED if failed else EXIT_OK)


def _originals(out: Path, folder: Path | None, model: Path | None) -> Originals:
    from cellseg_device import card, scan
    from cellseg_device.export import Originals
    from cellseg_device.model import bundled_path

    if folder is not None:
        scan.check_folder(folder)
    data = card.read_model_file(model or bundled_path())
    folders = (folder,) if folder is not None else (out.absolute().parent, out)
    return Originals(folders, card.read_from(data), hashlib.sha256(data).hexdigest())
