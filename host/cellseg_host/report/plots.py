"""Pictures for people: training curves, and images with the outlines of true and counted cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.image import normalise
from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model
from cellseg_device.results.overlay import outlines
from cellseg_device.summary.chart import PALETTE
from cellseg_device.system import files
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation.evaluate import ImageScore, labels_of, predicted
from cellseg_host.evaluation.metrics import Labels
from cellseg_host.training import history as histories
from cellseg_host.training.history import Epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = TypeVar("P", bound=np.generic)
Picture = npt.NDArray[np.uint8]

# Of true cells (orange) and counted ones (cyan): distinct for the colour-blind too, on dark and on stained tissue
TRUTH_COLOUR, PREDICTION_COLOUR = (255, 140, 0), (0, 220, 255)
PANEL_PX = 300
WINDOW_PX = 256
# Of validation scores, with their titles; a run may have others
_CURVES = {"mean_ap": "mean AP", "ap50": "AP@0.5", "mean_iou": "mean IoU", "auc": "AUC", "accuracy": "accuracy"}
_MAX_CURVES = 3
_GALLERY_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 75)
_LOG_RANGE = 10  # losses that fall further are shown on a logarithmic scale


def history(epochs: Sequence[Epoch], path: Path) -> None:
    """Plot losses and validation scores of one run over its epochs, into a file."""
    curves({"": epochs}).savefig(path, dpi=110)


def curves(runs: Mapping[str, Sequence[Epoch]]) -> Figure:
    """Plot losses and validation scores of runs over their epochs, with a point at each epoch whose network was kept.

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
        numbers, training = [e.epoch for e in epochs], [e.loss for e in epochs]
        panels[0].plot(numbers, training, color=colour, label=f"{run} training".strip())
        for axes, name in zip(panels, [histories.LOSS, *shown], strict=True):
            if name in epochs[0].scores:
                _curve(axes, epochs, name, colour, f"{run} validation".strip())
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


def _curve(axes: Any, epochs: Sequence[Epoch], name: str, colour: str, text: str) -> None:
    """Plot one validation score: dashed beside the training loss, elsewhere with a point at the best epoch."""
    numbers, values = [e.epoch for e in epochs], [e.scores[name] for e in epochs]
    axes.plot(numbers, values, color=colour, linestyle="--" if name == histories.LOSS else "-", label=text)
    best = histories.best(epochs)
    if best and name != histories.LOSS:
        axes.plot(best.epoch, best.scores[name], "o", color=colour, markersize=5)
        axes.annotate(
            f"{best.scores[name]:.3f}", (best.epoch, best.scores[name]), (0, 5), textcoords="offset points", fontsize=8
        )


def gallery(model: Model, dataset: Dataset, scores: Sequence[ImageScore], path: Path, each: int = 3) -> None:
    """Draw the best, median and worst images by AP@0.5: left the true cells (orange), right the counted ones (cyan).

    Each says so, in the colour of its outlines.

    Parameters
    ----------
    model : Model
    dataset : Dataset
    scores : sequence of ImageScore
    path : Path
        A .jpg; with nine images it takes less than 300 kB.
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


def picture(image: Image) -> Picture:
    """Return the image for display: RGB, uint8, contrast-stretched."""
    return normalise.stretched(image.pixels, 0.5, 99.8)


def enlarged(window: npt.NDArray[P], side_px: int = PANEL_PX) -> npt.NDArray[P]:
    """Return a square window of a picture, or of labels, at the size of a panel."""
    method = cv2.INTER_CUBIC if window.ndim == 3 else cv2.INTER_NEAREST
    panel: npt.NDArray[P] = cv2.resize(np.ascontiguousarray(window), (side_px, side_px), interpolation=method)
    return panel


def outline(panel: Picture, labels: Labels, colour: tuple[int, int, int], width_px: int = 1) -> None:
    """Draw the outlines of labels into a panel of the same size: after enlarging, so that they stay thin."""
    panel[cv2.dilate(outlines(labels), np.ones((width_px, width_px), np.uint8)) > 0] = colour


def _pair(model: Model, dataset: Dataset, entry: Entry, score: ImageScore, name: str) -> Picture:
    """Draw the middle of an image with the true and with the counted cells, side by side under what they are."""
    image = dataset.image(entry)
    counted = labels_of(predicted(model, image))
    side = min(*image.shape, WINDOW_PX)
    top, left = ((n - side) // 2 for n in image.shape)
    window = np.s_[top : top + side, left : left + side]
    panels = []
    for labels, colour, text in (
        (dataset.labels(entry), TRUTH_COLOUR, f"truth: {score.cells_true} cells in the image"),
        (counted, PREDICTION_COLOUR, f"counted: {score.cells_counted}"),
    ):
        panel = enlarged(picture(image)[window])
        outline(panel, enlarged(labels[window]), colour)
        panels.append(_below(panel, text, colour))
    pair = cv2.copyMakeBorder(np.hstack(panels), 0, 6, 3, 9, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return _below(pair, f"{name}: AP@0.5 {score.ap50:.2f} ({score.modality})", (255, 255, 255))


def _below(panel: Picture, text: str, colour: tuple[int, int, int]) -> Picture:
    """Return a panel below a line of text."""
    whole: Picture = cv2.copyMakeBorder(panel, 20, 0, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    cv2.putText(whole, text, (5, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return whole
