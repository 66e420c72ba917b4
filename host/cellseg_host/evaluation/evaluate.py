"""Accuracy of a model file on a dataset, through the code that runs on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cellseg_device.cells.counting import Counting
from cellseg_device.cells.instances import mask_of
from cellseg_device.errors import ImageError
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import Separation
from cellseg_device.model.interpreter import MapSpec, Model
from cellseg_device.pipeline import segment
from cellseg_device.pipeline.predict import Maps, Prediction, predict
from cellseg_device.pipeline.segment import label
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.grouping import groups
from cellseg_host.evaluation.metrics import Labels, Mask

# Threshold of the published baseline's two-class mean IoU
BASELINE_THRESHOLD = 0.4


@dataclass(frozen=True)
class ImageScore:
    """Accuracy of one image. Shares lie between 0 and 1.

    Attributes
    ----------
    id, set, modality : str
    cells_true, cells_counted, cells_matched : int
        True cells, cells that the model counts, and pairs of both that overlap by an IoU above 0.5 (`metrics.matches`).
    foreground_iou, dice : float
        Of the pixels in any cell.
    mean_iou : float
        Two-class mean IoU of the foreground map at threshold 0.4, the published baseline's metric.
    ap : tuple of float
        At each of `metrics.THRESHOLDS`.
    """

    id: str
    set: str
    modality: str
    cells_true: int
    cells_counted: int
    cells_matched: int
    foreground_iou: float
    dice: float
    mean_iou: float
    ap: tuple[float, ...]

    @property
    def ap50(self) -> float:
        """AP at IoU 0.5."""
        return self.ap[0]

    @property
    def ap75(self) -> float:
        """AP at IoU 0.75."""
        return self.ap[metrics.THRESHOLDS.index(0.75)]

    @property
    def mean_ap(self) -> float:
        """Mean AP over IoU 0.5:0.05:0.95, the score of the 2018 Data Science Bowl."""
        return float(np.mean(self.ap))

    @property
    def relative_count_error(self) -> float | None:
        """|counted − true| / true; None for an image without true cells."""
        return metrics.count_error(self.cells_true, self.cells_counted)

    def row(self) -> dict[str, Any]:
        """Return all of it as one flat row of a table; ``count_error`` is counted − true, in cells."""
        flat = {k: v for k, v in dataclasses.asdict(self).items() if k != "ap"}
        flat |= {
            "precision": metrics.precision(self.cells_matched, self.cells_counted),
            "recall": metrics.recall(self.cells_matched, self.cells_true),
            "f1": metrics.f1(self.cells_matched, self.cells_true, self.cells_counted),
            "count_error": self.cells_counted - self.cells_true,
            "mean_ap": self.mean_ap,
        }
        return flat | {f"ap{round(t * 100)}": v for t, v in zip(metrics.THRESHOLDS, self.ap, strict=True)}


@dataclass(frozen=True)
class Scored:
    """The labels that a model gives one image, and their score.

    Attributes
    ----------
    score : ImageScore
    labels : ndarray of uint16, shape (height, width)
    """

    score: ImageScore
    labels: Labels


@dataclass(frozen=True)
class Summary:
    """Accuracy on a set of images, of which there is at least one.

    Attributes
    ----------
    images, cells_true, cells_counted, cells_matched : int
        Sums; cells match at an IoU above 0.5 (`metrics.matches`).
    ap50, ap75, mean_ap, mean_iou, foreground_iou, dice : float
        Means over the images. An image without any cell, true or counted, scores 1.
    precision, recall, f1 : float or None
        `metrics.precision`, `recall` and `f1` of all cells of the set together, so that an image weighs as much as it
        has cells. What is counted in an image without true cells lowers the precision; recall does not know such an
        image. None where nothing is counted, where no cell is true, and where neither is.
    total_count_error : float
        |Σ counted − Σ true| / Σ true: how far the count of the whole set is off. Too many cells in one image and too
        few in another cancel.
    image_count_error : float
        Σ |counted − true| / Σ true: the same without cancelling; images weigh as much as they have cells.
    mean_count_error : float or None
        Mean over the images of |counted − true| / true (`metrics.count_error`): how far the count of a single image is
        off. Images without true cells are left out; None where all are such.
    """

    images: int
    cells_true: int
    cells_counted: int
    cells_matched: int
    ap50: float
    ap75: float
    mean_ap: float
    mean_iou: float
    foreground_iou: float
    dice: float
    precision: float | None
    recall: float | None
    f1: float | None
    total_count_error: float
    image_count_error: float
    mean_count_error: float | None


def evaluate(model: Model, dataset: Dataset, entries: Iterable[Entry]) -> Iterator[ImageScore]:
    """Yield the score of each image, one after the other.

    Parameters
    ----------
    model : Model
    dataset : Dataset
    entries : iterable of Entry
    """
    for entry in entries:
        yield score_image(model, entry, dataset.image(entry), dataset.labels(entry)).score


def score_image(model: Model, entry: Entry, image: Image, true: Labels) -> Scored:
    """Return a model's labels of one image with their score."""
    prediction = predicted(model, image)
    labels = labels_of(prediction)
    (height, width), threshold = prediction.shape, model.maps["foreground"].threshold(BASELINE_THRESHOLD)
    mask = mask_of(prediction.maps["foreground"], prediction.shape, threshold)[:height, :width]
    if prediction.shape != image.shape:
        mask = cv2.resize(mask, image.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8)
    return Scored(score_labels(entry, true, labels, mask > 0), labels)


