"""Accuracy of a model file on a dataset, through the very code that runs on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cellseg_device.card import Separation
from cellseg_device.errors import ImageError
from cellseg_device.image import Image
from cellseg_device.instances import mask_of
from cellseg_device.model import MapSpec, Model
from cellseg_device.segment import Look, Maps, Stopwatch, label, look, separated
from cellseg_host import metrics
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.metrics import Labels, Mask

# Threshold of the published baseline's two-class mean IoU
BASELINE_THRESHOLD = 0.4


@dataclass(frozen=True)
class ImageScore:
    """Accuracy of one image. Shares lie between 0 and 1.

    Attributes
    ----------
    id, modality : str
    cells_true, cells_predicted : int
    foreground_iou, dice : float
        Of the pixels in any cell.
    mean_iou : float
        Two-class mean IoU of the foreground map at threshold 0.4, the published baseline's metric.
    ap : tuple of float
        At each of `metrics.THRESHOLDS`.
    """

    id: str
    modality: str
    cells_true: int
    cells_predicted: int
    foreground_iou: float
    dice: float
    mean_iou: float
    ap: tuple[float, ...]

    @property
    def ap50(self) -> float:
        """AP at IoU 0.5."""
        return self.ap[0]

    @property
    def mean_ap(self) -> float:
        """Mean AP over IoU 0.5:0.05:0.95, the score of the 2018 Data Science Bowl."""
        return float(np.mean(self.ap))

    def row(self) -> dict[str, Any]:
        """Flat, for a table."""
        flat = {k: v for k, v in dataclasses.asdict(self).items() if k != "ap"}
        flat["count_error"] = self.cells_predicted - self.cells_true
        flat["mean_ap"] = self.mean_ap
        return flat | {f"ap{round(t * 100)}": v for t, v in zip(metrics.THRESHOLDS, self.ap, strict=True)}


@dataclass(frozen=True)
class Judged:
    """What a model makes of one image.

    Attributes
    ----------
    score : ImageScore
    labels : ndarray of uint16, shape (height, width)
    """

    score: ImageScore
    labels: Labels


@dataclass(frozen=True)
class Summary:
    """Means over images.

    Attributes
    ----------
    images, cells_true, cells_predicted : int
    ap50, ap75, mean_ap, mean_iou, foreground_iou, dice : float
        Means over the images.
    total_count_error : float
        |Σ predicted − Σ true| / Σ true: how far the count of the whole set is off.
    image_count_error : float
        Σ |predicted − true| / Σ true: the same without errors cancelling between images.
    """

    images: int
    cells_true: int
    cells_predicted: int
    ap50: float
    ap75: float
    mean_ap: float
    mean_iou: float
    foreground_iou: float
    dice: float
    total_count_error: float
    image_count_error: float


def evaluate(model: Model, dataset: Dataset, entries: Iterable[Entry]) -> Iterator[ImageScore]:
    """Score every image, one by one.

    Parameters
    ----------
    model : Model
    dataset : Dataset
    entries : iterable of Entry

    Yields
    ------
    ImageScore
    """
    for entry in entries:
        yield judge(model, entry, dataset.image(entry), dataset.labels(entry)).score


def judge(model: Model, entry: Entry, image: Image, true: Labels) -> Judged:
    """Label one image by the model, and score the labels."""
    seen = look(image, model, Stopwatch())
    labels = labels_of(seen)
    (height, width), threshold = seen.shape, model.maps["foreground"].threshold(BASELINE_THRESHOLD)
    mask = mask_of(seen.maps["foreground"], seen.shape, threshold)[:height, :width]
    if seen.shape != image.shape:
        mask = cv2.resize(mask, image.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return Judged(score(entry, true, labels, mask > 0), labels)


def labels_of(seen: Look) -> Labels:
    """Labels as on the device; none where it gives the image up, for more specks than labels."""
    try:
        return separated(seen)
    except ImageError:
        return np.zeros(seen.image.shape, np.uint16)


def score(entry: Entry, true: Labels, labels: Labels, mask: Mask) -> ImageScore:
    """Compare labels and a foreground, whoever made them, with the truth.

    Parameters
    ----------
    entry : Entry
    true, labels : ndarray of uint16, shape (height, width)
        Numbered from 1 without gaps; 0 is background.
    mask : ndarray of bool, shape (height, width)
        For `ImageScore.mean_iou`.
    """
    return ImageScore(
        entry.id,
        entry.modality,
        int(true.max(initial=0)),
        int(labels.max(initial=0)),
        metrics.foreground_iou(true > 0, labels > 0),
        metrics.dice(true > 0, labels > 0),
        metrics.two_class_iou(true > 0, mask),
        tuple(float(p) for p in metrics.average_precision(true, labels)),
    )


def labelled(maps: Maps, shape: tuple[int, int], specs: Mapping[str, MapSpec], separation: Separation) -> Labels:
    """Labels as on the device; none where the device gives the image up, since the maps have more specks than labels.

    A network in its first epochs, or judged by a wrong threshold, may draw such maps.
    """
    try:
        return label(maps, shape, specs, separation)
    except ImageError:
        return np.zeros(shape, np.uint16)


def summarise(scores: Sequence[ImageScore]) -> Summary:
    """Means over `scores`, of which there is at least one."""

    def mean(name: str) -> float:
        return float(np.mean([getattr(s, name) for s in scores]))

    true, predicted = sum(s.cells_true for s in scores), sum(s.cells_predicted for s in scores)
    off = sum(abs(s.cells_predicted - s.cells_true) for s in scores)
    return Summary(
        len(scores),
        true,
        predicted,
        mean("ap50"),
        float(np.mean([s.ap[metrics.THRESHOLDS.index(0.75)] for s in scores])),
        mean("mean_ap"),
        mean("mean_iou"),
        mean("foreground_iou"),
        mean("dice"),
        abs(predicted - true) / max(true, 1),
        off / max(true, 1),
    )


def by_modality(scores: Sequence[ImageScore]) -> dict[str, Summary]:
    """Summaries of ``all`` and of each modality."""
    groups = {"all": list(scores)}
    for modality in sorted({s.modality for s in scores}):
        groups[modality] = [s for s in scores if s.modality == modality]
    return {name: summarise(group) for name, group in groups.items()}
