"""What stands on the page of a comparison of classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cellseg_host.report import charts, drawing, parts
from cellseg_host.report import page as html
from cellseg_host.report.classification import METRICS, Cases, confusion
from cellseg_host.report.classifiers import Comparison
from cellseg_host.report.drawing import GREY, PAGE_INCHES, colour, marker
from cellseg_host.report.page import Markup, Section, Text
from cellseg_host.report.parts import key
from cellseg_host.roc import precision_recall, roc

_COLUMNS = 4
_TIMES = "Network: the runtime alone, for one view. Whole: from the bytes of the view's file to the probability."
METHODS = (
    "The ROC curve shows the share of views with cells that are found (sensitivity, TP / (TP + FN)) against that of "
    "views without that are called positive (1 − specificity), at every threshold; the area under it, AUC, is the "
    "chance that a view with a cell gets a higher probability than one without, ties counting half (Fawcett, Pattern "
    "Recognition Letters 27, 861–874, 2006).",
    "Precision is TP / (TP + FP), recall is sensitivity. Average precision is Σ (recall_i − recall_(i−1)) · "
    "precision_i over the thresholds, without interpolation (Davis and Goadrich, ICML 2006).",
    "PPV = TP / (TP + FP) and NPV = TN / (TN + FN) depend on how many of the views show cells; sensitivity and "
    "specificity = TN / (TN + FP) do not.",
    parts.BOOTSTRAP_METHOD + " Views of one image are alike, and are drawn together.",
    parts.COST_METHOD,
)


def build(comparison: Comparison, lines: Sequence[Text]) -> str:
    """The page.

    Parameters
    ----------
    comparison : Comparison
    lines : sequence of str or Markup
        What stands under the title.
    """
    models = len(comparison.contenders)
    name = f"{models} classifiers" if models > 1 else comparison.names[0]
    sections = [
        _overview(comparison),
        _curves(comparison),
        _at_threshold(comparison),
        _probabilities(comparison),
        parts.times(comparison.contenders, comparison.timings, _TIMES),
        *parts.training(comparison.contenders),
        Section("Methods", (html.items(METHODS),)),
    ]
    return html.page(f"{name} on {comparison.dataset}", lines, sections)


def _overview(comparison: Comparison) -> Section:
    ms = [of_model[-1].row()["end_to_end_ms_per_megapixel"] for of_model in comparison.timings]
    sizes = [c.size_bytes for c in comparison.contenders]
    uri = charts.overview(comparison.names, "AUC", [a["auc"] for a in comparison.accuracy], ms, sizes)
    caption = "AUC of all views, with 95 % intervals. Up and left is better. The scales below are logarithmic."
    return Section(
        "Overview",
        (
            html.chart(uri, "AUC against time and size", caption),
            parts.costs(comparison.contenders, comparison.timings),
        ),
    )


def _curves(comparison: Comparison) -> Section:
    caption = (
        "Left: ROC curve; on the diagonal is guessing. Right: precision against recall; the dashed line is the share "
        f"of views with cells, the precision of guessing. Points: at the threshold {comparison.settings.threshold:g}."
    )
    uri = curves(comparison.names, comparison.cases)
    return Section("ROC and precision-recall", (html.chart(uri, "ROC and precision-recall curves", caption),))


def _at_threshold(comparison: Comparison) -> Section:
    found = comparison.accuracy
    best = {m.key: max((round(a[m.key].value, 3) for a in found), default=0.0) for m in METRICS}
    rows = [
        [
            key(index, name),
            *(
                html.interval(a[m.key], is_best=len(found) > 1 and round(a[m.key].value, 3) == best[m.key])
                for m in METRICS
            ),
        ]
        for index, (name, a) in enumerate(zip(comparison.names, found, strict=True))
    ]
    threshold = comparison.settings.threshold
    columns = ["model", *(m.title for m in METRICS)]
    blocks: list[Markup] = [
        html.table(columns, rows, f"With 95 % intervals; all but the first two at the threshold {threshold:g}.")
    ]
    if len(found) > 1:
        changes = [
            [key(index, name), *(html.interval(change[m.key], is_change=True) for m in METRICS)]
            for index, (name, change) in enumerate(zip(comparison.names, comparison.differences, strict=True))
            if index
        ]
        words = f"Difference from {comparison.names[0]}, paired by image; bold where the interval excludes zero."
        blocks.append(html.table(columns, changes, words))
    caption = "Views by what they show (rows) and what the model says (columns); per cent of the row."
    blocks.append(html.chart(matrices(comparison.names, comparison.cases), "Confusion matrices", caption))
    return Section(f"At the threshold {threshold:g}", tuple(blocks))


def _probabilities(comparison: Comparison) -> Section:
    caption = "How many views got which probability; the line is the threshold."
    uri = histograms(comparison.names, comparison.cases)
    return Section("Probabilities", (html.chart(uri, "Histograms of probabilities", caption),))


def curves(names: Sequence[str], of_models: Sequence[Cases]) -> str:
    """ROC and precision-recall curves of all models, with the point of the threshold."""
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES * 0.85, 4.9))
        left, right = figure.subplots(1, 2)
        left.plot((0, 1), (0, 1), color=GREY, linewidth=0.9)
        right.axhline(float(of_models[0].truth.mean()), color=GREY, linewidth=0.9, linestyle="--")
        for index, (name, cases) in enumerate(zip(names, of_models, strict=True)):
            curve, balance = roc(cases.truth, cases.probability), precision_recall(cases.truth, cases.probability)
            auc = "undefined" if curve.auc is None else f"{curve.auc:.3f}"
            rates = curve.false_positive_rate, curve.true_positive_rate
            left.plot(*rates, color=colour(index), label=f"{name}: AUC {auc}")
            mean = "undefined" if balance.average_precision is None else f"{balance.average_precision:.3f}"
            right.step(
                balance.recall, balance.precision, where="pre", color=colour(index), label=f"{name}: average {mean}"
            )
            counts = confusion(cases)
            true, false = counts["true_positives"], counts["false_positives"]
            sensitivity = true / max(true + counts["false_negatives"], 1)
            point = {"marker": marker(index), "color": colour(index), "zorder": 4}
            left.plot(false / max(false + counts["true_negatives"], 1), sensitivity, **point)
            if true + false:
                right.plot(sensitivity, true / (true + false), **point)
        left.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC")
        right.set(xlabel="recall", ylabel="precision", title="Precision and recall")
        for axes in (left, right):
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            axes.set_aspect("equal")
            axes.legend(loc="lower right" if axes is left else "lower left")
        return drawing.svg(figure)


def matrices(names: Sequence[str], of_models: Sequence[Cases]) -> str:
    """A confusion matrix for each model."""
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
    """How the probabilities of views with and without cells are distributed, for each model."""
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
