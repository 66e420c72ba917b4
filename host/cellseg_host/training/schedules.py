"""The learning rate at every step, as a pure function of the settings and the epochs so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cellseg_host.training.settings import TrainSettings

# Each round starts at this share of the rate of the one before, and so does weight averaging after the last
ROUND_SHARE = 0.1
COSINE_END = 0.01


def rate(settings: TrainSettings, number: int, progress: Sequence[bool], step: int) -> float:
    """Return the learning rate of one step.

    Parameters
    ----------
    settings : TrainSettings
    number : int
        The round, from 1; one past the last is the round of weight averaging, which keeps a constant rate.
    progress : sequence of bool
        For every finished epoch of this round, whether it was the best so far.
    step : int
        Within the epoch, from 0.
    """
    peak = settings.learning_rate * ROUND_SHARE ** (number - 1)
    if number > settings.rounds:
        return peak
    done = len(progress) * settings.steps + step
    warm = min((done + 1) / settings.steps, 1.0)
    if settings.schedule == "cosine":
        # Down to 1 % at the last step, as in I. Loshchilov & F. Hutter, SGDR, ICLR 2017, without restarts
        share = (done - settings.steps) / max(settings.steps * (settings.epochs - 1), 1)
        share = min(max(share, 0.0), 1.0)
        return peak * min(warm, COSINE_END + (1 - COSINE_END) * 0.5 * (1 + math.cos(math.pi * share)))
    if settings.schedule == "plateau":
        return peak * warm * 0.5 ** plateaus(progress, max(settings.patience // 3, 1))
    return peak * warm


def plateaus(progress: Sequence[bool], wait: int) -> int:
    """Return how many times `wait` epochs in a row brought no progress."""
    count = since = 0
    for best in progress:
        since = 0 if best else since + 1
        if since == wait:
            count, since = count + 1, 0
    return count
