"""The comparison of models that find cells: what is measured, and the numbers that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.model import Model
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluate import ImageScore
from cellseg_host.report import latency
from cellseg_host.report.accuracy import METRICS, accuracy, difference, recall
from cellseg_host.report.charts import TIE
from cellseg_host.report.contenders import Contender, conversions
from cellseg_host.report.latency import Timing
from cellseg_host.report.page import number
from cellseg_host.report.pictures import Showcase, Shown
from cellseg_host.report.scoring import judge_all
from cellseg_host.report.settings import Settings
from cellseg_host.report.statistics import (
    Interval,
    Values,
    bin_of,
    bland_altman,
    bootstrap,
    quantile_edges,
    ratio_of,
    resamples,
)

SIZE_BINS, DENSITY_BINS = 6, 5


@dataclass(frozen=True)
class Change:
    """What a conversion of one network changed.

    Attributes
    ----------
    before, after : int
        Index of the more precise model and of the other.
    of : dict of str to Interval
        Paired difference of every metric, after − before.
    mean_ap : ndarray of float64, shape (n_images,)
        Difference of each image's mean AP.
    """

    before: int
    after: int
    of: dict[str, Interval]
    mean_ap: Values


@dataclass(frozen=True)
class Comparison:
    """What was measured of every model on every image.

    Attributes
    ----------
    contenders : tuple of Contender
    dataset : str
        Its name.
    settings : Settings
    entries : tuple of Entry
    scores : tuple of tuple of ImageScore
        For each model, one for each image.
    diameter_px : tuple of ndarray
        For each image, of its true cells.
    found : tuple of tuple of ndarray of bool
        For each model and image, which true cells it found.
    timings : tuple of tuple of Timing
        For each model, one for each field.
    pictures : dict of str to list of Shown
    """

    contenders: tuple[Contender, ...]
    dataset: str
    settings: Settings
    entries: tuple[Entry, ...]
    scores: tuple[tuple[ImageScore, ...], ...]
    diameter_px: tuple[Values, ...]
    found: tuple[tuple[npt.NDArray[np.bool_], ...], ...]
    timings: tuple[tuple[Timing, ...], ...]
    pictures: dict[str, list[Shown]]

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return [c.name for c in self.contenders]

    @cached_property
    def groups(self) -> dict[str, list[dict[str, Interval]]]:
        """Accuracy of every model, on all images and on those of each modality."""
        modalities = sorted({e.modality for e in self.entries})
        members = {"all": range(len(self.entries))} | {
            m: [i for i, e in enumerate(self.entries) if e.modality == m] for m in modalities
        }
        groups = {}
        for name, indices in members.items():
            weights = self._weights(len(indices))
            groups[name] = [accuracy([of_model[i] for i in indices], weights) for of_model in self.scores]
        return groups

    @cached_property
    def differences(self) -> list[dict[str, Interval]]:
        """Every metric of each model minus the first's, paired by image; the first's own are zero."""
        return [difference(of_model, self.scores[0], self._all) for of_model in self.scores]

    @cached_property
    def changes(self) -> list[Change]:
        """What each conversion among the contenders changed."""
        found = []
        for before, after in conversions(self.contenders):
            one, other = self.scores[before], self.scores[after]
            by_image = np.array([b.mean_ap - a.mean_ap for a, b in zip(one, other, strict=True)])
            found.append(Change(before, after, difference(other, one, self._all), by_image))
        return found

    def wins(self, index: int) -> dict[str, int]:
        """On how many images a model's mean AP is above the first's, below it, and about equal."""
        gain = np.array([b.mean_ap - a.mean_ap for a, b in zip(self.scores[0], self.scores[index], strict=True)])
        better, worse = int((gain > TIE).sum()), int((gain < -TIE).sum())
        return {"better": better, "worse": worse, "tied": len(gain) - better - worse}

    def by_size(self) -> tuple[list[str], list[list[Interval]]]:
        """Titles of bins of cell diameter with about equally many cells, and the recall of each model in each."""
        edges = quantile_edges(np.concatenate(self.diameter_px), SIZE_BINS)
        bins = max(len(edges) - 1, 0)
        places = [bin_of(d, edges) for d in self.diameter_px]
        cells = np.array([np.bincount(p, minlength=bins)[:bins] for p in places])
        intervals = []
        for of_model in self.found:
            hits = np.array([np.bincount(p[f], minlength=bins)[:bins] for p, f in zip(places, of_model, strict=True)])
            intervals.append([recall(hits[:, b], cells[:, b], self._all) for b in range(bins)])
        return _titles(edges, [int(n) for n in cells.sum(axis=0)], "cells"), intervals

    def by_density(self) -> tuple[list[str], list[list[Interval]]]:
        """Titles of bins of cell density with about equally many images, and the AP@0.5 of each model in each."""
        density = [e.cells / (e.height * e.width / 1e6) for e in self.entries]
        edges = quantile_edges(density, DENSITY_BINS)
        inside = np.equal.outer(bin_of(density, edges), np.arange(len(edges) - 1)).astype(np.float64)
        intervals = []
        for of_model in self.scores:
            ap50 = np.array([s.ap50 for s in of_model])
            intervals.append([bootstrap(ratio_of(ap50 * column, column), self._all) for column in inside.T])
        return _titles(edges, [int(n) for n in inside.sum(axis=0)], "images"), intervals

    @cached_property
    def _all(self) -> Values:
        return self._weights(len(self.entries))

    def _weights(self, images: int) -> Values:
        return resamples(images, self.settings.resamples, self.settings.seed)


def compare(
    contenders: Sequence[Contender],
    dataset: Dataset,
    settings: Settings,
    track: Callable[[str, int], Callable[[], None]] = lambda what, total: lambda: None,
) -> Comparison:
    """Judge every image by every model, then time the models in turns.

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
        If the split has no image, or one cannot be read.
    ModelError
        If a model's card does not fit its graph.
    """
    entries = dataset.split(settings.split)
    models = [Model(c.file, settings.threads) for c in contenders]
    showcase = Showcase()
    scores: list[list[ImageScore]] = [[] for _ in models]
    found: list[list[npt.NDArray[np.bool_]]] = [[] for _ in models]
    diameters = []
    step = track("scoring", len(entries))
    for seen in judge_all(models, dataset, entries):
        for index, judged in enumerate(seen.judged):
            scores[index].append(judged.score)
            found[index].append(seen.found[index])
        diameters.append(seen.diameter_px)
        showcase.add(seen)
        step()
    fields = latency.fields(dataset, entries)
    step = track("timing", len(fields) * (settings.rounds + 1))
    timings = latency.take_turns(models, fields, settings.rounds, on_round=step)
    return Comparison(
        tuple(contenders),
        dataset.root.resolve().name,
        settings,
        entries,
        tuple(map(tuple, scores)),
        tuple(diameters),
        tuple(map(tuple, found)),
        tuple(timings),
        showcase.groups(),
    )


def score_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each model and image."""
    return [
        {"model": name, **score.row()}
        for name, of_model in zip(comparison.names, comparison.scores, strict=True)
        for score in of_model
    ]


