"""What tells cells apart: thresholds chosen on the validation split for the best AP, the join learnt from training."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from cellseg_device.card import Separation
from cellseg_device.model import MapSpec
from cellseg_device.segment import RELIEFS, Maps
from cellseg_host import joining, metrics
from cellseg_host.evaluate import labelled

FOREGROUND = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
RISE = (0.35, 0.5, 0.7, 1.0)
CONFIDENCE = (0.5, 0.75, 0.8, 0.84, 0.88, 0.91, 0.94)
# Up to the area of the smallest nuclei that the network is meant for, about 6 px across
MIN_AREA_PX = (8, 12, 16, 24, 32)
COUNT_WEIGHT = 0.1
# Training images whose contacts, some thousands, are enough to learn the join from
KNOWN_IMAGES = 200

Drawn = Sequence[tuple[Maps, np.ndarray]]


def tune(known: Drawn, judged: Drawn, specs: Mapping[str, MapSpec]) -> Separation:
    """Choose the separation with the best AP: foreground threshold and rise together, then what is dropped.

    The score is the mean of AP@0.5 and of the mean AP, which is more about outlines, less `COUNT_WEIGHT` times the
    error of the total count. Pieces are joined by what the contacts of the training images teach, anew for each
    threshold and rise.

    Parameters
    ----------
    known, judged : sequence of (dict, ndarray of uint16)
        Maps, from `predict`, and the true labels of training images, `KNOWN_IMAGES` or so, and of each validation
        image.
    specs : dict
        What the maps' values mean.
    """

    def score(separation: Separation) -> float:
        found = [(t, labelled(m, t.shape, specs, separation)) for m, t in judged]
        true, counted = (sum(int(labels.max(initial=0)) for labels in side) for side in zip(*found, strict=True))
        precision = float(np.mean([_score(metrics.average_precision(*pair)) for pair in found]))
        return precision - COUNT_WEIGHT * abs(counted - true) / max(true, 1)

    if specs.keys() & set(RELIEFS):
        both = [_joined(Separation(f, r), known, specs) for f, r in itertools.product(FOREGROUND, RISE)]
    else:
        both = [Separation(f) for f in FOREGROUND]
    best = max(both, key=score)
    best = max((dataclasses.replace(best, confidence=value) for value in CONFIDENCE), key=score)
    return max((dataclasses.replace(best, min_area_px=value) for value in MIN_AREA_PX), key=score)


def _joined(separation: Separation, known: Drawn, specs: Mapping[str, MapSpec]) -> Separation:
    contacts = joining.examples((m for m, _ in known), (t for _, t in known), specs, separation)
    return dataclasses.replace(separation, join=joining.fit(contacts))


def _score(precision: np.ndarray) -> float:
    return float(precision[0] + precision.mean()) / 2
