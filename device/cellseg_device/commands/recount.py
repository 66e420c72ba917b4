"""``cellseg-device recount``: labels that were corrected in another program count from now on."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellseg_device.command_line import Command
from cellseg_device.commands.common import PATH, opened_originals, results_argument
from cellseg_device.errors import EXIT_IMAGES_FAILED, EXIT_OK, InputError
from cellseg_device.stderr import say, say_error
from cellseg_device.units import plural

if TYPE_CHECKING:
    from cellseg_device.correcting.recount import Recounted
    from cellseg_device.results.entry import Entry


@click.command(cls=Command, short_help="Count labels that were corrected in another program.")
@results_argument
@click.argument("given", metavar="FILE...", nargs=-1, required=True, type=PATH)
@click.option("--image", metavar="NAME", help="The image that FILE is of, as in counts.csv.  [default: by FILE's name]")
@click.option("--by", metavar="NAME", default="", help="Who corrected them.")
@click.option("--originals", type=PATH, help="Where the images are.  [default: RESULTS, or the one it is in]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def recount(
    *, out: Path, given: tuple[Path, ...], image: str | None, by: str, originals: Path | None, as_json: bool
) -> None:
    """Take labels that were corrected elsewhere into the results in the folder RESULTS, measure their cells, and count.

    A FILE is a label image (TIFF or PNG, 0 is background and each cell has a number), a ROI or a zip of ROIs of ImageJ,
    or GeoJSON of QuPath. It has the name of its image, or of the result: field.tif belongs to field.png, and so do
    field.labels.tif, field_cp_masks.png, field_rois.zip and field.geojson.

    They are kept in RESULTS/corrections, as checked, and 'summary' and the page count them; what the machine counted
    stays as it is. A file that fits no image, or has another size, is refused, and the others are done all the same.

    \b
    Examples:
      cellseg-device recount cellseg-results corrected/*.tif --by Ada
      cellseg-device recount /captures field1_rois.zip field2.geojson
      cellseg-device recount /captures mine.png --image plate1/field3.tif

    Exit codes: 0 all count, 1 some were refused, 2 the command cannot work as given.
    """
    from cellseg_device.correcting import recount as recounting
    from cellseg_device.results import ledger
    from cellseg_device.results.entry import DONE

    if not (out / ledger.FILE_NAME).is_file():
        raise InputError(f"{out} holds no results of cellseg-device: name the folder that 'run' or 'watch' wrote into")
    if image is not None and len(given) > 1:
        raise click.UsageError("--image goes with one FILE: of several, each is known by its name")
    with closing(ledger.Ledger(out / ledger.FILE_NAME, is_for_reading=True)) as book:
        entries = list(book.entries(DONE))
    found = opened_originals(out, originals)
    done: list[Recounted] = []
    taken: dict[str, Path] = {}
    shows_bar = sys.stderr is not None and sys.stderr.isatty() and len(given) > 1
    with click.progressbar(given, file=sys.stderr, hidden=not shows_bar) as bar:
        for path in bar:
            try:
                entry = _entry(path, image, entries)
                if entry.image in taken:
                    raise InputError(f"is of {entry.image}, as {taken[entry.image]} is: give one file for each image")
                taken[entry.image] = path
                outcome = recounting.recount(out, path, entry, found, by=by)
            except InputError as error:
                outcome = recounting.Recounted(str(path), reason=error.message)
            done.append(outcome)
            if as_json:
                click.echo(json.dumps(dataclasses.asdict(outcome), ensure_ascii=False))
            say("\r" if shows_bar else "", nl=False)
            for note in outcome.notes:
                say(f"{path}: {note}")
            if outcome.reason is not None:
                say_error(f"{path}: {outcome.reason}")
    failed = sum(outcome.reason is not None for outcome in done)
    if not as_json and failed < len(done):
        click.echo(_table(done))
    click.echo(f"{plural(len(done) - failed, 'image')} recounted, {failed:,} refused; {out}", err=as_json)
    raise SystemExit(EXIT_IMAGES_FAILED if failed else EXIT_OK)


def _entry(path: Path, image: str | None, entries: list[Entry]) -> Entry:
    """Return the image that a file is of; raise InputError if that is not clear."""
    from cellseg_device.correcting.recount import image_of

    if image is None:
        return image_of(path, entries)
    for entry in entries:
        if entry.image == image:
            return entry
    raise InputError(f"there is no image {image} in counts.csv: the names are those in its first column")


def _table(done: list[Recounted]) -> str:
    """Return a line for each image: its count by the machine, the corrected one, and what changed."""
    rows = [outcome for outcome in done if outcome.reason is None]
    width = max(len(row.image or "") for row in rows)
    return "\n".join(f"{row.image:<{width}}  {row.count:,} → {row.corrected_count:,}  {_changes(row)}" for row in rows)


def _changes(row: Recounted) -> str:
    numbers = ((row.added, "new"), (row.removed, "gone"), (row.changed, "with another outline"))
    words = ", ".join(f"{number:,} {what}" for number, what in numbers if number) or "as before"
    before = "" if row.former_count is None else f" (compared with the correction before, {row.former_count:,})"
    return f"{words}{before}"
