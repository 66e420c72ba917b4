"""The comparison of models that say whether there is a cell: what is measured, and the numbers that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cellseg_device import bench, normalise
from cellseg_device.errors import InputError
from cellseg_device.segment import Stopwatch, decode, shown
from cellseg_host.data.dataset import Dataset
from cellseg_host.presence import Classifier, open_classifier, score
from cellseg_host.report import latency
from cellseg_host.report.classification import METRICS, Cases, accuracy, confusion, difference
from cellseg_host.report.contenders import Contender
from cellseg_host.report.latency import Field, Timing
from cellseg_host.report.page import number
from cellseg_host.report.settings import Settings
from cellseg_host.report.statistics import Interval, Values, resamples


@dataclass(frozen=True)
class Comparison:
    """What was measured of every classifier on every view.

    Attributes
    ----------
    contenders : tuple of Contender
    dataset : str
        Its name.
    settings : Settings
    views, images : tuple of str
        Names of the views, and of the image that each is of.
    side : int
        Of a view in pixels.
    cases : tuple of Cases
        For each classifier; the same views.
    timings : tuple of tuple of Timing
        For each classifier, on one view.
    """

    contenders: tuple[Contender, ...]
    dataset: str
    settings: Settings
    views: tuple[str, ...]
    images: tuple[str, ...]
    side: int
    cases: tuple[Cases, ...]
    timings: tuple[tuple[Timing, ...], ...]

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [c.name for c in self.contenders]

    @cached_property
    def accuracy(self) -> list[dict[str, Interval]]:
        """Of each classifier."""
        return [accuracy(cases, self._weights) for cases in self.cases]

    @cached_property
    def differences(self) -> list[dict[str, Interval]]:
        """Every metric of each classifier minus the first's, paired by image; the first's own are zero."""
        return [difference(cases, self.cases[0], self._weights) for cases in self.cases]

    @cached_property
    def _weights(self) -> Values:
        return resamples(len(set(self.images)), self.settings.resamples, self.settings.seed)


def compare(
    contenders: Sequence[Contender],
    dataset: Dataset,
    settings: Settings,
    track: Callable[[str, int], Callable[[], None]] = lambda what, total: lambda: None,
) -> Comparison:
    """Let every classifier judge the views of the split, then time them in turns.

    Parameters
    ----------
    contenders : sequence of Contender
    dataset : Dataset
    settings : Settings
    track : callable
        Called with what begins and its number of steps; gives what is called after each step.

    Raises
    ------
    InputError
        If the split has no image, or the classifiers were trained on views of different sides.
    """
    opened = [open_classifier(c.file) for c in contenders]
    side = opened[0].side
    for contender, classifier in zip(contenders, opened, strict=True):
        if classifier.side != side:
            raise InputError(
                f"{contender.path} judges views of {classifier.side} px, {contenders[0].path} of {side} px: "
                "compare classifiers of one side at a time"
            )
    step = track("scoring", len(opened))
    found = []
    for classifier in opened:
        found.append(score(classifier, dataset, settings.split))
        step()
    number = {name: index for index, name in enumerate(dict.fromkeys(found[0].image))}
    image = np.array([number[name] for name in found[0].image])
    step = track("timing", settings.rounds + 1)
    view = Field(side, side, bench.known_field(side, side))
    timings = latency.take_turns(opened, [view], settings.rounds, road=_road, on_round=step)
    return Comparison(
        tuple(contenders),
        dataset.root.resolve().name,
        settings,
        found[0].id,
        found[0].image,
        side,
        tuple(Cases(f.truth, f.probability, image, settings.threshold) for f in found),
        tuple(timings),
    )


def score_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each classifier and view."""
    return [
        {"model": name, "id": view, "image": image, "has_cell": int(truth), "probability": float(probability)}
        for name, cases in zip(comparison.names, comparison.cases, strict=True)
        for view, image, truth, probability in zip(
            comparison.views, comparison.images, cases.truth, cases.probability, strict=True
        )
    ]


def model_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each classifier: cost, time of a view, accuracy, difference from the first."""
    rows = []
    for index, contender in enumerate(comparison.contenders):
        row = contender.row() | comparison.timings[index][0].row() | confusion(comparison.cases[index])
        for metric in METRICS:
            for suffix, table in (("", comparison.accuracy), ("_change", comparison.differences)):
                found = table[index][metric.key]
                name = metric.key + suffix
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return rows


def summary(comparison: Comparison) -> dict[str, Any]:
    """All numbers of the comparison but those of single views."""
    return {
        "images": len(set(comparison.images)),
        "views": len(comparison.views),
        "views_with_cells": int(comparison.cases[0].truth.sum()),
        "side_px": comparison.side,
        "threshold": comparison.settings.threshold,
        "models": [
            contender.row()
            | {
                "card_metrics": contender.card.metrics,
                "latency": [t.row() for t in comparison.timings[index]],
                "confusion": confusion(comparison.cases[index]),
                "accuracy": comparison.accuracy[index],
                "difference_from_first": comparison.differences[index] if index else None,
            }
            for index, contender in enumerate(comparison.contenders)
        ],
    }


def printed(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table for the terminal."""
    rows = []
    for index, contender in enumerate(comparison.contenders):
        timing, found = comparison.timings[index][0].row(), comparison.accuracy[index]
        numbers = [number(found[m.key].value) for m in METRICS]
        rows.append(
            [contender.name, f"{contender.size_bytes / 1000:.0f}", f"{timing['invoke_median_ms']:.1f}", *numbers]
        )
    return ["model", "kB", "ms/view", *(m.title for m in METRICS)], rows


def _road(data: bytes, classifier: Classifier, watch: Stopwatch) -> None:
    """From the file of a view to its probability."""
    image, card = decode(data, watch), classifier.card
    with watch.step("normalise"):
        pixels, table = shown(image, card)
        levels = np.empty((1, *image.shape, 3), np.uint8)
        normalise.apply_table(table, pixels, levels[0])
    with watch.step("invoke"):
        classifier.judge(levels)
