"""The two charts of a summary: counts over time, and the sizes of the cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellseg_device import plots
from cellseg_device.plots import Chart, Style
from cellseg_device.summary import NO_GROUP, TOTAL, Diameters, in_micrometres, in_order, joined
from cellseg_device.tables import Field

_MOST_GROUPS = len(plots.PALETTE)
_FAR = 5  # times what 9 of 10 keep below: further away, a few would squeeze all others
_MOST_BINS = 50


def counts_over_time(fields: Sequence[Field], names: Sequence[str]) -> bytes:
    """Draw a point for each image: its count at its time, in the colour of its group.

    Parameters
    ----------
    fields : sequence of Field
    names : sequence of str
        Name of the group of each; all `summary.TOTAL` where there are no groups.

    Returns
    -------
    bytes
        A PNG file.
    """
    timed = [(f, name, f.captured_at) for f, name in zip(fields, names, strict=True) if f.captured_at is not None]
    counts = np.array([f.count for f, _, _ in timed], np.float64)
    top = _top(counts)
    notes = [f"{len(timed):,} image{'s' * (len(timed) != 1)}"]
    if flagged := sum(f.is_flagged for f, _, _ in timed):
        notes.append(f"hollow: {flagged:,} flagged as doubtful")
    if (counts > top).any():
        notes.append(f"arrows: {int((counts > top).sum()):,} above the axis, up to {int(counts.max()):,}")
    if len(timed) < len(fields):
        notes.append(f"not shown: {len(fields) - len(timed):,} without a time")
    moments = [time for _, _, time in timed]
    styles = _styles(names)
    chart = Chart(
        "Cells per image",
        "; ".join(notes),
        plots.times(min(moments), max(moments)) if moments else plots.Axis(0, 1, ()),
        plots.numbers(0, top, least_step=1),
        "time of the image (UTC)",
        "cells",
        _legend(styles),
    )
    if not timed:
        chart.say("no images")
    radius = 6 if len(timed) <= 60 else 4 if len(timed) <= 1000 else 2.5
    for shown in reversed(_legend(styles) or list(styles.values())):  # the others below
        own = [(f, time) for f, name, time in timed if styles[name] == shown]
        places = [(time.timestamp(), float(f.count)) for f, time in own]
        chart.points(places, [f.is_flagged for f, _ in own], shown, radius)
    return chart.png()


def sizes(fields: Sequence[Field], names: Sequence[str], diameters: Sequence[Diameters]) -> bytes:
    """Draw a histogram of the cells' diameters: in µm where all pixel sizes are known, else in pixels.

    Parameters
    ----------
    fields, names
        As in `counts_over_time`.
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
    chart = Chart(
        "Sizes of the cells",
        "; ".join(notes),
        plots.numbers(float(edges[0]), float(edges[-1]), 10),
        plots.numbers(0, highest * 1.07 or 1, least_step=1 if is_total else 0),  # room for the median's text
        f"diameter of the circle of the same area ({unit})",
        "cells" if is_total else "cells (% of the group)",
        _legend(styles),
    )
    if not len(values):
        chart.say("no cells")
        return chart.png()
    for shown, bars in reversed(heights.items()):
        if len(joined(of_style.get(shown, []))):
            chart.steps(edges.tolist(), bars.tolist(), shown, is_total)
    if is_total:
        median = float(np.median(values))
        chart.upright(median, f"median {_size(median)} {unit}")
    return chart.png()


def _styles(names: Sequence[str]) -> dict[str, Style]:
    """Style of each group: the largest ones have their own, the others share one."""
    numbers = Counter(names)
    ordered = in_order(numbers)
    if len(ordered) > _MOST_GROUPS:
        kept = {name for name, _ in Counter({name: numbers[name] for name in ordered}).most_common(_MOST_GROUPS)}
    else:
        kept = set(ordered)
    own = [name for name in ordered if name in kept]
    styles = {name: plots.style(number, name or NO_GROUP) for number, name in enumerate(own)}
    others = Style(f"{len(ordered) - len(own)} others", plots.OTHERS)
    return styles | {name: others for name in ordered if name not in kept}


def _legend(styles: dict[str, Style]) -> list[Style]:
    """What a legend names, each style once; nothing where there are no groups."""
    return [] if set(styles) <= {TOTAL} else list(dict.fromkeys(styles.values()))


def _top(values: npt.NDArray[np.float64] | Diameters) -> float:
    """Where the axis of the values ends: at the largest, but before a few that lie far from all others."""
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
    """Edges of the bins: of a round width that suits the number and the spread (Freedman and Diaconis)."""
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = float(values.min()), float(values.max())
    quarter, three = np.percentile(values, (25, 75))
    width = max(2 * float(three - quarter) / len(values) ** (1 / 3), (high - low) / _MOST_BINS, high / 100)
    step = plots.nice_step(width)
    first, last = max(int(low // step) - 1, 0), int(high // step) + 2  # an empty bin at each end
    return np.arange(first, last + 1, dtype=np.float64) * step
