"""The history of a training run: one row per epoch, in RUN/history.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.errors import InputError
from cellseg_device.system import csv_text, files

LOSS = "val_loss"  # the one score of which less is better
FIXED = ("epoch", "round", "loss", "learning_rate", "best")  # columns that are not scores


@dataclass(frozen=True)
class Epoch:
    """One row of the history.

    Attributes
    ----------
    epoch, round : int
        From 1; epochs are numbered through all rounds. Epoch 0 of round 0 is the network before training, where it
        was trained already.
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
    """Return whether a score is an improvement."""
    return than is None or (score < than if name == LOSS else score > than)


def best(history: Sequence[Epoch]) -> Epoch | None:
    """Return the epoch whose network was kept."""
    return next((e for e in reversed(history) if e.best), None)


def since_best(history: Sequence[Epoch]) -> int:
    """Return the number of epochs since the last improvement."""
    return next((n for n, e in enumerate(reversed(history)) if e.best), len(history))


def write(path: Path, history: Sequence[Epoch]) -> None:
    """Write all epochs of the run in `path`, in place of the older file."""
    names = list(history[0].scores) if history else []
    rows = [[*(getattr(e, k) for k in FIXED[:-1]), *(e.scores[k] for k in names), e.best] for e in history]
    files.write(path / "history.csv", csv_text.csv_bytes([[*FIXED[:-1], *names, FIXED[-1]], *rows]))


def read(path: Path) -> list[Epoch]:
    """Return the epochs of a run so far.

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
                for row in csv_text.Rows(lines)
            ]
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"{file}: is damaged ({error}): train again into another folder") from None
