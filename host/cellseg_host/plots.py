"""Pictures for people: training curves, and images with truth and prediction outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from cellseg_device import normalise
from cellseg_device.image import Image
from cellseg_device.model import Model
from cellseg_device.overlay import outlines
from cellseg_device.segment import label, predict
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluate import ImageScore
from cellseg_host.history import Epoch

# Truth in orange, the model's cells in cyan: told apart by the colour-blind too, on dark and on stained tissue
TRUTH_COLOUR, PREDICTION_COLOUR = (255, 140, 0), (0, 220, 255)
PANEL_PX = 300


def history(epochs: Sequence[Epoch], path: Path) -> None:
    """Plot losses and validation accuracy over the epochs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    number = [e.epoch for e in epochs]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(number, [e.loss for e in epochs], label="train")
    left.plot(number, [e.val_loss for e in epochs], label="validation")
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    for name, text in (("val_ap50", "AP@0.5"), ("val_mean_ap", "mean AP"), ("val_mean_iou", "mean IoU")):
        right.plot(number, [getattr(e, name) for e in epochs], label=text)
    best = [e for e in epochs if e.best][-1:]
    for epoch in best:
        right.axvline(epoch.epoch, color="0.7", zorder=0)
        right.annotate(f"best: {epoch.val_mean_ap:.3f}", (epoch.epoch, epoch.val_mean_ap), fontsize=8)
    right.set(xlabel="epoch", ylabel="validation", ylim=(0, 1))
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def gallery(model: Model, dataset: Dataset, scores: Sequence[ImageScore], path: Path, each: int = 3) -> None:
    """Draw the best, median and worst images by AP@0.5: left the truth (orange), right the model's cells (cyan).

    Parameters
    ----------
    model : Model
    dataset : Dataset
    scores : sequence of ImageScore
    path : Path
        A .png or .jpg.
    each : int
        Images in each of the three rows.
    """
    ranked = sorted(scores, key=lambda s: (s.ap50, s.mean_ap), reverse=True)
    middle = max(len(ranked) // 2 - each // 2, 0)
    entries = {e.id: e for e in dataset.entries}
    rows = []
    for name, group in (
        ("best", ranked[:each]),
        ("median", ranked[middle : middle + each]),
        ("worst", ranked[-each:]),
    ):
        panels = [_pair(model, dataset, entries[score.id], score, name) for score in group]
        rows.append(np.hstack(panels + [np.zeros_like(panels[0])] * (each - len(panels))))
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _pair(model: Model, dataset: Dataset, entry: Entry, score: ImageScore, name: str) -> np.ndarray:
    """Truth and prediction of the middle of an image, side by side under a line of text."""
    image = dataset.image(entry)
    predicted = label(predict(image, model), image.shape, model.maps, model.card.separation)
    panels = [
        _outlined(image, dataset.labels(entry), TRUTH_COLOUR),
        _outlined(image, predicted, PREDICTION_COLOUR),
    ]
    pair = cv2.copyMakeBorder(np.hstack(panels), 22, 6, 3, 9, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    text = f"{name}: AP@0.5 {score.ap50:.2f}, {score.cells_predicted} cells of {score.cells_true} ({score.modality})"
    cv2.putText(pair, text, (5, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return pair


def _outlined(image: Image, labels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    picture = normalise.stretched(image.pixels, 0.5, 99.8)
    side = min(*image.shape, 256)
    top, left = ((n - side) // 2 for n in image.shape)
    window = np.s_[top : top + side, left : left + side]
    # Outlines are drawn after enlarging, so that they stay thin
    picture = cv2.resize(picture[window], (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_CUBIC)
    large = cv2.resize(np.ascontiguousarray(labels[window]), (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_NEAREST)
    picture[outlines(large) > 0] = colour
    return picture
