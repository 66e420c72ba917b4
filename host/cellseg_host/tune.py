"""The thresholds that tell cells apart, chosen on the validation split for the best mean AP."""

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
SEED = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
# Up to the area of the smallest nuclei that the network is meant for, about 6 px across
MIN_AREA_PX = (8, 12, 16, 24, 32)


def tune(maps: Sequence[Maps], truth: Sequence[np.ndarray], specs: dict[str, MapSpec]) -> Separation:
    """Choose the separation with the best mean AP: foreground and seed thresholds together, then the smallest cell.

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
                    metrics.average_precision(t, labelled(m, t.shape, specs, separation)).mean()
                    for m, t in zip(maps, truth, strict=True)
                ]
            )
        )

    seeds = SEED if {"distance", "centre", "outline"} & specs.keys() else SEED[:1]
    both = [Separation(f, s) for f, s in itertools.product(FOREGROUND, seeds)]
    best = max(both, key=score)
    return max((Separation(best.foreground, best.seed, area) for area in MIN_AREA_PX), key=score)
