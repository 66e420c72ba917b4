"""The command group ``cellseg-host data``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import click

from cellseg_device.command_line import Group
from cellseg_device.errors import EXIT_IMAGES_FAILED


@click.group(cls=Group, short_help="Import labelled images as a dataset.")
def data() -> None:
    """Make datasets."""


@data.command("import", short_help="Import labelled images as a dataset.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format",
    "layout",
    type=click.Choice(["dsb2018", "labels"]),
    required=True,
    help="dsb2018: ID/images/*.png with ID/masks/*.png, one nucleus per mask. labels: images/ and labels/ with "
    "instance label images of the same names (and a manifest.csv with id, split, modality, if there is one).",
)
def import_(source: Path, destination: Path, layout: str) -> None:
    """Import SOURCE into a new dataset DESTINATION.

    Images that do not fit (masks of another size, overlapping masks, unreadable files) are left out and listed with the
    reason in DESTINATION/rejected.csv, and the command exits with 1. Without a manifest, images are split by a hash of
    their names: 80 % train, 10 % val, 10 % test.

    \b
    Examples:
      cellseg-host data import --format dsb2018 stage1_train nuclei-data
      cellseg-host data import --format labels my-labelled-images my-data
    """
    from cellseg_host.commands.console import print_table, tracked
    from cellseg_host.data import importers
    from cellseg_host.data.whole_folder import check_new, whole_folder

    check_new(destination)
    sources = importers.FORMATS[layout](source)
    with whole_folder(destination) as folder:
        done = importers.import_sources(sources, folder)
        imported = importers.finish(folder, list(tracked(done, len(sources), "importing")))
    groups: dict[tuple[str, str], list[int]] = {}
    for entry in imported.entries:
        groups.setdefault((entry.split, entry.modality), []).append(entry.cells or 0)
    rows = [[s, m, str(len(cells)), str(sum(cells))] for (s, m), cells in sorted(groups.items())]
    print_table(str(destination), ["split", "modality", "images", "cells"], rows)
    for rejection in imported.rejections:
        click.echo(f"left out: {rejection.id}: {rejection.reason}", err=True)
    _print_next(destination, {entry.split for entry in imported.entries})
    if imported.rejections:
        raise SystemExit(EXIT_IMAGES_FAILED)


def _print_next(destination: Path, splits: Collection[str]) -> None:
    """Print the command that trains on the dataset, or what it lacks for that."""
    from cellseg_host.commands.console import print_next

    lacking = [split for split in ("train", "val") if split not in splits]
    if lacking:
        click.echo(
            f"to train on it, write {' and '.join(map(repr, lacking))} into the column 'split' of some rows of "
            f"{destination / 'manifest.csv'}"
        )
    else:
        print_next("cellseg-host", "train", destination, "--out", Path("runs") / destination.resolve().name)
