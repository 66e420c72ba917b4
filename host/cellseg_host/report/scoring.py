"""Every image scored once by every model, through the code that runs on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import Scored, score_image
from cellseg_host.evaluation.metrics import Labels


@dataclass(frozen=True)
class ScoredImage:
    """One image with its true cells, and each model's labels and score.

    Attributes
    ----------
    entry : Entry
    image : Image
    true : ndarray of uint16, shape (height, width)
    models : tuple of Scored
        One for each model.
    """

    entry: Entry
    image: Image
    true: Labels
    models: tuple[Scored, ...]

    @property
    def diameter_px(self) -> npt.NDArray[np.float64]:
        """Equivalent diameter of each true cell."""
        area = np.bincount(self.true.ravel(), minlength=1)[1:]
        return np.sqrt(4 * area / np.pi)

    def matched(self, model: int) -> npt.NDArray[np.bool_]:
        """Return which true cells match one that the model of this number counted."""
        matched: npt.NDArray[np.bool_] = np.any(metrics.matches(self.true, self.models[model].labels), axis=1)
        return matched


def score_all(models: Sequence[Model], dataset: Dataset, entries: Iterable[Entry]) -> Iterator[ScoredImage]:
    """Yield the images one by one, so that no more than one is in memory.

    Raises
    ------
    InputError
        If an image or its labels cannot be read.
    """
    for entry in entries:
        image, true = dataset.image(entry), dataset.labels(entry)
        yield ScoredImage(entry, image, true, tuple(score_image(model, entry, image, true) for model in models))
