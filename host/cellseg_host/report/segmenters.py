"""The comparison of models that draw the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from cellseg_device.model.interpreter import Model
from cellseg_device.units import plural
from cellseg_host.data.dataset import Dataset, Entry, cells_in
from cellseg_host.evaluation.evaluate import ImageScore
from cellseg_host.evaluation.grouping import groups
from cellseg_host.report import latency
from cellseg_host.report.accuracy import Metric, accuracy, difference
from cellseg_host.report.comparison import Comparison, Row, Track, number, untracked
from cellseg_host.report.contenders import Contender, conversions
from cellseg_host.report.pictures import Showcase, Shown
from cellseg_host.report.scoring import score_all
from cellseg_host.report.segmentation import METRICS, recall
from cellseg_host.report.settings import Settings
from cellseg_host.report.statistics import (
    Agreement,
    Interval,
    Values,
    bin_of,
    bland_altman,
    bootstrap,
    quantile_edges,
    ratio_of,
    resamples,
)

# Differences within this count as ties: half a digit of what is printed
TIE = 0.005
SIZE_BINS, DENSITY_BINS = 6, 5
_PRINTED = ("mean_ap", "mean_iou", "dice", "f1", "total_count_error", "mean_count_error")


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

    @property
    def worst(self) -> int:
        """Index of the image that lost most mean AP."""
        return int(np.argmin(self.mean_ap))


@dataclass(frozen=True, kw_only=True)
class SegmenterComparison(Comparison[Sequence[ImageScore]]):
    """What was measured of every segmenter on every image; its answers are a score for each image.

    Attributes
    ----------
    entries : tuple of Entry
    diameter_px : tuple of ndarray
        For each image, of its true cells.
    matched : tuple of tuple of ndarray of bool
        For each model and image, which true cells match a counted one.
    pictures : dict of str to list of Shown
    """

    metrics: ClassVar[Sequence[Metric[Any]]] = METRICS
    kind: ClassVar[str] = "models"
    template: ClassVar[str] = "segmenters.html"

    entries: tuple[Entry, ...]
    diameter_px: tuple[Values, ...]
    matched: tuple[tuple[npt.NDArray[np.bool_], ...], ...]
    pictures: dict[str, list[Shown]]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.entries)

    @property
    def sample(self) -> str:
        """What the models were compared on, in a few words."""
        return f"{plural(self.images, 'image')}, {plural(cells_in(self.entries), 'cell')}"

    @cached_property
    def groups(self) -> dict[str, tuple[int, list[dict[str, Interval]]]]:
        """Number of images, and accuracy of every model on them: of `grouping.groups`."""
        found = {}
        for title, places in groups(self.entries).items():
            weights = resamples(len(places), self.settings.resamples, self.settings.seed)
            found[title] = (
                len(places),
                [accuracy(METRICS, [scores[place] for place in places], weights) for scores in self.answers],
            )
        return found

    @cached_property
    def changes(self) -> list[Change]:
        """What each conversion among the contenders changed."""
        changes = []
        for before, after in conversions(self.contenders):
            change = difference(METRICS, self.answers[after], self.answers[before], self.weights)
            changes.append(Change(before, after, change, self._mean_ap(after) - self._mean_ap(before)))
        return changes

    @property
    def card_changes(self) -> dict[int, tuple[dict[str, float], dict[str, float]]]:
        """The metrics of the float network and of the quantized one, by the model in whose card they are."""
        changes = {}
        for index, card in enumerate(c.card for c in self.contenders):
            before, after = card.metrics.get("float32"), card.metrics.get(card.quantization)
            if card.quantization != "float32" and isinstance(before, dict) and isinstance(after, dict):
                changes[index] = (before, after)
        return changes

    @property
    def totals(self) -> list[dict[str, int]]:
        """Cells of the whole set for each model: true, counted, and matched."""
        keys = ("cells_true", "cells_counted", "cells_matched")
        return [{key: sum(getattr(s, key) for s in scores) for key in keys} for scores in self.answers]

    @property
    def agreements(self) -> list[Agreement]:
        """How far each model's counts agree with the true ones."""
        return [bland_altman([s.cells_true for s in a], [s.cells_counted for s in a]) for a in self.answers]

    def wins(self, index: int) -> dict[str, int]:
        """Return on how many images a model's mean AP is above the first's, below it, and about equal."""
        gain = self._mean_ap(index) - self._mean_ap(0)
        better, worse = int((gain > TIE).sum()), int((gain < -TIE).sum())
        return {"better": better, "worse": worse, "tied": len(gain) - better - worse}

    def by_size(self) -> tuple[list[str], list[list[Interval]]]:
        """Return titles of bins of cell diameter with about equally many cells, and each model's recall in each."""
        edges = quantile_edges(np.concatenate(self.diameter_px), SIZE_BINS)
        bins = max(len(edges) - 1, 0)
        places = [bin_of(d, edges) for d in self.diameter_px]
        cells = np.array([np.bincount(p, minlength=bins)[:bins] for p in places])
        intervals = []
        for of_model in self.matched:
            hits = np.array([np.bincount(p[m], minlength=bins)[:bins] for p, m in zip(places, of_model, strict=True)])
            intervals.append([recall(hits[:, b], cells[:, b], self.weights) for b in range(bins)])
        return _titles(edges, [int(n) for n in cells.sum(axis=0)], "cells"), intervals

    def by_density(self) -> tuple[list[str], list[list[Interval]]]:
        """Return titles of bins of cell density with about equally many images, and each model's AP@0.5 in each."""
        density = [cells_in([e]) / (e.height * e.width / 1e6) for e in self.entries]
        edges = quantile_edges(density, DENSITY_BINS)
        inside = np.equal.outer(bin_of(density, edges), np.arange(len(edges) - 1)).astype(np.float64)
        intervals = []
        for scores in self.answers:
            ap50 = np.array([s.ap50 for s in scores])
            intervals.append([bootstrap(ratio_of(ap50 * column, column), self.weights) for column in inside.T])
        return _titles(edges, [int(n) for n in inside.sum(axis=0)], "images"), intervals

    def _mean_ap(self, model: int) -> Values:
        return np.array([s.mean_ap for s in self.answers[model]])

    def _score_rows(self, model: int) -> list[Row]:
        return [score.row() for score in self.answers[model]]

    def _summary_of_images(self) -> Row:
        return {
            "images": self.images,
            "cells": cells_in(self.entries),
            "conversions": [
                {
                    "before": self.names[change.before],
                    "after": self.names[change.after],
                    "change": change.of,
                    "worst_image": self.entries[change.worst].id,
                    "worst_image_mean_ap_change": float(change.mean_ap[change.worst]),
                }
                for change in self.changes
            ],
        }

    def _summary_of_model(self, model: int) -> Row:
        agreement = self.agreements[model]
        return {
            **self.totals[model],
            "accuracy": {name: of_models[model] for name, (_, of_models) in self.groups.items()},
            "images_against_first": self.wins(model) if model else None,
            "count_agreement": {"bias": agreement.bias, "low": agreement.low, "high": agreement.high},
        }

    def _printed_scores(self, model: int) -> dict[str, str]:
        scores, timing = self.accuracy[model], self.timings[model][-1].row()
        ap50 = scores["ap50"]
        return {
            "ms/megapixel": f"{timing['end_to_end_ms_per_megapixel']:.0f}",
            "AP@0.5": number(ap50.value),
            "95 %": f"{number(ap50.low)} to {number(ap50.high)}",
        } | {m.title: number(scores[m.key].value, "1%" if m.is_error else "3f") for m in METRICS if m.key in _PRINTED}


