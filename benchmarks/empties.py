"""What a model counts where there is nothing to count: fifty fields of ten kinds, and tissue full of false nuclei.

    python benchmarks/empties.py                           (prints the tables, as the device counts by default)
    python benchmarks/empties.py models/nuclei.tflite      (with this model alone)

The fields are those of `cellseg_host.synth.empties` and `cellseg_host.synth.negatives`, from the seeds that are kept
for tests; they go through the device's own code with default settings. `stress.py` lists the ten kinds as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import click
import numpy as np

from cellseg_device.cells.counting import Counting
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline import models, predict
from cellseg_device.pipeline.models import Models
from cellseg_host.commands.console import print_table
from cellseg_host.evaluation import evaluate
from cellseg_host.synth import empties, negatives

Counted = Mapping[str, list[int]]


def count(pixels: np.ndarray, by: Models) -> int:
    """Return the number of cells that the device's pipeline counts in an image."""
    image = Counting().applied(Image(pixels))
    choice = by.choose(image)
    return int(evaluate.labels_of(predict.predict(image, choice.model)).max()) if choice.is_segmented else 0


def in_empty_fields(by: Models) -> dict[str, list[int]]:
    """Return the cells counted in fields without any, by kind; the first of each kind is the one of the tests."""
    return {kind: _counts(empties.make_empty, kind, by) for kind in empties.KINDS}


def in_tissue(by: Models) -> dict[str, list[int]]:
    """Return the cells counted in tissue without a nucleus, by what it is full of."""
    return {kind: _counts(negatives.make_negative, kind, by) for kind in negatives.KINDS}


def _counts(make: Callable[..., np.ndarray], kind: str, by: Models) -> list[int]:
    return [count(make(kind, empties.TEST_SHAPE, seed), by) for seed in empties.TEST_SEEDS]


def summary(counted: Counted) -> str:
    """Return in words in how many of the fields nothing was counted."""
    fields = [cells for kind in counted.values() for cells in kind]
    return f"{sum(cells == 0 for cells in fields)} of {len(fields)} fields without a false cell"


@click.command()
@click.argument("model", required=False, type=click.Path(path_type=Path, dir_okay=False))
def main(model: Path | None) -> None:
    """Count where there is nothing to count, with MODEL or with what the bundled gate chooses."""
    by = models.load(model, None, 1, "cpu", click.echo)
    for title, counted in (
        ("Cells in fields without any", in_empty_fields(by)),
        ("Cells in tissue without a nucleus", in_tissue(by)),
    ):
        print_table(title, ["field", "counted"], [[kind, " ".join(map(str, cells))] for kind, cells in counted.items()])
        click.echo(summary(counted))


if __name__ == "__main__":
    main()
