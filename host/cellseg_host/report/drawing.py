"""The look of charts: a colour and a shape for each model; and a figure as an image that a page can hold."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from cellseg_device.summary.chart import PALETTE
from cellseg_host.report.statistics import Interval

# A model's shape, beside its colour: as matplotlib names it, and as a letter for tables
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "<": "◀", ">": "▶"}
GREY = "#8a8a8a"
PAGE_INCHES = 11.3  # the width of the page's text, at 96 pixels an inch
# More points than these in one panel are drawn as pixels; as vectors they would make the page slow to open
MAX_VECTOR_POINTS = 2000

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.4,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "figure.constrained_layout.use": True,
    # Text as paths looks the same on every computer; with a fixed salt, the same numbers give the same bytes
    "svg.fonttype": "path",
    "svg.hashsalt": "cellseg",
}


@contextmanager
def style() -> Iterator[None]:
    """Give the figures that are drawn and saved in this block the same look."""
    with mpl.rc_context(_STYLE):
        yield


def colour(index: int) -> str:
    """Return the colour of the model of this number."""
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    """Return the shape of the model of this number, as matplotlib names it."""
    return list(MARKERS)[index % len(MARKERS)]


def sign(index: int) -> str:
    """Return the shape of the model of this number as a letter."""
    return MARKERS[marker(index)]


def grid(panels: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Any]]:
    """Return a figure and its `panels` axes in rows of `columns`; width and height of one panel are in inches."""
    columns = min(columns, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for empty in axes[panels:]:
        empty.remove()
    return figure, list(axes[:panels])


def error_bars(axes: Any, places: Sequence[float], intervals: Sequence[Interval], index: int, **options: Any) -> None:
    """Draw points with 95 % bars for the model of this number; ``along="x"`` for horizontal bars."""
    along = options.pop("along", "y")
    value, low, high = np.array([(i.value, i.low, i.high) for i in intervals]).T
    # A point without a bar where there are too few images for an interval
    bars = np.nan_to_num([np.maximum(value - low, 0), np.maximum(high - value, 0)])
    x, y = (places, value) if along == "y" else (value, places)
    axes.errorbar(
        x,
        y,
        **{f"{along}err": bars},
        fmt=marker(index),
        color=colour(index),
        markersize=5,
        elinewidth=1.2,
        capsize=2,
        **options,
    )


def svg(figure: Figure) -> str:
    """Return the figure as a data URI that an ``img`` can show."""
    text = io.BytesIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, dpi=150)
    return uri(text.getvalue(), "svg+xml")


def uri(data: bytes, kind: str) -> str:
    """Return a data URI of an image."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
