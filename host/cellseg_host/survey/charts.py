"""The charts of a data set's page, each a data URI of an SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from cellseg_host.report import drawing
from cellseg_host.report.drawing import GREY, PAGE_INCHES, colour
from cellseg_host.survey.facts import Facts

_BINS = 40
_OF_IMAGES: tuple[tuple[str, Callable[[Facts], float], bool], ...] = (
    ("brightness", lambda one: one.brightness, False),
    ("sharpness", lambda one: one.sharpness, True),
    ("cells / megapixel", lambda one: one.density, False),
    ("touching", lambda one: one.touching, False),
)


def diameters(groups: Mapping[str, Sequence[Facts]], known: tuple[float, float]) -> str:
    """Draw how large the cells of each group are, beside the diameters that the bundled model counts as they are."""
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES, 1.1 + 0.75 * len(groups)))
        panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
        every = np.concatenate([one.diameters_px for some in groups.values() for one in some])
        bins = np.geomspace(max(float(every.min()), 1.0), float(every.max()) * 1.01, _BINS)
        for number, (axes, (name, some)) in enumerate(zip(panels, groups.items(), strict=True)):
            axes.axvspan(*known, color=GREY, alpha=0.15, linewidth=0)
            axes.hist(np.concatenate([one.diameters_px for one in some]), bins=bins, color=colour(number))
            axes.set(xscale="log", yticks=[], title=name)
            axes.grid(visible=False, axis="y")
        panels[-1].set_xlabel("diameter, px")
        panels[-1].xaxis.set_major_formatter("{x:g}")
        panels[-1].xaxis.set_minor_formatter("{x:g}")
        return drawing.svg(figure)


def images(groups: Mapping[str, Sequence[Facts]]) -> str:
    """Draw brightness, sharpness, density and share of touching cells, a point for each image, a row for each group."""
    rng = np.random.default_rng(0)
    with drawing.style():
        figure = Figure(figsize=(PAGE_INCHES, 0.9 + 0.35 * len(groups)))
        panels = figure.subplots(1, len(_OF_IMAGES), sharey=True)
        for axes, (title, value, is_wide) in zip(panels, _OF_IMAGES, strict=True):
            for row, some in enumerate(groups.values()):
                values = [value(one) for one in some]
                jitter = row + rng.uniform(-0.25, 0.25, len(values))
                axes.scatter(values, jitter, s=9, color=colour(row), alpha=0.6, linewidths=0, rasterized=True)
            axes.set(title=title, yticks=range(len(groups)), yticklabels=list(groups))
            axes.grid(visible=False, axis="y")
            if is_wide and any(value(one) > 0 for some in groups.values() for one in some):  # not if all are black
                axes.set_xscale("log")
        panels[0].set_ylim(len(groups) - 0.5, -0.5)
        return drawing.svg(figure)
