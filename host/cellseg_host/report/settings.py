"""How a comparison is made."""

from __future__ import annotations

from dataclasses import dataclass

from cellseg_host.report.statistics import RESAMPLES


@dataclass(frozen=True)
class Settings:
    """How a comparison is made.

    Attributes
    ----------
    split : str
        The images that the models are compared on.
    threads : int
        Used to run a network.
    runs : int
        Timed runs of each model on each field, at most.
    resamples, seed : int
        Of the bootstrap.
    threshold : float
        Of classifiers: the probability from which an image counts as having cells.
    """

    split: str = "test"
    threads: int = 2
    runs: int = 20
    resamples: int = RESAMPLES
    seed: int = 0
    threshold: float = 0.5
