"""The thresholds that tell cells apart, chosen on the validation split for the best AP."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from cellseg_device.card import Separation
from cellseg_device.model import MapSpec
from cellseg_device.segment import Maps
from cellseg_host import metrics
from cellseg_host.evaluate import labelled

FOREGROUND = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
RISE = (0.35, 0.5, 0.6, 0.7, 0.85, 1.0, 1.25, 1.5)
# Up to the area of the smallest nuclei that the network is meant for, about 6 px across
MIN_AREA_PX = (8, 12, 16, 24, 32)


def tune(maps: Sequence[Maps], truth: Sequence[np.ndarray], specs: dict[str, MapSpec]) -> Separation:
    """Choose the separation with the best AP: foreground threshold and rise together, then the smallest cell.

    The score is the mean of AP@0.5, which is about the count, and of the mean AP, which is about outlines as well.

    Parameters
    ----------
    maps : sequence of dict
        One per validation image, from `predict`.
    truth : sequence of ndarray of uint16
        The true labels of each.
    specs : dict
        What the maps' values mean.
    """

    def score(separation: Separation) -> float:
        return float(
            np.mean(
                [
                    _score(metrics.average_precision(t, labelled(m, t.shape, specs, separation)))
                    for m, t in zip(maps, truth, strict=True)
                ]
            )
        )

    rises = RISE if {"distance", "centre", "outline"} & specs.keys() else RISE[:1]
    both = [Separation(f, r) for f, r in itertools.product(FOREGROUND, rises)]
    best = max(both, key=score)
    return max((Separation(best.foreground, best.rise, area) for area in MIN_AREA_PX), key=score)


def _score(precision: np.ndarray) -> float:
    return float(precision[0] + precision.mean()) / 2
