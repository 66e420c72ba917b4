"""What a model counts where there is nothing to count: fifty fields of ten kinds, and tissue full of false nuclei.

    python benchmarks/empties.py models/nuclei.tflite      (prints the tables)

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
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import predict
from cellseg_host.commands.console import print_table
from cellseg_host.evaluation import evaluate
from cellseg_host.synth import empties, negatives

Counted = Mapping[str, list[int]]


def count(pixels: np.ndarray, model: Model) -> int:
    """Return the number of cells that the device's pipeline counts in an image."""
    return int(evaluate.labels_of(predict.predict(Counting().applied(Image(pixels)), model)).max())


def in_empty_fields(model: Model) -> dict[str, list[int]]:
    """Return the cells counted in fields without any, by kind; the first of each kind is the one of the tests."""
    return {kind: _counts(empties.make_empty, kind, model) for kind in empties.KINDS}


def in_tissue(model: Model) -> dict[str, list[int]]:
    """Return the cells counted in tissue without a nucleus, by what it is full of."""
    return {kind: _counts(negatives.make_negative, kind, model) for kind in negatives.KINDS}


def _counts(make: Callable[..., np.ndarray], kind: str, model: Model) -> list[int]:
    return [count(make(kind, empties.TEST_SHAPE, seed), model) for seed in empties.TEST_SEEDS]


def summary(counted: Counted) -> str:
    """Return in words in how many of the fields nothing was counted."""
    fields = [cells for kind in counted.values() for cells in kind]
    return f"{sum(cells == 0 for cells in fields)} of {len(fields)} fields without a false cell"


@click.command()
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
def main(model: Path) -> None:
    """Count with MODEL where there is nothing to count."""
    runner = Model(model, 1)
    for title, counted in (
        ("Cells in fields without any", in_empty_fields(runner)),
        ("Cells in tissue without a nucleus", in_tissue(runner)),
    ):
        print_table(title, ["field", "counted"], [[kind, " ".join(map(str, cells))] for kind, cells in counted.items()])
        click.echo(summary(counted))


if __name__ == "__main__":
    main()
