"""The charts of a comparison of segmenters, each a data URI of an SVG; some are of classifiers as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure

from cellseg_host.evaluation.evaluate import ImageScore
from cellseg_host.report import drawing, plots
from cellseg_host.report.comparison import Comparison
from cellseg_host.report.drawing import GREY, MAX_VECTOR_POINTS, PAGE_INCHES, colour, marker
from cellseg_host.report.segmenters import TIE, SegmenterComparison
from cellseg_host.report.statistics import Interval, Values, bland_altman
from cellseg_host.training.history import Epoch

T = TypeVar("T")
Scores = Sequence[ImageScore]
_COLUMNS = 4
_WIDE_COLUMNS = 3


def overview(comparison: Comparison[Any], key: str) -> str:
    """Draw one metric of every model against its time per megapixel, and against the size of its file."""
    title = next(m.title for m in comparison.metrics if m.key == key)
    ms = [of_model[-1].row()["end_to_end_ms_per_megapixel"] for of_model in comparison.timings]
    kilobytes = [c.size_bytes / 1000 for c in comparison.contenders]
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES, 3.4))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, places in ((left, ms), (right, kilobytes)):
            for index, place in enumerate(places):
                value = comparison.accuracy[index][key]
                drawing.error_bars(axes, [place], [value], index, label=comparison.names[index])
            axes.set_xscale("log")
            _plain_log_ticks(axes, places)
        left.set(ylabel=title, xlabel="time, ms per megapixel, the whole pipeline", title="Accuracy against time")
        right.set(xlabel="model file, kB", title="Accuracy against size")
        _legend(figure, left, comparison.names)
        return drawing.svg(figure)


def training(runs: Mapping[str, Sequence[Epoch]]) -> str:
    """Draw losses and validation scores of training runs, by name."""
    with drawing.style():
        return drawing.svg(plots.curves(runs))


def by_group(names: Sequence[str], groups: Mapping[str, tuple[int, Sequence[Mapping[str, Interval]]]]) -> str:
    """Draw AP@0.5 and mean IoU of every model in every group of images, with their intervals.

    Parameters
    ----------
    names : sequence of str
        Of the models.
    groups : mapping of str to (int, sequence of mapping)
        By name: the number of images, and for each model its metrics.
    """
    models = len(names)
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES, 0.9 + len(groups) * (0.25 + 0.14 * models)))
        panels = figure.subplots(1, 2, sharey=True)
        titles = [f"{name} ({images})" for name, (images, _) in groups.items()]
        for axes, key, title in zip(panels, ("ap50", "mean_iou"), ("AP@0.5", "mean IoU@0.4"), strict=True):
            for index in range(models):
                places = np.arange(len(groups)) + _dodge(index, models)
                intervals = [of_models[index][key] for _, of_models in groups.values()]
                drawing.error_bars(axes, list(places), intervals, index, along="x", label=names[index])
            axes.set(title=title, yticks=range(len(groups)), yticklabels=titles)
            axes.grid(axis="y", visible=False)
            axes.set_ylim(len(groups) - 0.5, -0.5)
        _legend(figure, panels[0], names)
        return drawing.svg(figure)


def distributions(names: Sequence[str], scores: Sequence[Scores]) -> str:
    """Draw each image's AP@0.5 and mean IoU as a point on a box plot; left the full range, right the best model's."""
    rng = np.random.default_rng(0)
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES, 2 * (0.75 + 0.3 * len(names))))
        panels = figure.subplots(2, 2, sharey=True)
        for row, (key, title) in zip(panels, (("ap50", "AP@0.5"), ("mean_iou", "mean IoU@0.4")), strict=True):
            values = [np.array([getattr(s, key) for s in of_model]) for of_model in scores]
            low = max(float(np.quantile(v, 0.1)) for v in values)
            zoom = max(min(np.floor(low * 20) / 20, 0.95), 0.0)
            for axes, limits, words in ((row[0], (-0.02, 1.02), "full range"), (row[1], (zoom, 1.003), "zoomed")):
                axes.boxplot(
                    values,
                    orientation="horizontal",
                    positions=range(len(names)),
                    widths=0.6,
                    showfliers=False,
                    medianprops={"color": "black", "linewidth": 1.6},
                    boxprops={"color": GREY},
                    whiskerprops={"color": GREY},
                    capprops={"color": GREY},
                )
                for index, numbers in enumerate(values):
                    jitter = index + rng.uniform(-0.2, 0.2, len(numbers))
                    _points(axes, numbers, jitter, index, alpha=0.6, s=9)
                axes.set(xlim=limits, title=f"{title}, {words}", yticks=range(len(names)), yticklabels=names)
                axes.grid(axis="y", visible=False)
            row[0].set_ylim(len(names) - 0.5, -0.5)
        return drawing.svg(figure)


def duels(names: Sequence[str], scores: Sequence[Scores]) -> list[str]:
    """Draw the mean AP of each image by the first model (across) and by each other one (up), coloured by who wins."""
    first = np.array([s.mean_ap for s in scores[0]])
    others = [(name, np.array([s.mean_ap for s in of_model])) for name, of_model in zip(names, scores, strict=True)][1:]
    width = PAGE_INCHES / _WIDE_COLUMNS
    charts = []
    with drawing.style():
        for part in _parts(others, 2 * _WIDE_COLUMNS):
            figure, panels = drawing.grid(len(part), _WIDE_COLUMNS, width, width + 0.55)
            for axes, (name, other) in zip(panels, part, strict=True):
                _duel(axes, (names[0], first), (name, other))
            charts.append(drawing.svg(figure))
    return charts


def _duel(axes: Any, one: tuple[str, Values], another: tuple[str, Values]) -> None:
    (name, first), (rival, other) = one, another
    gain = other - first
    for which, ink, sign, words in (
        (gain > TIE, colour(0), "^", f"{rival} wins"),
        (gain < -TIE, colour(1), "v", f"{name} wins"),
        (np.abs(gain) <= TIE, GREY, "o", f"within {TIE}"),
    ):
        axes.scatter(
            first[which],
            other[which],
            s=16,
            marker=sign,
            color=ink,
            alpha=0.75,
            linewidths=0,
            label=f"{words}: {np.count_nonzero(which)}",
            rasterized=len(first) > MAX_VECTOR_POINTS,
        )
    axes.axline((0, 0), slope=1, color=GREY, linewidth=0.9, zorder=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=f"mean AP, {name}", ylabel=f"mean AP, {rival}")
    axes.set_aspect("equal")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), handletextpad=0.2)


def counts(names: Sequence[str], scores: Sequence[Scores]) -> list[str]:
    """Draw for four models at a time: above counted against true cells, below Bland and Altman's plot."""
    true = np.array([s.cells_true for s in scores[0]])
    counted = [np.array([s.cells_counted for s in of_model]) for of_model in scores]
    most = max(int(true.max()), *(int(c.max()) for c in counted), 1)
    agreements = [bland_altman(true, c) for c in counted]
    reach = max(*(float(np.abs(a.difference).max()) for a in agreements), 1.0) * 1.15
    charts = []
    with drawing.style():
        for indices in _parts(range(len(names)), _COLUMNS):
            width = PAGE_INCHES / max(len(indices), 3)
            figure = Figure(figsize=(width * len(indices), 5.6))
            panels = figure.subplots(2, len(indices), squeeze=False, sharex=True, sharey="row")
            for (above, below), index in zip(panels.T, indices, strict=True):
                _points(above, true, counted[index], index)
                above.plot((0, most * 1.1), (0, most * 1.1), color=GREY, linewidth=0.9, zorder=0)
                _count_axis(above.set_xscale, above.xaxis, most)
                _count_axis(above.set_yscale, above.yaxis, most)
                above.set(xlim=(0, most * 1.1), ylim=(0, most * 1.1), xlabel="true cells")
                above.set_title(names[index], loc="left")
                above.xaxis.set_tick_params(labelbottom=True)
                agreement = agreements[index]
                _points(below, agreement.mean, agreement.difference, index)
                for place, style in ((agreement.bias, "-"), (agreement.low, "--"), (agreement.high, "--")):
                    below.axhline(place, linestyle=style, color="#222222", linewidth=0.9)
                words = f"bias {agreement.bias:+.1f}, limits {agreement.low:+.1f} to {agreement.high:+.1f}"
                below.set_title(words.replace("-", "−"), fontsize=8, fontweight="normal", loc="left")
                below.set(xlabel="mean of true and counted", ylim=(-reach, reach))
            panels[0][0].set_ylabel("counted cells")
            panels[1][0].set_ylabel("counted − true, cells")
            charts.append(drawing.svg(figure))
    return charts