def predicted(model: Model, image: Image) -> Prediction:
    """Return a model's prediction for an image, with the settings by which the device counts if it is given none."""
    return predict(Counting().applied(image), model, Stopwatch())


def labels_of(prediction: Prediction) -> Labels:
    """Return the labels as on the device; none where it gives the image up because it has more specks than labels."""
    try:
        return segment.labels_of(prediction)
    except ImageError:
        return np.zeros(prediction.image.shape, np.uint16)


def score_labels(entry: Entry, true: Labels, labels: Labels, mask: Mask) -> ImageScore:
    """Return the score of labels and a foreground, whoever made them, against the truth.

    Parameters
    ----------
    entry : Entry
    true, labels : ndarray of uint16, shape (height, width)
        Numbered from 1 without gaps; 0 is background.
    mask : ndarray of bool, shape (height, width)
        The foreground, for `ImageScore.mean_iou`.
    """
    return ImageScore(
        id=entry.id,
        set=entry.set,
        modality=entry.modality,
        cells_true=int(true.max(initial=0)),
        cells_counted=int(labels.max(initial=0)),
        cells_matched=int(np.count_nonzero(metrics.matches(true, labels))),
        foreground_iou=metrics.foreground_iou(true > 0, labels > 0),
        dice=metrics.dice(true > 0, labels > 0),
        mean_iou=metrics.two_class_iou(true > 0, mask),
        ap=tuple(float(p) for p in metrics.average_precision(true, labels)),
    )


def labelled(maps: Maps, shape: tuple[int, int], specs: Mapping[str, MapSpec], separation: Separation) -> Labels:
    """Return the labels as on the device; none where it gives the image up because it has more specks than labels.

    The maps of a network in its first epochs, or a wrong threshold, may cause that.
    """
    try:
        return label(maps, shape, specs, separation)
    except ImageError:
        return np.zeros(shape, np.uint16)


def summarise(scores: Sequence[ImageScore]) -> Summary:
    """Return the summary of `scores`, of which there is at least one."""

    def mean(name: str) -> float:
        return float(np.mean([getattr(s, name) for s in scores]))

    true, counted = sum(s.cells_true for s in scores), sum(s.cells_counted for s in scores)
    matched = sum(s.cells_matched for s in scores)
    count_errors = [e for s in scores if (e := s.relative_count_error) is not None]
    return Summary(
        images=len(scores),
        cells_true=true,
        cells_counted=counted,
        cells_matched=matched,
        ap50=mean("ap50"),
        ap75=mean("ap75"),
        mean_ap=mean("mean_ap"),
        mean_iou=mean("mean_iou"),
        foreground_iou=mean("foreground_iou"),
        dice=mean("dice"),
        precision=metrics.precision(matched, counted),
        recall=metrics.recall(matched, true),
        f1=metrics.f1(matched, true, counted),
        total_count_error=abs(counted - true) / max(true, 1),
        image_count_error=sum(abs(s.cells_counted - s.cells_true) for s in scores) / max(true, 1),
        mean_count_error=float(np.mean(count_errors)) if count_errors else None,
    )


def by_group(scores: Sequence[ImageScore]) -> dict[str, Summary]:
    """Return the summary of each of the `grouping.groups`, of which the first is ``all``."""
    return {title: summarise([scores[place] for place in places]) for title, places in groups(scores).items()}
