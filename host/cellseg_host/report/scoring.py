"""Every image judged once by every model, through the code that runs on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.image import Image
from cellseg_device.model import Model
from cellseg_host import metrics
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluate import Judged, judge
from cellseg_host.metrics import Labels


@dataclass(frozen=True)
class Seen:
    """One image, and what each model makes of it.

    Attributes
    ----------
    entry : Entry
    image : Image
    true : ndarray of uint16, shape (height, width)
    diameter_px : ndarray of float64, shape (n_cells,)
        Equivalent diameter of each true cell.
    judged : tuple of Judged
        One for each model.
    found : tuple of ndarray of bool, each of shape (n_cells,)
        For each model, which true cells it found.
    """

    entry: Entry
    image: Image
    true: Labels
    diameter_px: npt.NDArray[np.float64]
    judged: tuple[Judged, ...]
    found: tuple[npt.NDArray[np.bool_], ...]


def judge_all(models: Sequence[Model], dataset: Dataset, entries: Iterable[Entry]) -> Iterator[Seen]:
    """Judge the images one by one; each is read once and let go of.

    Raises
    ------
    InputError
        If an image or its labels cannot be read.
    """
    for entry in entries:
        image, true = dataset.image(entry), dataset.labels(entry)
        area = np.bincount(true.ravel(), minlength=1)[1:]
        judged = tuple(judge(model, entry, image, true) for model in models)
        found = tuple(cells_found(true, j.labels) for j in judged)
        yield Seen(entry, image, true, np.sqrt(4 * area / np.pi), judged, found)


def cells_found(true: Labels, labels: Labels) -> npt.NDArray[np.bool_]:
    """For each true cell, whether a predicted one overlaps it by an IoU above 0.5."""
    return metrics.pairwise_iou(true, labels).max(axis=1, initial=0) > metrics.THRESHOLDS[0]
