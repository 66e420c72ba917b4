"""How long models take, side by side: on the same fields, one after the other in turns.

Taking turns, each round beginning with another model, spreads what else the machine does (other work, its clock, its
temperature) over all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellseg_device.segment import Stopwatch, segment
from cellseg_host.data.dataset import Dataset, Entry

MIN_ROUNDS, MAX_ROUNDS = 3, 20
FIELD_S = 20.0

# From a file's bytes to the result; the stopwatch's step "invoke" is the network alone
Road = Callable[[bytes, Any, Stopwatch], object]


@dataclass(frozen=True)
class Field:
    """An image that models are timed on.

    Attributes
    ----------
    height, width : int
        In pixels.
    data : bytes
        Its file.
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
        One for each round: the network alone, and the whole road from the file's bytes to the table of cells.
    """

    height: int
    width: int
    invoke_ms: tuple[float, ...]
    end_to_end_ms: tuple[float, ...]

    @property
    def megapixels(self) -> float:
        """Size of the field."""
        return self.height * self.width / 1e6

    def row(self) -> dict[str, Any]:
        """Flat, for a table: median and 95th percentile of both, and the medians per megapixel."""
        row: dict[str, Any] = {"height": self.height, "width": self.width, "rounds": len(self.invoke_ms)}
        for name, values in (("invoke", self.invoke_ms), ("end_to_end", self.end_to_end_ms)):
            median, p95 = np.percentile(values, (50, 95))
            row |= {
                f"{name}_median_ms": float(median),
                f"{name}_p95_ms": float(p95),
                f"{name}_ms_per_megapixel": float(median) / self.megapixels,
            }
        return row


def rows(names: Sequence[str], timings: Sequence[Sequence[Timing]]) -> list[dict[str, Any]]:
    """One row for each model and field."""
    pairs = zip(names, timings, strict=True)
    return [{"model": name, **timing.row()} for name, of_model in pairs for timing in of_model]


def fields(dataset: Dataset, entries: Sequence[Entry]) -> tuple[Field, ...]:
    """The image of median size and the largest one; one image, where all are of one size."""
    ranked = sorted(entries, key=lambda e: (e.height * e.width, e.id))
    typical, largest = ranked[(len(ranked) - 1) // 2], ranked[-1]
    is_one = (typical.height, typical.width) == (largest.height, largest.width)
    chosen = (typical,) if is_one else (typical, largest)
    return tuple(Field(e.height, e.width, dataset.image_bytes(e)) for e in chosen)


def take_turns(
    models: Sequence[Any],
    fields: Sequence[Field],
    rounds: int = MAX_ROUNDS,
    budget_s: float = FIELD_S,
    road: Road = segment,
    on_round: Callable[[], None] = lambda: None,
) -> list[tuple[Timing, ...]]:
    """Time every model on every field.

    Parameters
    ----------
    models : sequence of Model
    fields : sequence of Field
    rounds : int
        At most so many for each field; a first one, which prepares the runtime for the field's size, is not counted.
    budget_s : float
        No further round begins after so many seconds with one field, once `MIN_ROUNDS` are done.
    road : callable
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
                lap = _lap(road, field.data, models[index])
                if number >= 0:
                    taken[index].append(lap)
            on_round()
        for index, laps in enumerate(taken):
            invoke, whole = zip(*laps, strict=True)
            timings[index].append(Timing(field.height, field.width, invoke, whole))
    return [tuple(t) for t in timings]


def _lap(road: Road, data: bytes, model: Any) -> tuple[float, float]:
    """Milliseconds of the network alone, and of the whole road."""
    watch = Stopwatch()
    start = time.perf_counter()
    road(data, model, watch)
    return watch.ms.get("invoke", 0.0), (time.perf_counter() - start) * 1e3
