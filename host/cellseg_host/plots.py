"""Pictures for people: training curves, and images with truth and prediction outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cellseg_device import files, normalise
from cellseg_device.image import Image
from cellseg_device.model import Model
from cellseg_device.overlay import outlines
from cellseg_device.segment import Stopwatch, look
from cellseg_host import history as histories
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluate import ImageScore, labels_of
from cellseg_host.history import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Truth in orange, the model's cells in cyan: told apart by the colour-blind too, on dark and on stained tissue
TRUTH_COLOUR, PREDICTION_COLOUR = (255, 140, 0), (0, 220, 255)
PANEL_PX = 300
WINDOW_PX = 256
# Okabe and Ito's palette without its yellow and black, for lines and points on white: told apart by the colour-blind
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
# Of validation scores, with their titles; a run may have others
_CURVES = {"mean_ap": "mean AP", "ap50": "AP@0.5", "mean_iou": "mean IoU", "auc": "AUC", "accuracy": "accuracy"}
_MAX_CURVES = 3
_GALLERY_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 75)
_LOG_RANGE = 10  # losses that fall further are shown on a logarithmic scale


def history(epochs: Sequence[Epoch], path: Path) -> None:
    """Plot losses and validation scores of one run over its epochs, into a file."""
    curves({"": epochs}).savefig(path, dpi=110)


def curves(runs: Mapping[str, Sequence[Epoch]]) -> Figure:
    """Losses and validation scores of runs over their epochs; the epochs whose networks were kept are marked.

    Parameters
    ----------
    runs : mapping of str to sequence of Epoch
        By name, each of at least one epoch.
    """
    from matplotlib.figure import Figure

    there = {name for epochs in runs.values() for name in epochs[0].scores}
    known = [name for name in _CURVES if name in there]
    own = sorted(there - {*known, histories.LOSS})
    shown = [*own, *known][:_MAX_CURVES]
    figure = Figure(figsize=(3.6 * (1 + len(shown)), 3.4), layout="constrained")
    panels = figure.subplots(1, 1 + len(shown), squeeze=False)[0]
    for (run, epochs), colour in zip(runs.items(), cycle(PALETTE)):
        number = [e.epoch for e in epochs]
        panels[0].plot(number, [e.loss for e in epochs], color=colour, label=f"{run} training".strip())
        for axes, name in zip(panels, [histories.LOSS, *shown], strict=True):
            if name in epochs[0].scores:
                _curve(axes, number, epochs, name, colour, f"{run} validation".strip())
    losses = [v for line in panels[0].lines for v in line.get_ydata() if v > 0]
    is_wide = bool(losses) and max(losses) > _LOG_RANGE * min(losses)
    panels[0].set(ylabel="loss", yscale="log" if is_wide else "linear")
    for axes, name in zip(panels[1:], shown, strict=True):
        axes.set_ylabel(f"{_CURVES.get(name, name)}, validation")
        if name in _CURVES:
            axes.set_ylim(0, 1)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
    panels[0].legend(fontsize="small")
    return figure


def _curve(axes: Any, number: list[int], epochs: Sequence[Epoch], name: str, colour: str, text: str) -> None:
    """One validation score; dashed beside the training loss, with a point at the best epoch elsewhere."""
    values = [e.scores[name] for e in epochs]
    axes.plot(number, values, color=colour, linestyle="--" if name == histories.LOSS else "-", label=text)
    best = histories.best(epochs)
    if best and name != histories.LOSS:
        axes.plot(best.epoch, best.scores[name], "o", color=colour, markersize=5)
        axes.annotate(
            f"{best.scores[name]:.3f}", (best.epoch, best.scores[name]), (0, 5), textcoords="offset points", fontsize=8
        )


def gallery(model: Model, dataset: Dataset, scores: Sequence[ImageScore], path: Path, each: int = 3) -> None:
    """Draw the best, median and worst images by AP@0.5: left the truth (orange), right the model's cells (cyan).

    Parameters
    ----------
    model : Model
    dataset : Dataset
    scores : sequence of ImageScore
    path : Path
        A .jpg; with nine images it has less than 300 kB.
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
    _, data = cv2.imencode(".jpg", cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR), _GALLERY_JPEG)
    files.write(path, data.tobytes())


def picture(image: Image) -> np.ndarray:
    """The image for the eye: RGB, uint8, contrast-stretched."""
    return normalise.stretched(image.pixels, 0.5, 99.8)


def enlarged(window: np.ndarray, side_px: int = PANEL_PX) -> np.ndarray:
    """A square window of a picture, or of labels, at the size of a panel."""
    method = cv2.INTER_CUBIC if window.ndim == 3 else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(window), (side_px, side_px), interpolation=method)


def outline(panel: np.ndarray, labels: np.ndarray, colour: tuple[int, int, int], width_px: int = 1) -> None:
    """Draw the outlines of labels of a panel's size into it: after enlarging, so that they stay thin."""
    panel[cv2.dilate(outlines(labels), np.ones((width_px, width_px), np.uint8)) > 0] = colour


def _pair(model: Model, dataset: Dataset, entry: Entry, score: ImageScore, name: str) -> np.ndarray:
    """Truth and prediction of the middle of an image, side by side under a line of text."""
    image = dataset.image(entry)
    predicted = labels_of(look(image, model, Stopwatch()))
    side = min(*image.shape, WINDOW_PX)
    top, left = ((n - side) // 2 for n in image.shape)
    window = np.s_[top : top + side, left : left + side]
    panels = []
    for labels, colour in ((dataset.labels(entry), TRUTH_COLOUR), (predicted, PREDICTION_COLOUR)):
        panels.append(enlarged(picture(image)[window]))
        outline(panels[-1], enlarged(labels[window]), colour)
    pair = cv2.copyMakeBorder(np.hstack(panels), 22, 6, 3, 9, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    text = f"{name}: AP@0.5 {score.ap50:.2f}, {score.cells_predicted} cells of {score.cells_true} ({score.modality})"
    cv2.putText(pair, text, (5, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return pair
