"""How a model is adapted. TensorFlow is not needed for it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

CORRECTED = "corrected"  # the set of the user's images
_CELLS_ACROSS = 4  # that a view shows
_STRIDE = 32
_LARGEST_SIDE = 256
_LEAST_BATCH = 4


@dataclass(frozen=True)
class Settings:
    """How a model is adapted.

    Attributes
    ----------
    epochs, steps : int
        Of each model that is trained.
    side, batch : int
        Side of a view in pixels, views in a batch: for cells up to a quarter of that side. For larger cells the views
        are larger, and so many fewer that a step takes as long.
    learning_rate : float
    freeze : str
        What keeps its weights, as for ``train --freeze``.
    share : float
        Of the views that show corrected images; the others show images that are replayed.
    start_share : float
        Of the start model's weights in those of the new model.
    seed : int
    """

    # Tried on training images, ten of each kind, and by the others (AP@0.5 before and after, and what is lost on plain
    # images): chamber tiles 0.48, 0.85, 0.01; blurred fields 0.68, 0.82, 0.04; noisy ones 0.38, 0.75, 0.03; phase
    # contrast 0.00, 0.67, 0.04. Without any of the start's weights blurred fields got 0.80 and lost 0.06. A frozen
    # encoder (noisy: 0.61), 1,600 steps and changes of the stain gave less or nothing more.
    epochs: int = 6
    steps: int = 200
    side: int = 128
    batch: int = 16
    learning_rate: float = 1e-3
    freeze: str = "none"
    share: float = 0.7
    start_share: float = 0.25
    seed: int = 0

    @property
    def short(self) -> Settings:
        """The settings of a model that is only judged: trained for half as long, it says a little less than is so."""
        return dataclasses.replace(self, epochs=math.ceil(self.epochs / 2))

    def views(self, diameter_px: float) -> tuple[int, int]:
        """Return the side of a view and the views in a batch, for cells of this diameter."""
        wanted = math.ceil(_CELLS_ACROSS * diameter_px / _STRIDE) * _STRIDE
        side = max(self.side, min(wanted, _LARGEST_SIDE))
        return side, max(_LEAST_BATCH, round(self.batch * (self.side / side) ** 2))

    def training(self, start: dict[str, Any], diameter_px: float) -> dict[str, Any]:
        """Return the settings of a training run that goes on from a start model.

        Parameters
        ----------
        start : dict
            Settings that follow from the start model: arch, heads, init and perhaps more.
        diameter_px : float
            Of the corrected cells.
        """
        own = dataclasses.asdict(self)
        share = own.pop("share")
        del own["start_share"]
        own["side"], own["batch"] = self.views(diameter_px)
        return start | own | {"keep": "last", "moving_average": 0.99, "shares": {CORRECTED: share}}
