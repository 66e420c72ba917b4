"""The history of a training run: one row per epoch, in RUN/history.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from cellseg_device import files
from cellseg_device.errors import InputError

LOSS = "val_loss"  # the one score that is better when it is smaller
FIXED = ("epoch", "round", "loss", "learning_rate", "best")  # columns that are no scores


@dataclass(frozen=True)
class Epoch:
    """One row of the history.

    Attributes
    ----------
    epoch, round : int
        From 1; epochs are numbered through all rounds. Epoch 0 of round 0 is a network that had learnt before, as it
        was.
    loss : float
        Mean over the epoch's batches; of epoch 0, which has none, the validation loss.
    learning_rate : float
        Of its last batch.
    best : bool
        Whether its network was the best so far, and kept.
    scores : mapping
        Of the validation images: means over them, by name.
    """

    epoch: int
    round: int
    loss: float
    learning_rate: float
    best: bool
    scores: Mapping[str, float]


def better(name: str, score: float, than: float | None) -> bool:
    """Whether a score is an improvement."""
    return than is None or (score < than if name == LOSS else score > than)


def best(history: Sequence[Epoch]) -> Epoch | None:
    """The epoch whose network was kept."""
    return next((e for e in reversed(history) if e.best), None)


def since_best(history: Sequence[Epoch]) -> int:
    """Epochs since the last one that was an improvement."""
    return next((n for n, e in enumerate(reversed(history)) if e.best), len(history))


def write(path: Path, history: Sequence[Epoch]) -> None:
    """Write the epochs of the run in `path`, whole."""
    text = StringIO()
    names = list(history[0].scores) if history else []
    writer = csv.DictWriter(text, [*FIXED[:-1], *names, FIXED[-1]])
    writer.writeheader()
    writer.writerows({**{k: getattr(e, k) for k in FIXED}, **e.scores} for e in history)
    files.write(path / "history.csv", text.getvalue().encode())


def read(path: Path) -> list[Epoch]:
    """The epochs of a run so far.

    Raises
    ------
    InputError
        If the table is damaged.
    """
    file = path / "history.csv"
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as lines:
        try:
            return [
                Epoch(
                    int(row["epoch"]),
                    int(row["round"]),
                    float(row["loss"]),
                    float(row["learning_rate"]),
                    row["best"] == "True",
                    {k: float(v) for k, v in row.items() if k not in FIXED},
                )
                for row in csv.DictReader(lines)
            ]
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{file}: is damaged ({error}): train again into another folder") from None