def compare(
    contenders: Sequence[Contender], dataset: Dataset, settings: Settings, track: Track = untracked
) -> SegmenterComparison:
    """Score every image by every model, then time the models in turns.

    Parameters
    ----------
    contenders : sequence of Contender
    dataset : Dataset
    settings : Settings
    track : callable

    Raises
    ------
    InputError
        If the split has no image, or one cannot be read.
    ModelError
        If a model's card does not fit its graph.
    """
    entries = dataset.labelled(settings.split)
    models = [Model(c.file, settings.threads) for c in contenders]
    showcase = Showcase()
    scores: list[list[ImageScore]] = [[] for _ in models]
    matched: list[list[npt.NDArray[np.bool_]]] = [[] for _ in models]
    diameters = []
    step = track("scoring", len(entries))
    for image in score_all(models, dataset, entries):
        for index, scored in enumerate(image.models):
            scores[index].append(scored.score)
            matched[index].append(image.matched(index))
        diameters.append(image.diameter_px)
        showcase.add(image)
        step()
    fields = latency.fields(dataset, entries)
    step = track("timing", len(fields) * (settings.runs + 1))
    timings = latency.take_turns(models, fields, settings.runs, on_round=step)
    return SegmenterComparison(
        contenders=tuple(contenders),
        dataset=dataset.root.resolve().name,
        settings=settings,
        answers=tuple(map(tuple, scores)),
        timings=tuple(timings),
        entries=entries,
        diameter_px=tuple(diameters),
        matched=tuple(map(tuple, matched)),
        pictures=showcase.groups(),
    )


def _titles(edges: Values, sizes: Sequence[int], what: str) -> list[str]:
    ends = [f"{e:.0f}" for e in edges]
    return [f"{a}–{b}\n{n} {what}" for a, b, n in zip(ends, ends[1:], sizes, strict=False)]
