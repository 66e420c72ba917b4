"""The command ``cellseg-host synth``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from cellseg_device.command_line import Command, section
from cellseg_device.errors import InputError
from cellseg_device.units import parse_size
from cellseg_host.data.dataset import Entry, cells_in
from cellseg_host.synth.settings import KINDS, STAINS, SynthSettings
from cellseg_host.synth.write import PICTURES, write_empties, write_fields, write_pictures

# Fields without a nucleus: of ten kinds, from dark noise to stripes; and tissue, from holes to pen marks
EMPTY, TISSUE = "empty", "tissue"


def _size(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, int]:
    try:
        return parse_size(value)
    except InputError as error:
        raise click.BadParameter(error.message) from None


@click.command(cls=Command, short_help="Make synthetic fields with exact labels.")
@click.argument("out", type=click.Path(path_type=Path))
@section(
    "Fields",
    click.option(
        "--kind",
        type=click.Choice((*KINDS, EMPTY, TISSUE, *PICTURES)),
        default="fluorescence",
        show_default=True,
        help="What the fields show.",
    ),
    click.option("-n", "--number", type=click.IntRange(1), default=10, show_default=True, help="Number of fields."),
    click.option(
        "--size", metavar="WIDTHxHEIGHT", callback=_size, default="696x520", show_default=True, help="Size in pixels."
    ),
    click.option(
        "--bits", type=click.Choice(["8", "16"]), default="8", show_default=True, help="Bits per channel of the images."
    ),
    click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed makes the same fields."
    ),
)
@section(
    "Nuclei",
    click.option("--cells", type=int, metavar="N", help="Nuclei in each field.  [default: varies]"),
    click.option("--diameter", type=float, metavar="PX", help="Median diameter of the nuclei.  [default: varies]"),
    click.option(
        "--touching",
        type=float,
        metavar="FRACTION",
        help="Share of nuclei that touch others, 0 to 1.  [default: varies]",
    ),
    click.option("--stain", type=click.Choice(STAINS), help="Histology only.  [default: varies]"),
)
@section(
    "Dataset",
    click.option(
        "--split",
        type=click.Choice(["train", "val", "test"]),
        default="test",
        show_default=True,
        help="Split of the dataset that they are for.",
    ),
    click.option(
        "--force",
        is_flag=True,
        help="Add to a folder that is not empty; fields of the same id are replaced.",
    ),
)
def synth(
    *,
    out: Path,
    kind: str,
    number: int,
    seed: int,
    size: tuple[int, int],
    bits: str,
    cells: int | None,
    diameter: float | None,
    touching: float | None,
    stain: str | None,
    split: str,
    force: bool,
) -> None:
    """Make synthetic microscope fields with exact labels, as a dataset in the folder OUT.

    The images look like real ones and the outline of each cell is known, so counts and masks can be checked to the
    pixel. They are for tests and demos: an accuracy measured on them says nothing about real samples.

    \b
    Examples:
      cellseg-host synth fields
      cellseg-host synth fields -n 50 --seed 7 --bits 16 --cells 80 --touching 0.5
      cellseg-host synth tissue --kind histology --stain he --size 1024x1024
      cellseg-host synth dark --cells 0 -n 3
      cellseg-host synth nuclei-data --kind empty -n 30 --seed 100 --split train --force
      cellseg-host synth nuclei-data --kind tissue -n 30 --seed 100 --split train --force
      cellseg-host synth kinds-data --kind smear -n 60 --seed 100 --split train --force

    --kind smear (stained blood smears) and --kind phase (phase contrast) have no labels: from them a classifier learns
    what the networks for nuclei are not for (train --arch kind-net).

    --kind empty makes in turn what a camera shows where there is no nucleus: dark noise, uneven background, debris, hot
    pixels, tissue, bright field, white, black, stripes, glow. --kind tissue makes H&E tissue without a nucleus, full of
    what is mistaken for one: holes, fibres, red cells, folds, pen marks, dust and pigment. A model trained on such
    fields too counts 0 in them.
    """
    write: Callable[..., tuple[Entry, ...]]
    if kind not in KINDS:
        if cells or diameter or touching or stain:
            raise InputError(f"--kind {kind} has no nuclei: leave out --cells, --diameter, --touching and --stain")
        if kind in PICTURES:
            write = partial(write_pictures, out, kind, size)
        else:
            write = partial(write_empties, out, size, is_tissue=kind == TISSUE)
    else:
        write = partial(write_fields, out, SynthSettings(kind, *size, int(bits), cells, diameter, touching, stain))
    if sys.stderr.isatty():
        with click.progressbar(length=number, label="Making fields", file=sys.stderr) as bar:
            entries = write(number, seed, split=split, progress=lambda *_: bar.update(1), force=force)
    else:
        entries = write(number, seed, split=split, force=force)
    cells_made = f"with {cells_in(entries)} cells" if entries[0].is_labelled else "without labels"
    click.echo(f"{len(entries)} {kind} fields {cells_made} in {out}")
    _print_next(out)


def _print_next(out: Path) -> None:
    """Print the command that trains on the labelled fields, or, if they are not for that, one that looks at them."""
    from cellseg_host.commands.console import print_next
    from cellseg_host.data.dataset import load

    if {"train", "val"} <= {entry.split for entry in load(out).entries if entry.is_labelled}:
        print_next("cellseg-host", "train", out, "--out", Path("runs") / out.resolve().name)
    else:
        print_next("cellseg-device", "run", out / "images")