def model_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each model: cost, time on the typical field, accuracy on all images, difference from the first."""
    rows = []
    for index, contender in enumerate(comparison.contenders):
        row = contender.row() | comparison.timings[index][0].row()
        for metric in METRICS:
            for suffix, table in (("", comparison.groups["all"]), ("_change", comparison.differences)):
                found = table[index][metric.key]
                name = metric.key + suffix
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return rows


def summary(comparison: Comparison) -> dict[str, Any]:
    """All numbers of the comparison but those of single images."""
    models = []
    for index, contender in enumerate(comparison.contenders):
        scores = comparison.scores[index]
        agreement = bland_altman([s.cells_true for s in scores], [s.cells_predicted for s in scores])
        models.append(
            contender.row()
            | {
                "card_metrics": contender.card.metrics,
                "latency": [t.row() for t in comparison.timings[index]],
                "accuracy": {name: of_models[index] for name, of_models in comparison.groups.items()},
                "difference_from_first": comparison.differences[index] if index else None,
                "images_against_first": comparison.wins(index) if index else None,
                "count_agreement": {"bias": agreement.bias, "low": agreement.low, "high": agreement.high},
            }
        )
    return {
        "images": len(comparison.entries),
        "cells": sum(e.cells for e in comparison.entries),
        "models": models,
        "conversions": [
            {
                "before": comparison.names[change.before],
                "after": comparison.names[change.after],
                "change": change.of,
                "worst_image": comparison.entries[int(np.argmin(change.mean_ap))].id,
                "worst_image_mean_ap_change": float(change.mean_ap.min()),
            }
            for change in comparison.changes
        ],
    }


def printed(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the table for the terminal."""
    keys = ("ap50", "mean_ap", "mean_iou", "dice", "total_count_error")
    chosen = [m for m in METRICS if m.key in keys]
    rows = []
    for index, contender in enumerate(comparison.contenders):
        found, timing = comparison.groups["all"][index], comparison.timings[index][-1].row()
        values = [found[m.key] for m in chosen]
        words = [number(v.value, "1%" if m.is_error else "3f") for m, v in zip(chosen, values, strict=True)]
        interval = f"{number(found['ap50'].low)} to {number(found['ap50'].high)}"
        speed = f"{timing['end_to_end_ms_per_megapixel']:.0f}"
        rows.append([contender.name, f"{contender.size_bytes / 1000:.0f}", speed, words[0], interval, *words[1:]])
    return ["model", "kB", "ms/megapixel", "AP@0.5", "95 %", *(m.title for m in chosen[1:])], rows


def _titles(edges: Values, sizes: Sequence[int], what: str) -> list[str]:
    ends = [f"{e:.0f}" for e in edges]
    return [f"{a}–{b}\n{n} {what}" for a, b, n in zip(ends, ends[1:], sizes, strict=False)]
