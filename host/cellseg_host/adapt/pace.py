"""How long it takes until all models are trained and judged."""

from __future__ import annotations

import time
from collections.abc import Callable

# Of the time that a model is trained: to choose its thresholds and to judge it
AFTER_TRAINING = 0.25


class Pace:
    """Measures how fast models are made. What an earlier, stopped command did takes no time, and says nothing of it.

    Parameters
    ----------
    models : int
        To make in all.
    steps : int
        Of each training.
    clock : callable
        Returns a time in seconds.
    """

    def __init__(self, models: int, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = models * (1 + AFTER_TRAINING)
        self.done = 0.0
        self._steps = steps
        self._models = 0
        self._clock = clock
        self._begun: tuple[float, float] | None = None  # time, and what was done by then

    def step(self, steps: int) -> None:
        """Note how many steps of the present training are done: the first one begins the time."""
        self._note(self._models * (1 + AFTER_TRAINING) + steps / self._steps)

    def model(self) -> None:
        """Note that a model is done."""
        self._models += 1
        self._note(self._models * (1 + AFTER_TRAINING))

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
