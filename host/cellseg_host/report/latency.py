"""Times of several models on the same fields.

The models take turns, and each round begins with another one, so that whatever else changes on the machine (other work,
its clock, its temperature) affects all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellseg_device.pipeline.segment import segment
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_host.data.dataset import Dataset, Entry

MIN_ROUNDS, MAX_ROUNDS = 3, 20
FIELD_S = 20.0

# From a file's bytes to the result; the stopwatch's step "invoke" is the network alone
Pipeline = Callable[[bytes, Any, Stopwatch], object]


@dataclass(frozen=True)
class Field:
    """An image that models are timed on.

    Attributes
    ----------
    height, width : int
        In pixels.
    data : bytes
        The content of its file.
    """

    height: int
    width: int
    data: bytes


@dataclass(frozen=True)
class Timing:
    """One model on one field.

    Attributes
    ----------
    height, width : int
        Of the field, in pixels.
    invoke_ms, end_to_end_ms : tuple of float
        One for each round: the network alone, and everything from the file's bytes to the table of cells.
    """

    height: int
    width: int
    invoke_ms: tuple[float, ...]
    end_to_end_ms: tuple[float, ...]

    @property
    def megapixels(self) -> float:
        """Pixels of the field, in millions."""
        return self.height * self.width / 1e6

    def row(self) -> dict[str, Any]:
        """Return one flat row of a table: median and 95th percentile of both, and the medians per megapixel."""
        row: dict[str, Any] = {"height": self.height, "width": self.width, "runs": len(self.invoke_ms)}
        for name, values in (("invoke", self.invoke_ms), ("end_to_end", self.end_to_end_ms)):
            median, p95 = np.percentile(values, (50, 95))
            row |= {
                f"{name}_median_ms": float(median),
                f"{name}_p95_ms": float(p95),
                f"{name}_ms_per_megapixel": float(median) / self.megapixels,
            }
        return row


def rows(names: Sequence[str], timings: Sequence[Sequence[Timing]]) -> list[dict[str, Any]]:
    """Return one row for each model and field."""
    pairs = zip(names, timings, strict=True)
    return [{"model": name, **timing.row()} for name, of_model in pairs for timing in of_model]


def fields(dataset: Dataset, entries: Sequence[Entry]) -> tuple[Field, ...]:
    """Return the image of median size and the largest one; a single one where both are of the same size."""
    ranked = sorted(entries, key=lambda e: (e.height * e.width, e.id))
    typical, largest = ranked[(len(ranked) - 1) // 2], ranked[-1]
    is_one = (typical.height, typical.width) == (largest.height, largest.width)
    chosen = (typical,) if is_one else (typical, largest)
    return tuple(Field(e.height, e.width, dataset.image_bytes(e)) for e in chosen)


def take_turns(
    models: Sequence[Any],
    fields: Sequence[Field],
    rounds: int = MAX_ROUNDS,
    *,
    budget_s: float = FIELD_S,
    pipeline: Pipeline = segment,
    on_round: Callable[[], None] = lambda: None,
) -> list[tuple[Timing, ...]]:
    """Return the times of every model on every field.

    Parameters
    ----------
    models : sequence of Model
    fields : sequence of Field
    rounds : int
        Of each field, at most. One round before them, in which the runtime prepares for the field's size, is not timed.
    budget_s : float
        After so many seconds with one field no further round begins, once `MIN_ROUNDS` are done.
    pipeline : callable
        From a file's bytes to the result.
    on_round : callable
        Called after each round.

    Returns
    -------
    list of tuple of Timing
        For each model, one for each field.
    """
    timings: list[list[Timing]] = [[] for _ in models]
    for field in fields:
        taken: list[list[tuple[float, float]]] = [[] for _ in models]
        start = time.monotonic()
        for number in range(-1, rounds):
            if number >= MIN_ROUNDS and time.monotonic() - start > budget_s:
                break
            for turn in range(len(models)):
                index = (number + turn) % len(models)
                lap = _lap(pipeline, field.data, models[index])
                if number >= 0:
                    taken[index].append(lap)
            on_round()
        for index, laps in enumerate(taken):
            invoke, whole = zip(*laps, strict=True)
            timings[index].append(Timing(field.height, field.width, invoke, whole))
    return [tuple(t) for t in timings]


def _lap(pipeline: Pipeline, data: bytes, model: Any) -> tuple[float, float]:
    """Return the milliseconds of the network alone, and of the whole pipeline."""
    stopwatch = Stopwatch()
    start = time.perf_counter()
    pipeline(data, model, stopwatch)
    return stopwatch.ms.get("invoke", 0.0), (time.perf_counter() - start) * 1e3
