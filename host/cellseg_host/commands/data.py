"""The command group ``cellseg-host data``."""

from __future__ import annotations

from pathlib import Path

import click

from cellseg_device.errors import EXIT_IMAGES_FAILED, InputError


@click.group()
def data() -> None:
    """Make datasets."""


@data.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--format",
    "layout",
    type=click.Choice(["dsb2018", "labels"]),
    required=True,
    help="dsb2018: ID/images/*.png with ID/masks/*.png, one nucleus a mask. labels: images/ and labels/ with "
    "instance label images of the same names (and a manifest.csv with id, split, modality, if there is one).",
)
def import_(source: Path, destination: Path, layout: str) -> None:
    """Import SOURCE into a new dataset DESTINATION.

    Images that do not fit (masks of another size, overlapping masks, unreadable files) are left out, listed with the
    reason in DESTINATION/rejected.csv, and the command then exits with 1. Without a manifest, images are split by a
    hash of their name: 80 % train, 10 % val, 10 % test.

    \b
    Examples:
      cellseg-host data import --format dsb2018 stage1_train nuclei-data
      cellseg-host data import --format labels my-labelled-images my-data
    """
    from cellseg_host.console import print_table, tracked
    from cellseg_host.data import importers

    if destination.exists() and any(destination.iterdir()):
        raise InputError(f"{destination}: is not empty: choose a new folder")
    sources = importers.FORMATS[layout](source)
    done = importers.import_sources(sources, destination)
    imported = importers.finish(destination, list(tracked(done, len(sources), "importing")))
    groups: dict[tuple[str, str], list[int]] = {}
    for entry in imported.entries:
        groups.setdefault((entry.split, entry.modality), []).append(entry.cells)
    rows = [[s, m, str(len(cells)), str(sum(cells))] for (s, m), cells in sorted(groups.items())]
    print_table(str(destination), ["split", "modality", "images", "cells"], rows)
    for rejection in imported.rejections:
        click.echo(f"left out: {rejection.id}: {rejection.reason}", err=True)
    if imported.rejections:
        raise SystemExit(EXIT_IMAGES_FAILED)
