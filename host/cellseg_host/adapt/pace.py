"""How long it takes until all models are trained and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

# Of the time of the longest training: to choose a model's thresholds and to judge it
AFTER_TRAINING = 0.25


class Pace:
    """Measures how fast models are made. What an earlier, stopped command did takes no time, and says nothing of it.

    Parameters
    ----------
    steps : sequence of int
        Of the training of each model.
    clock : callable
        Returns a time in seconds.

    Attributes
    ----------
    total, done : float
        Work in steps.
    """

    def __init__(self, steps: Sequence[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._costs = [one + AFTER_TRAINING * max(steps, default=0) for one in steps]
        self.total = sum(self._costs)
        self.done = 0.0
        self._models = 0
        self._clock = clock
        self._begun: tuple[float, float] | None = None  # time, and what was done by then

    def step(self, steps: int) -> None:
        """Note how many steps of the present training are done: the first one begins the time."""
        self._note(sum(self._costs[: self._models]) + steps)

    def model(self) -> None:
        """Note that a model is done."""
        self._models += 1
        self._note(sum(self._costs[: self._models]))

    def left_s(self) -> float | None:
        """Return the seconds left; None if nothing was done in this command yet."""
        if self._begun is None or self.done <= self._begun[1]:
            return None
        began, before = self._begun
        return (self.total - self.done) * (self._clock() - began) / (self.done - before)

    def _note(self, done: float) -> None:
        self.done = done
        if self._begun is None:
            self._begun = self._clock(), done