def by_size_and_density(
    names: Sequence[str],
    sizes: tuple[list[str], Sequence[Sequence[Interval]]],
    densities: tuple[list[str], Sequence[Sequence[Interval]]],
) -> str:
    """Draw recall by the cells' diameter, and AP@0.5 by the density of the cells.

    Parameters
    ----------
    names : sequence of str
    sizes, densities : (list of str, sequence of sequence of Interval)
        Titles of the bins; for each model an interval for each bin.
    """
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES, 3.6))
        left, right = figure.subplots(1, 2)
        for axes, (titles, intervals) in ((left, sizes), (right, densities)):
            for index, of_model in enumerate(intervals if titles else ()):
                places = np.arange(len(titles)) + _dodge(index, len(names))
                drawing.error_bars(axes, list(places), of_model, index, label=names[index])
            if not titles:
                axes.text(0.5, 0.5, "no cells", transform=axes.transAxes, ha="center", color=GREY)
            axes.set(xticks=range(len(titles)), xticklabels=titles, ylim=(0, 1.02))
            axes.tick_params(axis="x", labelsize=8)
            axes.grid(axis="x", visible=False)
        left.set(xlabel="equivalent diameter, px", ylabel="recall (IoU > 0.5)", title="By size of the cell")
        right.set(xlabel="cells per megapixel", ylabel="AP@0.5", title="By density of the cells")
        _legend(figure, right, names)
        return drawing.svg(figure)


