"""What a training will do, and how long it takes: words for people. TensorFlow is not needed for them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from cellseg_device.units import plural
from cellseg_host.data.dataset import Dataset, Entry, cells_in
from cellseg_host.training import sampling
from cellseg_host.training.settings import TrainSettings


def plan(dataset: Dataset, settings: TrainSettings, path: Path) -> list[str]:
    """Return what a training will do, in a few lines.

    Raises
    ------
    InputError
        If the dataset has no image to train on, or none to validate on, or its sets cannot have these shares.
    """
    of = dataset.split if settings.learns_kinds else dataset.labelled
    train, val = of("train"), of("val")
    cells = cells_in(train)
    start = f", from the weights of {settings.init}" if settings.init else ""
    frozen = {"none": "", "encoder": ", its encoder kept", "all-but-head": ", all but its head kept"}[settings.freeze]
    rounds = f"{settings.rounds} rounds of " if settings.rounds > 1 else ""
    averaged = f", then {settings.swa} to average" if settings.swa else ""
    small = f"fields made small to at most {settings.side} px"
    views = f"{settings.batch} views of " + (
        small if settings.learns_kinds else f"{settings.side} x {settings.side} px"
    )
    return [
        f"network: {settings.arch}{start}{frozen}",
        f"images: {len(train):,} to train on, with {cells:,} cells, and {len(val):,} to validate with ({dataset.root})",
        *_drawn(train, settings),
        f"epochs: {rounds}at most {settings.epochs:,}{averaged}, of {settings.steps:,} steps each; a step is {views}",
        f"run: {path}",
    ]


def _drawn(entries: Sequence[Entry], settings: TrainSettings) -> list[str]:
    """Return how often each kind, or each set and modality, is drawn, a line for each; nothing of a single set."""
    if settings.learns_kinds:
        kinds = sorted(Counter(entry.kind for entry in entries).items())
        return [f"views: {1 / len(kinds):.1%} of the kind {kind} ({plural(number, 'image')})" for kind, number in kinds]
    groups = sampling.groups(entries, settings.shares)
    if len({group.set for group in groups}) < 2:
        return []
    return [
        f"views: {group.share:.1%} of {group.set}, {group.modality} ({plural(group.images, 'image')})"
        for group in groups
    ]


def most_epochs(settings: TrainSettings) -> int:
    """Return the number of epochs if none of the rounds ends early."""
    return settings.epochs * settings.rounds + settings.swa


def duration(seconds: float) -> str:
    """Return a time as people say it: ``8 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Pace:
    """Measures how long epochs take.

    Parameters
    ----------
    epochs : int
        Of the whole training, at most.
    clock : callable
        Returns a time in seconds.
    """

    def __init__(self, epochs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._epochs = epochs
        self._clock = clock
        self._begun: float | None = None

    def step(self) -> None:
        """Note that a step was taken: the first one begins the time, since what is before it is not repeated."""
        if self._begun is None:
            self._begun = self._clock()

    def end(self, epoch: int) -> str:
        """Note that the epoch of this number has ended, and return how long it took and how much time is left."""
        if self._begun is None:
            return ""
        now, begun = self._clock(), self._begun
        self._begun = now
        left = self._epochs - epoch
        text = f"{duration(now - begun)} an epoch"
        return f"{text}, about {duration(left * (now - begun))} left" if left > 0 else text
