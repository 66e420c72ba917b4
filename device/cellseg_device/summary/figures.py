"""The two charts of a summary: the counts of the images, and the sizes of the cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellseg_device.summary import chart
from cellseg_device.summary.chart import Chart, Style
from cellseg_device.summary.pool import NO_GROUP, TOTAL, Diameters, in_micrometres, in_order, joined
from cellseg_device.summary.tables import Field
from cellseg_device.summary.timeline import timeline

_MOST_GROUPS = len(chart.PALETTE)
_FAR = 5  # the axis ends at this many times the 90th percentile, so that a few outliers do not squeeze the others
_MOST_BINS = 50


def counts_per_image(fields: Sequence[Field], names: Sequence[str]) -> bytes:
    """Return a chart with a point for each image, in the colour of its group, and a bar below for the counting frame.

    The points stand at the times of the images or, where those say nothing, in the order of the images.

    Parameters
    ----------
    fields : sequence of Field
        In the order in which they are numbered.
    names : sequence of str
        Name of the group of each; all `pool.TOTAL` if there are no groups.

    Returns
    -------
    bytes
        A PNG file.
    """
    counts = np.array([field.count for field in fields], np.float64)
    top = _top(counts)
    has_others = any(field.in_frame != field.count for field in fields)
    notes = [f"{len(fields):,} image{'s' * (len(fields) != 1)}"]
    if has_others:
        notes.append("points: all cells, bars below: in the counting frame")
    if flagged := sum(field.is_flagged for field in fields):
        notes.append(f"hollow: {flagged:,} flagged as doubtful")
    if checked := sum(field.is_checked for field in fields):
        notes.append(f"{checked:,} as corrected by a person")
    if (counts > top).any():
        notes.append(f"arrows: {int((counts > top).sum()):,} above the axis, up to {int(counts.max()):,}")
    styles, line = _styles(names), timeline(fields)
    y_label = "cells" if has_others else "cells (all are in the counting frame)"
    figure = Chart(
        "Cells per image", "; ".join(notes), line.axis, chart.numbers(0, top, least_step=1), line.label, y_label,
        _legend(styles),
    )  # fmt: skip
    if not fields:
        figure.say("no images")
    radius = 6 if len(fields) <= 60 else 4 if len(fields) <= 1000 else 2.5
    for shown in reversed(_legend(styles) or list(styles.values())):  # so that the first group is drawn on top
        own = [(f, x) for f, x, name in zip(fields, line.places, names, strict=True) if styles[name] == shown]
        figure.drops([(x, f.count, f.in_frame) for f, x in own if f.in_frame != f.count], shown, radius)
        figure.points([(x, float(f.count)) for f, x in own], [f.is_flagged for f, _ in own], shown, radius)
    return figure.png()


def sizes(fields: Sequence[Field], names: Sequence[str], diameters: Sequence[Diameters]) -> bytes:
    """Return a histogram of the cells' diameters, in µm if all pixel sizes are known, else in pixels.

    Parameters
    ----------
    fields, names
        As in `counts_per_image`.
    diameters : sequence of ndarray of float32
        In pixels, of the cells of each field.

    Returns
    -------
    bytes
        A PNG file.
    """
    in_um = in_micrometres(fields, diameters)
    shown_in, unit = (in_um, "µm") if in_um is not None else (diameters, "px")
    values = joined(shown_in)
    styles = _styles(names)
    of_style: dict[Style, list[Diameters]] = {}
    for name, part in zip(names, shown_in, strict=True):
        of_style.setdefault(styles[name], []).append(part)
    top = _top(values)
    edges = _edges(values[values <= top])
    is_total = not _legend(styles)
    heights = {}
    for shown in styles.values():
        own = joined(of_style.get(shown, []))
        bars = np.histogram(own, edges)[0].astype(np.float64)
        heights[shown] = bars if is_total else bars * (100 / max(len(own), 1))
    notes = [f"{len(values):,} cell{'s' * (len(values) != 1)}"]
    if not is_total:
        notes.append("each group's cells are 100 %")
    if above := int((values > top).sum()):
        notes.append(f"not shown: {above:,} larger, up to {_size(values.max())} {unit}")
    highest = max((float(bars.max()) for bars in heights.values()), default=0.0)
    figure = Chart(
        "Sizes of the cells",
        "; ".join(notes),
        chart.numbers(float(edges[0]), float(edges[-1]), 10),
        chart.numbers(0, highest * 1.07 or 1, least_step=1 if is_total else 0),  # leaves room for the median's text
        f"diameter of the circle of the same area ({unit})",
        "cells" if is_total else "cells (% of the group)",
        _legend(styles),
    )
    if not len(values):
        figure.say("no cells")
        return figure.png()
    for shown, bars in reversed(heights.items()):
        if len(joined(of_style.get(shown, []))):
            figure.steps(edges.tolist(), bars.tolist(), shown, filled=is_total)
    if is_total:
        median = float(np.median(values))
        figure.upright(median, f"median {_size(median)} {unit}")
    return figure.png()


def _styles(names: Sequence[str]) -> dict[str, Style]:
    """Return the style of each group: the largest groups have their own, the others share one."""
    numbers = Counter(names)
    ordered = in_order(numbers)
    if len(ordered) > _MOST_GROUPS:
        kept = {name for name, _ in Counter({name: numbers[name] for name in ordered}).most_common(_MOST_GROUPS)}
    else:
        kept = set(ordered)
    own = [name for name in ordered if name in kept]
    styles = {name: chart.style(number, name or NO_GROUP) for number, name in enumerate(own)}
    others = Style(f"{len(ordered) - len(own)} others", chart.OTHERS)
    return styles | {name: others for name in ordered if name not in kept}


def _legend(styles: dict[str, Style]) -> list[Style]:
    """Return what the legend names, each style once; nothing if there are no groups."""
    return [] if set(styles) <= {TOTAL} else list(dict.fromkeys(styles.values()))


def _top(values: npt.NDArray[np.float64] | Diameters) -> float:
    """Return where the axis of the values ends: at the largest one, ignoring a few that lie far from all others."""
    if not len(values):
        return 1.0
    highest = float(values.max())
    usual = float(np.percentile(values, 90, method="lower"))
    if len(values) < 5 or usual <= 0 or highest <= _FAR * usual:
        return highest or 1.0
    return float(values[values <= _FAR * usual].max())


def _size(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _edges(values: Diameters) -> npt.NDArray[np.float64]:
    """Return the edges of the bins, whose round width suits the number and spread of values (Freedman and Diaconis)."""
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    quarter, three = np.percentile(values, (25, 75))
    width = max(2 * float(three - quarter) / len(values) ** (1 / 3), (high - low) / _MOST_BINS, high / 100)
    step = chart.nice_step(width)
    first, last = max(int(low // step) - 1, 0), int(high // step) + 2  # an empty bin at each end
    return np.arange(first, last + 1, dtype=np.float64) * step
