"""Every image judged once by every model, through the code that runs on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.image import Image
from cellseg_device.model import Model
from cellseg_device.segment import foreground_mask, label, predict
from cellseg_host import metrics
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluate import BASELINE_THRESHOLD, ImageScore
from cellseg_host.metrics import Labels


@dataclass(frozen=True)
class Judged:
    """What one model makes of one image.

    Attributes
    ----------
    score : ImageScore
    labels : ndarray of uint16, shape (height, width)
    found : ndarray of bool, shape (n_cells,)
        For each true cell, whether a predicted one overlaps it by an IoU above 0.5.
    """

    score: ImageScore
    labels: Labels
    found: npt.NDArray[np.bool_]


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
    """

    entry: Entry
    image: Image
    true: Labels
    diameter_px: npt.NDArray[np.float64]
    judged: tuple[Judged, ...]


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
        yield Seen(entry, image, true, np.sqrt(4 * area / np.pi), judged)


def judge(model: Model, entry: Entry, image: Image, true: Labels) -> Judged:
    """Label one image by one model and score it, as `cellseg_host.evaluate` does."""
    maps = predict(image, model)
    labels = label(maps, image.shape, model.maps, model.card.separation)
    threshold = model.maps["foreground"].threshold(BASELINE_THRESHOLD)
    mask = foreground_mask(maps["foreground"], image.shape, threshold)[: image.shape[0], : image.shape[1]] > 0
    score = ImageScore(
        entry.id,
        entry.modality,
        entry.cells,
        int(labels.max(initial=0)),
        metrics.foreground_iou(true > 0, labels > 0),
        metrics.dice(true > 0, labels > 0),
        metrics.two_class_iou(true > 0, mask),
        tuple(float(p) for p in metrics.average_precision(true, labels)),
    )
    return Judged(score, labels, metrics.pairwise_iou(true, labels).max(axis=1, initial=0) > metrics.THRESHOLDS[0])
