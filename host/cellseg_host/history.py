"""The history of a training run: one row per epoch, in RUN/history.csv."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from cellseg_device import files


@dataclass(frozen=True)
class Epoch:
    """One row of the history. Losses are means over the epoch, accuracies means over the validation images."""

    epoch: int
    loss: float
    learning_rate: float
    val_loss: float
    val_ap50: float
    val_mean_ap: float
    val_mean_iou: float
    best: bool


def write(path: Path, history: Sequence[Epoch]) -> None:
    """Write the epochs of the run in `path`, whole."""
    text = StringIO()
    writer = csv.DictWriter(text, [f.name for f in dataclasses.fields(Epoch)])
    writer.writeheader()
    writer.writerows(dataclasses.asdict(e) for e in history)
    files.write(path / "history.csv", text.getvalue().encode())


def read(path: Path) -> list[Epoch]:
    """The epochs of a run so far."""
    if not (path / "history.csv").is_file():
        return []
    with (path / "history.csv").open(newline="") as file:
        return [
            Epoch(int(r.pop("epoch")), best=r.pop("best") == "True", **{k: float(v) for k, v in r.items()})
            for r in csv.DictReader(file)
        ]
