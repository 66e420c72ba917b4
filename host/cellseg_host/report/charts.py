"""The charts of a comparison of segmenters, each a data URI of an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure

from cellseg_host.evaluate import ImageScore
from cellseg_host.report import drawing
from cellseg_host.report.drawing import GREY, MAX_VECTOR_POINTS, PAGE_INCHES, colour, marker
from cellseg_host.report.statistics import Interval, Values, bland_altman

T = TypeVar("T")
Scores = Sequence[ImageScore]
# Differences within this are no win: half a digit of what is printed
TIE = 0.005
_COLUMNS = 4
_WIDE_COLUMNS = 3


def overview(
    names: Sequence[str], what: str, accuracy: Sequence[Interval], ms: Sequence[float], sizes: Sequence[int]
) -> str:
    """Accuracy (`what`) against time in milliseconds per megapixel, and against the size of the file in bytes."""
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES, 3.4))
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, places in ((left, ms), (right, [size / 1000 for size in sizes])):
            for index, place in enumerate(places):
                drawing.error_bars(axes, [place], [accuracy[index]], index, label=names[index])
            axes.set_xscale("log")
            _plain_log_ticks(axes, places)
        left.set(ylabel=what, xlabel="time, ms per megapixel, the whole road", title="Accuracy against time")
        right.set(xlabel="model file, kB", title="Accuracy against size")
        _legend(figure, left, names)
        return drawing.svg(figure)


def by_group(names: Sequence[str], groups: Mapping[str, tuple[Sequence[Interval], Sequence[Interval]]]) -> str:
    """AP@0.5 and mean IoU of every model in every group of images, with their intervals.

    Parameters
    ----------
    names : sequence of str
        Of the models.
    groups : mapping of str to (sequence of Interval, sequence of Interval)
        By title: AP@0.5 and mean IoU, one for each model.
    """
    models = len(names)
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES, 0.9 + len(groups) * (0.25 + 0.14 * models)))
        panels = figure.subplots(1, 2, sharey=True)
        for axes, which, title in zip(panels, (0, 1), ("AP@0.5", "mean IoU@0.4"), strict=True):
            for index in range(models):
                places = np.arange(len(groups)) + _dodge(index, models)
                intervals = [group[which][index] for group in groups.values()]
                drawing.error_bars(axes, list(places), intervals, index, along="x", label=names[index])
            axes.set(title=title, yticks=range(len(groups)), yticklabels=list(groups))
            axes.grid(axis="y", visible=False)
            axes.set_ylim(len(groups) - 0.5, -0.5)
        _legend(figure, panels[0], names)
        return drawing.svg(figure)


def distributions(names: Sequence[str], scores: Sequence[Scores]) -> str:
    """Each image's AP@0.5 and mean IoU as a point on a box plot; left the full range, right the best model's."""
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
    """Mean AP of each image by the first model (across) and by each other one (up), coloured by who wins."""
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
    for which, index, sign, words in (
        (gain > TIE, 0, "^", f"{rival} wins"),
        (gain < -TIE, 1, "v", f"{name} wins"),
        (np.abs(gain) <= TIE, 6, "o", f"within {TIE}"),
    ):
        axes.scatter(
            first[which],
            other[which],
            s=16,
            marker=sign,
            color=colour(index),
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
    """For four models at a time: above predicted against true counts, below Bland and Altman's plot."""
    true = np.array([s.cells_true for s in scores[0]])
    predicted = [np.array([s.cells_predicted for s in of_model]) for of_model in scores]
    most = max(int(true.max()), *(int(p.max()) for p in predicted), 1)
    agreements = [bland_altman(true, p) for p in predicted]
    reach = max(*(float(np.abs(a.difference).max()) for a in agreements), 1.0) * 1.15
    charts = []
    with drawing.style():
        for indices in _parts(range(len(names)), _COLUMNS):
            width = PAGE_INCHES / max(len(indices), 3)
            figure = Figure(figsize=(width * len(indices), 5.6))
            panels = figure.subplots(2, len(indices), squeeze=False, sharex=True, sharey="row")
            for (above, below), index in zip(panels.T, indices, strict=True):
                _points(above, true, predicted[index], index)
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
                below.set(xlabel="mean of true and predicted", ylim=(-reach, reach))
            panels[0][0].set_ylabel("predicted cells")
            panels[1][0].set_ylabel("predicted − true, cells")
            charts.append(drawing.svg(figure))
    return charts