def changes(comparison: SegmenterComparison) -> list[str]:
    """Draw the change of each image's mean AP by a conversion, sorted; one panel for each conversion."""
    reach = max(*(float(np.abs(c.mean_ap).max()) for c in comparison.changes), 0.01) * 1.1
    names = comparison.names
    charts = []
    with drawing.style():
        for part in _parts(comparison.changes, 3 * _WIDE_COLUMNS):
            figure, panels = drawing.grid(len(part), _WIDE_COLUMNS, PAGE_INCHES / _WIDE_COLUMNS, 2.6, sharey=True)
            for number, (axes, change) in enumerate(zip(panels, part, strict=True)):
                ranked = np.sort(change.mean_ap)
                which = np.where(ranked < 0, colour(1), colour(0))
                width = max(min(120 / len(ranked), 6), 0.4)
                axes.vlines(np.arange(len(ranked)), 0, ranked, colors=which, linewidth=width)
                axes.axhline(0, color="#222222", linewidth=0.8)
                axes.axhline(ranked.mean(), color=GREY, linewidth=1, linestyle="--")
                title = f"{names[change.before]}\n→ {names[change.after]}"
                axes.set(title=title, ylim=(-reach, reach), xlabel="images, sorted")
                axes.set_xlim(-1, len(ranked))
                if number % _WIDE_COLUMNS == 0:
                    axes.set_ylabel("change of mean AP")
            charts.append(drawing.svg(figure))
    return charts


def _parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Return the items in parts of at most so many: a chart that is higher than a page cannot be printed."""
    return [items[begin : begin + most] for begin in range(0, len(items), most)]


def _points(axes: Any, x: Any, y: Any, index: int, *, alpha: float = 0.65, s: float = 14) -> None:
    axes.scatter(
        x,
        y,
        s=s,
        marker=marker(index),
        color=colour(index),
        alpha=alpha,
        linewidths=0,
        zorder=3,
        rasterized=len(x) > MAX_VECTOR_POINTS,
    )


def _dodge(index: int, count: int) -> float:
    """Return where a model's mark lies beside the others' of its bin: between −0.3 and 0.3."""
    return 0.6 * ((index + 0.5) / count - 0.5)


def _legend(figure: Figure, axes: Any, names: Sequence[str]) -> None:
    if len(names) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(names), _COLUMNS))


def _count_axis(set_scale: Any, axis: Any, most: int) -> None:
    """Set a square-root scale, on which small and large counts can be read and have the same chance error."""
    set_scale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
    shown = [0]
    for tick in (m * 10**p for p in range(5) for m in (1, 2, 5)):
        if tick <= most and tick**0.5 - shown[-1] ** 0.5 > most**0.5 / 9:
            shown.append(tick)
    axis.set_ticks(shown)


def _plain_log_ticks(axes: Any, values: Sequence[float]) -> None:
    """Set ticks at 1, 2 and 5 times powers of ten, in plain numbers, with room beside the outermost values."""
    room = max(1.4, (5 * min(values) / max(values)) ** 0.5)  # so that the axis spans a factor of 5, which has two ticks
    low, high = min(values) / room, max(values) * room
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    if len(ticks) > 7:
        ticks = [t for t in ticks if round(np.log10(t), 6) % 1 == 0]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
