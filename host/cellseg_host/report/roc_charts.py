"""The charts of a comparison of classifiers, each a data URI of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cellseg_host.evaluation.roc import at_threshold, precision_recall, roc
from cellseg_host.report import drawing
from cellseg_host.report.classification import Cases, confusion
from cellseg_host.report.drawing import GREY, PAGE_INCHES, colour, marker

_COLUMNS = 4


def curves(names: Sequence[str], of_models: Sequence[Cases]) -> str:
    """Draw ROC and precision-recall curves of all models, with the point of the threshold."""
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES * 0.85, 4.9))
        left, right = figure.subplots(1, 2)
        left.plot((0, 1), (0, 1), color=GREY, linewidth=0.9)
        right.axhline(float(of_models[0].truth.mean()), color=GREY, linewidth=0.9, linestyle="--")
        for index, (name, cases) in enumerate(zip(names, of_models, strict=True)):
            _curve(left, right, index, name, cases)
        left.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC")
        right.set(xlabel="recall", ylabel="precision", title="Precision and recall")
        for axes in (left, right):
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axes.set_aspect("equal")
            axes.legend(loc="lower right" if axes is left else "lower left")
        return drawing.svg(figure)


def _curve(left: Any, right: Any, index: int, name: str, cases: Cases) -> None:
    curve, balance = roc(cases.truth, cases.probability), precision_recall(cases.truth, cases.probability)
    auc, average = (
        "undefined" if value is None else f"{value:.3f}" for value in (curve.auc, balance.average_precision)
    )
    ink = colour(index)
    left.plot(curve.false_positive_rate, curve.true_positive_rate, color=ink, label=f"{name}: AUC {auc}")
    right.step(balance.recall, balance.precision, where="pre", color=ink, label=f"{name}: average {average}")
    answers = at_threshold(cases.truth, cases.probability, cases.threshold)
    point = {"marker": marker(index), "color": ink, "zorder": 4}
    sensitivity, specificity = answers.sensitivity.value or 0.0, answers.specificity.value
    left.plot(0.0 if specificity is None else 1 - specificity, sensitivity, **point)
    if answers.ppv.value is not None:
        right.plot(sensitivity, answers.ppv.value, **point)


def matrices(names: Sequence[str], of_models: Sequence[Cases]) -> str:
    """Draw a confusion matrix for each model."""
    with drawing.style():
        figure, panels = drawing.grid(len(names), _COLUMNS, PAGE_INCHES / _COLUMNS, 2.7)
        for axes, name, cases in zip(panels, names, of_models, strict=True):
            c = confusion(cases)
            counts = np.array(
                [
                    [c["true_positives"], c["false_negatives"]],
                    [c["false_positives"], c["true_negatives"]],
                ]
            )
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for (row, column), count in np.ndenumerate(counts):
                ink = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, f"{count}\n{shares[row, column]:.1%}", ha="center", va="center", color=ink)
            axes.set(title=name, xticks=(0, 1), yticks=(0, 1), xlabel="the model says", ylabel="the view shows")
            axes.set_xticklabels(("cells", "none"))
            axes.set_yticklabels(("cells", "none"))
            axes.grid(visible=False)
        return drawing.svg(figure)


def histograms(names: Sequence[str], of_models: Sequence[Cases]) -> str:
    """Draw how the probabilities of views with and without cells are distributed, for each model."""
    bins = np.linspace(0, 1, 21)
    with drawing.style():
        figure, panels = drawing.grid(len(names), _COLUMNS, PAGE_INCHES / _COLUMNS, 2.5, sharey=True)
        for axes, name, cases in zip(panels, names, of_models, strict=True):
            groups = [cases.probability[cases.truth], cases.probability[~cases.truth]]
            labels = [f"cells: {len(groups[0])}", f"none: {len(groups[1])}"]
            axes.hist(groups, bins, color=[colour(0), colour(1)], label=labels, histtype="barstacked")
            axes.axvline(cases.threshold, ymax=0.75, color="#222222", linewidth=0.9, linestyle="--")
            axes.set(title=name, xlabel="probability of a cell", xlim=(0, 1))
            axes.legend(loc="upper center")
        panels[0].set_ylabel("views")
        panels[0].set_ylim(top=panels[0].get_ylim()[1] * 1.35)  # room for the legends
        return drawing.svg(figure)
