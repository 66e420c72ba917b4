"""``cellseg-device export``: the optional formats, of images that were counted before."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command
from cellseg_device.commands.common import EXTRAS, PATH, opened_originals, results_argument
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError, OutputError
from cellseg_device.stderr import say, say_error

if TYPE_CHECKING:
    from cellseg_device.results.corrections import Correction
    from cellseg_device.results.entry import Entry
    from cellseg_device.results.export import Exported


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Return names out of `EXTRAS` from ``rois,geojson``; a click callback."""
    given = [name.strip() for name in value.split(",")]
    unknown = [name for name in given if name not in EXTRAS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(EXTRAS)}")
    return tuple(name for name in EXTRAS if name in given)


@click.command(cls=Command, short_help="Make files for ImageJ, QuPath and others from the results.")
@results_argument
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=PATH)
@click.option(
    "--format",
    "names",
    metavar="NAME[,NAME]...",
    required=True,
    callback=_names,
    help=f"What to make: {', '.join(EXTRAS)}.",
)
@click.option("--force", is_flag=True, help="Also replace files that exist.")
@click.option(
    "--originals",
    type=PATH,
    help="For pictures: where the images are.  [default: RESULTS, or the one it is in]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
def export(
    *,
    out: Path,
    images: tuple[Path, ...],
    names: tuple[str, ...],
    force: bool,
    originals: Path | None,
    as_json: bool,
) -> None:
    """Make more files from the results in the folder RESULTS, for all images or for those named.

    RESULTS may also be the folder that was watched, if the results are in cellseg-results there.

    Nothing is counted again: the files are the same as those that 'run' or 'watch' writes with the flag of that name,
    but that pictures lack the cells that were left out of the count, which are stored nowhere.
    Files that exist are kept. Of images that a person has checked, the corrected labels' files are made, too, in
    RESULTS/corrections, and brought up to date; there are no pictures of these. You can do this beside a running
    watch. Only pictures (overlay, numbers) need the images themselves.

    \b
    Examples:
      cellseg-device export /captures --format rois,geojson
      cellseg-device export /results --format coco field-07.png
      cellseg-device export /results --format overlay --originals /captures
    """
    from cellseg_device.results import corrections, image_files, ledger
    from cellseg_device.results import export as exporting

    if not (out / ledger.FILE_NAME).is_file() or ledger.is_new(out / ledger.FILE_NAME):
        raise InputError(f"{out} holds no results of cellseg-device: name the folder that 'run' or 'watch' wrote into")
    drawn = opened_originals(out, originals) if image_files.PICTURES.keys() & set(names) else None
    made = kept = failed = 0
    try:
        with closing(ledger.Ledger(out / ledger.FILE_NAME)) as book:
            todo = list(exporting.chosen(book, images))
            corrected = corrections.read(out)
            shows_bar = sys.stderr is not None and sys.stderr.isatty()
            with click.progressbar(todo, file=sys.stderr, hidden=not shows_bar) as bar:
                for item in bar:
                    if isinstance(item, exporting.Exported):
                        done = item
                    else:
                        done = exporting.export(out, book, item, names, force=force, originals=drawn)
                        done = _with_corrected(out, item, corrected.get(item.image), names, done)
                    made, kept, failed = made + len(done.made), kept + len(done.kept), failed + bool(done.reason)
                    if as_json:
                        click.echo(json.dumps(vars(done), ensure_ascii=False))
                    if done.reason:
                        say("\r" if shows_bar else "", nl=False)
                        say_error(f"{done.image}: {done.reason}")
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"the ledger in {out} cannot be used ({error.strerror}): check the disk, then try again"
        ) from None
    click.echo(
        f"files made: {made:,}, there before: {kept:,}; images: {len(todo):,}, failed: {failed:,}; {out}", err=as_json
    )
    raise SystemExit(EXIT_IMAGES_FAILED if failed else EXIT_OK)


def _with_corrected(
    out: Path, entry: Entry, correction: Correction | None, names: tuple[str, ...], done: Exported
) -> Exported:
    """Return what was made of an image, with what is made now of its corrected labels, if there are any that count."""
    from cellseg_device.results import corrected_export, corrections
    from cellseg_device.results.formats import FORMATS

    wanted = tuple(name for name in names if name in FORMATS)
    if correction is None or not wanted or corrections.counts_of(entry, correction) is None:
        return done
    more = corrected_export.export(out, entry, correction, wanted)
    reasons = [reason for reason in (done.reason, more.reason) if reason is not None]
    return dataclasses.replace(
        done, made=done.made + more.made, kept=done.kept + more.kept, reason="; ".join(reasons) or None
    )