def by_size_and_density(
    names: Sequence[str],
    sizes: tuple[list[str], Sequence[Sequence[Interval]]],
    densities: tuple[list[str], Sequence[Sequence[Interval]]],
) -> str:
    """Recall by the cells' diameter, and AP@0.5 by how dense the cells lie; each with the titles of its bins.

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
        left.set(xlabel="equivalent diameter, px", ylabel="cells found (IoU > 0.5)", title="By size of the cell")
        right.set(xlabel="cells per megapixel", ylabel="AP@0.5", title="By density of the cells")
        _legend(figure, right, names)
        return drawing.svg(figure)


def changes(titles: Sequence[str], differences: Sequence[Values]) -> list[str]:
    """Change of each image's mean AP by a conversion, sorted; one panel for each conversion."""
    reach = max(*(float(np.abs(d).max()) for d in differences), 0.01) * 1.1
    charts = []
    with drawing.style():
        for part in _parts(list(zip(titles, differences, strict=True)), 3 * _WIDE_COLUMNS):
            figure, panels = drawing.grid(len(part), _WIDE_COLUMNS, PAGE_INCHES / _WIDE_COLUMNS, 2.6, sharey=True)
            for number, (axes, (title, difference)) in enumerate(zip(panels, part, strict=True)):
                ranked = np.sort(difference)
                which = np.where(ranked < 0, colour(1), colour(0))
                width = max(min(120 / len(ranked), 6), 0.4)
                axes.vlines(np.arange(len(ranked)), 0, ranked, colors=which, linewidth=width)
                axes.axhline(0, color="#222222", linewidth=0.8)
                axes.axhline(ranked.mean(), color=GREY, linewidth=1, linestyle="--")
                axes.set(title=title.replace(" → ", "\n→ "), ylim=(-reach, reach), xlabel="images, sorted")
                axes.set_xlim(-1, len(ranked))
                if number % _WIDE_COLUMNS == 0:
                    axes.set_ylabel("change of mean AP")
            charts.append(drawing.svg(figure))
    return charts


def _parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """In order, at most so many at a time: what is higher than a page cannot be printed."""
    return [items[begin : begin + most] for begin in range(0, len(items), most)]


def _points(axes: Any, x: Any, y: Any, index: int, alpha: float = 0.65, s: float = 14) -> None:
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
    """Where a model's mark lies beside the others' of its bin: between −0.3 and 0.3."""
    return 0.6 * ((index + 0.5) / count - 0.5)


def _legend(figure: Figure, axes: Any, names: Sequence[str]) -> None:
    if len(names) > 1:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(names), _COLUMNS))


def _count_axis(set_scale: Any, axis: Any, most: int) -> None:
    """A square-root scale: counts of any size are told apart, and their chance error is alike everywhere."""
    set_scale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
    shown = [0]
    for tick in (m * 10**p for p in range(5) for m in (1, 2, 5)):
        if tick <= most and tick**0.5 - shown[-1] ** 0.5 > most**0.5 / 9:
            shown.append(tick)
    axis.set_ticks(shown)


def _plain_log_ticks(axes: Any, values: Sequence[float]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, in plain numbers, and room beside the outermost values."""
    room = max(1.4, (5 * min(values) / max(values)) ** 0.5)  # a factor of five in all at least, which holds two ticks
    low, high = min(values) / room, max(values) * room
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
    if len(ticks) > 7:
        ticks = [t for t in ticks if round(np.log10(t), 6) % 1 == 0]
    axes.set_xlim(low, high)
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
