"""What a comparison of models has measured, whichever kind they are of, and the numbers that follow."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any, ClassVar, Generic, TypeVar

from cellseg_host.report import latency
from cellseg_host.report.accuracy import Metric, accuracy, difference
from cellseg_host.report.contenders import Contender
from cellseg_host.report.latency import Timing
from cellseg_host.report.settings import Settings
from cellseg_host.report.statistics import Interval, Values, resamples
from cellseg_host.training.history import Epoch

S = TypeVar("S")
Row = dict[str, Any]

# Called with the name of a stage and its number of steps; returns what is called after each step
Track = Callable[[str, int], Callable[[], None]]


def untracked(_stage: str, _steps: int) -> Callable[[], None]:
    """Track nothing."""
    return lambda: None


@dataclass(frozen=True, kw_only=True)
class Comparison(ABC, Generic[S]):
    """What was measured of every model: the part that segmenters and classifiers have in common.

    Attributes
    ----------
    metrics : sequence of Metric
        Of models of this kind.
    kind : str
        What the models are called in the page's title.
    template : str
        Of the page's sections, in ``templates/``.
    contenders : tuple of Contender
    dataset : str
        Its name.
    settings : Settings
    answers : tuple
        For each model, what it made of all images, as the metrics take it.
    timings : tuple of tuple of Timing
        For each model, one for each field.
    """

    metrics: ClassVar[Sequence[Metric[Any]]]
    kind: ClassVar[str]
    template: ClassVar[str]

    contenders: tuple[Contender, ...]
    dataset: str
    settings: Settings
    answers: tuple[S, ...]
    timings: tuple[tuple[Timing, ...], ...]

    @property
    def names(self) -> list[str]:
        """Names of the models."""
        return [c.name for c in self.contenders]

    @property
    @abstractmethod
    def images(self) -> int:
        """Number of images."""

    @property
    def title(self) -> str:
        """Title of the page."""
        models = len(self.names)
        return f"{f'{models} {self.kind}' if models > 1 else self.names[0]} on {self.dataset}"

    @property
    @abstractmethod
    def sample(self) -> str:
        """What the models were compared on, in a few words."""

    @cached_property
    def accuracy(self) -> list[dict[str, Interval]]:
        """Every metric of each model, on all images."""
        return [accuracy(self.metrics, answers, self.weights) for answers in self.answers]

    @cached_property
    def differences(self) -> list[dict[str, Interval]]:
        """Every metric of each model minus the first's, paired by image; the first's own are zero."""
        return [difference(self.metrics, answers, self.answers[0], self.weights) for answers in self.answers]

    @property
    def best(self) -> dict[str, float]:
        """The best value of each metric, as rounded for the page; NaN where it is undefined for all models."""
        best = {}
        for m in self.metrics:
            values = [round(v, 3) for of_model in self.accuracy if math.isfinite(v := of_model[m.key].value)]
            best[m.key] = (min if m.is_error else max)(values, default=math.nan)
        return best

    @property
    def epochs(self) -> dict[str, Sequence[Epoch]]:
        """The training of each model that is given as a run, by its name."""
        return {c.name: c.epochs for c in self.contenders if c.epochs}

    @cached_property
    def weights(self) -> Values:
        """How often each image is drawn in each resample."""
        return resamples(self.images, self.settings.resamples, self.settings.seed)

    def tables(self) -> dict[str, list[Row]]:
        """Return the rows of each table, by the name of its file."""
        return {
            "scores.csv": [
                {"model": name, **row} for index, name in enumerate(self.names) for row in self._score_rows(index)
            ],
            "models.csv": [self._model_row(index) for index in range(len(self.contenders))],
            "latency.csv": latency.rows(self.names, self.timings),
        }

    def summary(self) -> Row:
        """Return all numbers but those of single images."""
        return self._summary_of_images() | {
            "models": [
                contender.row()
                | {
                    "card_metrics": contender.card.metrics,
                    "latency": [t.row() for t in self.timings[index]],
                    "difference_from_first": self.differences[index] if index else None,
                }
                | self._summary_of_model(index)
                for index, contender in enumerate(self.contenders)
            ]
        }

    def printed(self) -> list[dict[str, str]]:
        """Return a row for each model of the table for the terminal, by the columns' titles."""
        return [
            {"model": contender.name, "kB": f"{contender.size_bytes / 1000:.0f}"} | self._printed_scores(index)
            for index, contender in enumerate(self.contenders)
        ]

    @abstractmethod
    def _score_rows(self, model: int) -> list[Row]:
        """Return the scores of a model, one row for each image or view."""

    @abstractmethod
    def _summary_of_images(self) -> Row: ...

    @abstractmethod
    def _summary_of_model(self, model: int) -> Row: ...

    @abstractmethod
    def _printed_scores(self, model: int) -> dict[str, str]: ...

    def _further_columns(self, model: int) -> Row:  # noqa: ARG002 - for the kinds of models that have some
        """Return what else is written about a model into the table of models."""
        return {}

    def _model_row(self, model: int) -> Row:
        """Return cost, time on the first field, accuracy on all images, and the difference from the first model."""
        row = self.contenders[model].row() | self.timings[model][0].row() | self._further_columns(model)
        for metric in self.metrics:
            for suffix, of_models in (("", self.accuracy), ("_change", self.differences)):
                interval, name = of_models[model][metric.key], metric.key + suffix
                row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return row


def number(value: object, digits: str = "3f", *, signed: bool = False) -> str:
    """Return a number with a true minus sign, none before a zero, and a dash for what is not a finite number."""
    if not isinstance(value, Real) or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if signed else ''}z.{digits}}".replace("-", "−")
