"""The comparison of models that say whether a view shows a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cellseg_device.errors import InputError
from cellseg_device.image import normalise
from cellseg_device.pipeline.predict import shown
from cellseg_device.pipeline.segment import decode
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.units import plural
from cellseg_device.watching import bench
from cellseg_host.data.dataset import Dataset
from cellseg_host.report import latency
from cellseg_host.report.accuracy import Metric
from cellseg_host.report.classification import METRICS, Cases, confusion
from cellseg_host.report.comparison import Comparison, Row, Track, number, untracked
from cellseg_host.report.contenders import Contender
from cellseg_host.report.latency import Field
from cellseg_host.report.settings import Settings
from cellseg_host.training.presence import Classifier, open_classifier, score


@dataclass(frozen=True, kw_only=True)
class ClassifierComparison(Comparison[Cases]):
    """What was measured of every classifier on every view; its answers are a probability for each view.

    Attributes
    ----------
    views, image_of : tuple of str
        Names of the views, and of the image that each is cut from.
    side : int
        Of a view in pixels.
    """

    metrics: ClassVar[Sequence[Metric[Any]]] = METRICS
    kind: ClassVar[str] = "classifiers"
    template: ClassVar[str] = "classifiers.html"

    views: tuple[str, ...]
    image_of: tuple[str, ...]
    side: int

    @property
    def images(self) -> int:
        """Number of images."""
        return len(set(self.image_of))

    @property
    def sample(self) -> str:
        """What the classifiers were compared on, in a few words."""
        return (
            f"{plural(self.images, 'image')}, cut into {plural(len(self.views), 'view')} of "
            f"{self.side} × {self.side} px, {self.answers[0].truth.sum():,} of them with cells"
        )

    def _score_rows(self, model: int) -> list[Row]:
        cases = self.answers[model]
        return [
            {"id": view, "image": image, "has_cell": int(truth), "probability": float(probability)}
            for view, image, truth, probability in zip(
                self.views, self.image_of, cases.truth, cases.probability, strict=True
            )
        ]

    def _summary_of_images(self) -> Row:
        return {
            "images": self.images,
            "views": len(self.views),
            "views_with_cells": int(self.answers[0].truth.sum()),
            "side_px": self.side,
            "threshold": self.settings.threshold,
        }

    def _summary_of_model(self, model: int) -> Row:
        return {"confusion": confusion(self.answers[model]), "accuracy": self.accuracy[model]}

    def _printed_scores(self, model: int) -> dict[str, str]:
        speed = {"ms/view": f"{self.timings[model][0].row()['invoke_median_ms']:.1f}"}
        return speed | {m.title: number(self.accuracy[model][m.key].value) for m in METRICS}

    def _further_columns(self, model: int) -> Row:
        return confusion(self.answers[model])


def compare(
    contenders: Sequence[Contender], dataset: Dataset, settings: Settings, track: Track = untracked
) -> ClassifierComparison:
    """Score the views of the split by every classifier, then time the classifiers in turns.

    Parameters
    ----------
    contenders : sequence of Contender
    dataset : Dataset
    settings : Settings
    track : callable

    Raises
    ------
    InputError
        If the split has no image, or the classifiers were trained on views of different sizes.
    """
    opened = [open_classifier(c.file) for c in contenders]
    side = opened[0].side
    for contender, classifier in zip(contenders, opened, strict=True):
        if classifier.side != side:
            raise InputError(
                f"{contender.path} takes views of {classifier.side} px, {contenders[0].path} of {side} px: "
                "compare classifiers of the same size"
            )
    step = track("scoring", len(opened))
    scores = []
    for classifier in opened:
        scores.append(score(classifier, dataset, settings.split))
        step()
    step = track("timing", settings.runs + 1)
    view = Field(side, side, bench.known_field(side, side))
    timings = latency.take_turns(opened, [view], settings.runs, pipeline=_pipeline, on_round=step)
    image_of = scores[0].image
    numbers = {name: index for index, name in enumerate(dict.fromkeys(image_of))}
    image = np.array([numbers[name] for name in image_of])
    return ClassifierComparison(
        contenders=tuple(contenders),
        dataset=dataset.root.resolve().name,
        settings=settings,
        answers=tuple(Cases(s.truth, s.probability, image, settings.threshold) for s in scores),
        timings=tuple(timings),
        views=scores[0].id,
        image_of=image_of,
        side=side,
    )


def _pipeline(data: bytes, classifier: Classifier, stopwatch: Stopwatch) -> None:
    """Run a classifier on the file of a view."""
    image, card = decode(data, stopwatch), classifier.card
    with stopwatch.step("normalise"):
        pixels, table = shown(image, card)
        levels = np.empty((1, *image.shape, 3), np.uint8)
        normalise.apply_table(table, pixels, levels[0])
    with stopwatch.step("invoke"):
        classifier.predict(levels)
