"""The command group ``cellseg-host data``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import click

from cellseg_device.command_line import Group
from cellseg_device.errors import EXIT_IMAGES_FAILED
from cellseg_device.suggestions import unknown
from cellseg_host.data.dataset import SPLITS, Entry, cells_in
from cellseg_host.data.sources import FORMATS


@click.group(cls=Group, short_help="Import labelled images as a dataset.")
def data() -> None:
    """Make datasets."""


def _by_set(_context: click.Context, _parameter: click.Parameter, items: Iterable[str]) -> dict[str, str]:
    """Return a mapping from repeated ``SET=VALUE``, and from ``VALUE`` that of ``""``, all others; a click callback."""
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.rpartition("=")
        if not value or (equals and not name):
            raise click.BadParameter(f"{item!r} is not of the form SET=VALUE")
        if name in found:
            raise click.BadParameter(f"is given twice for {name or 'all sets'}")
        found[name] = value
    return found


def _formats(context: click.Context, parameter: click.Parameter, items: Iterable[str]) -> dict[str, str]:
    """Return formats by set, as `_by_set`."""
    found = _by_set(context, parameter, items)
    for layout in found.values():
        if layout not in FORMATS:
            raise click.BadParameter(f"there is {unknown('format', layout, FORMATS)}")
    return found


@data.command("import", short_help="Import labelled images as a dataset.")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format",
    "formats",
    metavar="[SET=]FORMAT",
    multiple=True,
    required=True,
    callback=_formats,
    help="dsb2018: ID/images/*.png with ID/masks/*.png, one nucleus per mask. labels: images/ and labels/ with "
    "instance label images of the same names, also a dataset made before. images: images alone, without labels, from "
    "which only classifiers learn. Of all sources, or of the one whose folder is called SET.",
)
@click.option(
    "--kind",
    "kinds",
    metavar="[SET=]KIND",
    multiple=True,
    callback=_by_set,
    help="The kind of sample, which a classifier learns to tell apart.  [default: tissue for the modalities "
    "histology and brightfield, other for phase, else the modality itself]",
)
def import_(sources: tuple[Path, ...], destination: Path, formats: Mapping[str, str], kinds: Mapping[str, str]) -> None:
    """Import each SOURCE as a set of the new dataset DESTINATION.

    Images that do not fit (masks of another size, overlapping masks, unreadable files) are left out and listed with the
    reason in DESTINATION/rejected.csv, and the command exits with 1. A manifest.csv in a source (columns id, split,
    modality) keeps its splits. Without one, images are split by a hash of their names: 80 % train, 10 % val, 10 % test.

    \b
    Examples:
      cellseg-host data import --format dsb2018 stage1_train nuclei-data
      cellseg-host data import --format labels my-labelled-images my-data
      cellseg-host data import --format labels --format smears=images --kind smears=smear nuclei tissue smears merged
    """
    from cellseg_host.commands.console import print_table, tracked
    from cellseg_host.data import importers
    from cellseg_host.data.whole_folder import check_new, whole_folder

    check_new(destination)
    found = importers.find(sources, formats, kinds)
    with whole_folder(destination) as folder:
        done = importers.import_sources(found, folder)
        imported = importers.finish(folder, list(tracked(done, len(found), "importing")))
    print_table(str(destination), ["set", "split", "modality", "kind", "images", "cells"], _rows(imported.entries))
    for rejection in imported.rejections:
        which = f"{rejection.id} of {rejection.set}" if len(sources) > 1 else rejection.id
        click.echo(f"left out: {which}: {rejection.reason}", err=True)
    _print_next(destination, {entry.split for entry in imported.entries if entry.is_labelled})
    if imported.rejections:
        raise SystemExit(EXIT_IMAGES_FAILED)


def _rows(entries: Iterable[Entry]) -> list[list[str]]:
    """Return a row for the images of each set, split, modality and kind."""
    groups: dict[tuple[str, str, str, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda e: (e.set, SPLITS.index(e.split), e.modality, e.kind)):
        groups.setdefault((entry.set, entry.split, entry.modality, entry.kind), []).append(entry)
    return [
        [*names, f"{len(group)}", f"{cells_in(group)}" if any(e.is_labelled for e in group) else "no labels"]
        for names, group in groups.items()
    ]


def _print_next(destination: Path, splits: Collection[str]) -> None:
    """Print the command that trains on a dataset with labels in these splits, or what it lacks for that."""
    from cellseg_host.commands.console import print_next

    if not splits:
        click.echo("no image has labels: the dataset is for a classifier of kinds of samples alone")
        return
    if not {"train", "val"} & set(splits):
        click.echo(
            f"to train on it, write 'train' into the column 'split' of some rows of {destination / 'manifest.csv'}"
        )
    else:
        print_next("cellseg-host", "train", destination, "--out", Path("runs") / destination.resolve().name)
