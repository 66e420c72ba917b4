"""How a model is adapted. TensorFlow is not needed for it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

CORRECTED = "corrected"  # the set of the user's images


@dataclass(frozen=True)
class Settings:
    """How a model is adapted: found by trials on training images of four public data sets (benchmarks/adapt.py).

    Attributes
    ----------
    epochs, steps : int
        Of each model that is trained.
    batch, side : int
        Views in a batch, side of a view in pixels.
    learning_rate : float
    freeze : str
        What keeps its weights, as for ``train --freeze``.
    share : float
        Of the views that show corrected images; the others show images that are replayed.
    seed : int
    """

    epochs: int = 4
    steps: int = 150
    batch: int = 16
    side: int = 128
    learning_rate: float = 1e-3
    freeze: str = "none"
    share: float = 0.7
    seed: int = 0

    def training(self, start: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of a training run that goes on from a start model.

        Parameters
        ----------
        start : dict
            Settings that follow from the start model: arch, options, heads and init.
        """
        own = dataclasses.asdict(self)
        share = own.pop("share")
        return start | own | {"keep": "last", "moving_average": 0.99, "shares": {CORRECTED: share}}
