"""The command ``cellseg-host synth``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from cellseg_device.errors import InputError
from cellseg_device.options import parse_size
from cellseg_host.data.dataset import Entry
from cellseg_host.synth.settings import KINDS, STAINS, SynthSettings
from cellseg_host.synth.write import write_empties, write_fields

# Fields without a nucleus of ten kinds, from dark noise to stripes
EMPTY = "empty"


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice((*KINDS, EMPTY)), default="fluorescence", show_default=True)
@click.option("-n", "--number", type=click.IntRange(1), default=10, show_default=True, help="Fields to make.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same fields.")
@click.option(
    "--size", metavar="HxW", callback=parse_size, default="520x696", show_default=True, help="Height x width, pixels."
)
@click.option("--bits", type=click.Choice(["8", "16"]), default="8", show_default=True, help="Of the images.")
@click.option("--cells", type=int, metavar="N", help="Nuclei in each field (else it varies).")
@click.option("--empty", is_flag=True, help="Fields without a cell; the same as --cells 0.")
@click.option("--diameter", type=float, metavar="PX", help="Median diameter of the nuclei (else it varies).")
@click.option("--touching", type=float, metavar="FRACTION", help="Share of nuclei that touch, 0 to 1.")
@click.option("--stain", type=click.Choice(STAINS), help="Histology only (else it varies).")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option(
    "--force",
    is_flag=True,
    help="Add to a folder that is not empty; fields of the same id are replaced.",
)
def synth(
    out: Path,
    kind: str,
    number: int,
    seed: int,
    size: tuple[int, int],
    bits: str,
    cells: int | None,
    empty: bool,
    diameter: float | None,
    touching: float | None,
    stain: str | None,
    split: str,
    force: bool,
) -> None:
    """Make synthetic microscope fields with exact labels, as a dataset in the folder OUT.

    The images look like real ones and every cell's outline is known, so counts and masks can be checked to
    the pixel. They are for tests and demos: an accuracy measured on them says nothing about real samples.

    \b
    Examples:
      cellseg-host synth fields
      cellseg-host synth fields -n 50 --seed 7 --bits 16 --cells 80 --touching 0.5
      cellseg-host synth tissue --kind histology --stain he --size 1024x1024
      cellseg-host synth blank --empty -n 3
      cellseg-host synth nuclei-data --kind empty -n 30 --seed 100 --split train --force

    --kind empty makes, by turns, what a camera gives where there is no nucleus: dark noise, uneven background, debris,
    hot pixels, tissue, bright field, white, black, stripes, glow. A model that has seen such fields counts 0 in them.
    """
    if empty and cells:
        raise InputError(f"--empty and --cells {cells} contradict each other: give one of them")
    if kind == EMPTY:
        if cells or diameter or touching or stain:
            raise InputError("--kind empty has no nuclei: leave out --cells, --diameter, --touching and --stain")
        write: Callable[..., tuple[Entry, ...]] = partial(write_empties, out, size)
    else:
        write = partial(
            write_fields, out, SynthSettings(kind, *size, int(bits), 0 if empty else cells, diameter, touching, stain)
        )
    if sys.stderr.isatty():
        with click.progressbar(length=number, label="Making fields", file=sys.stderr) as bar:
            entries = write(number, seed, split, lambda done, total: bar.update(1), force=force)
    else:
        entries = write(number, seed, split, force=force)
    total = sum(entry.cells for entry in entries)
    click.echo(f"{len(entries)} {kind} fields with {total} cells in {out}")
