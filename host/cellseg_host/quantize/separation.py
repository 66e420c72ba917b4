"""How cells are told apart: thresholds chosen for the best AP on the val split, the join learnt on the train split."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from cellseg_device.model.card import Join, Separation
from cellseg_device.model.interpreter import MapSpec
from cellseg_device.pipeline.predict import Maps
from cellseg_device.pipeline.segment import LANDSCAPES
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import labelled
from cellseg_host.quantize import joining

FOREGROUND = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
PROMINENCE = (0.35, 0.5, 0.7, 1.0)
CONFIDENCE = (0.5, 0.75, 0.8, 0.84, 0.88, 0.91, 0.94)
# Up to the area of the smallest nuclei that the network is meant for, about 6 px across
MIN_AREA_PX = (8, 12, 16, 24, 32)
COUNT_WEIGHT = 0.1
# Training images whose contacts, some thousands, are enough to learn the join from
KNOWN_IMAGES = 200

Predicted = Sequence[tuple[Maps, np.ndarray]]


def tune(known: Predicted, scored: Predicted, specs: Mapping[str, MapSpec], *, usual: Join | None = None) -> Separation:
    """Return the separation with the best score: first foreground threshold and prominence, then what is dropped.

    The score is the mean of AP@0.5 and the mean AP (which depends more on outlines), minus `COUNT_WEIGHT` times the
    error of the total count. Which pieces are joined is learnt from the contacts in the training images, anew for each
    threshold and prominence.

    Parameters
    ----------
    known, scored : sequence of (dict, ndarray of uint16)
        Maps, from `predict`, and true labels: of about `KNOWN_IMAGES` training images, and of all validation images.
    specs : dict
        What the maps' values mean.
    usual : Join or None
        The join where the training images have too few contacts to learn one from.
    """

    def score(separation: Separation) -> float:
        found = [(t, labelled(m, t.shape, specs, separation)) for m, t in scored]
        true, counted = (sum(int(labels.max(initial=0)) for labels in side) for side in zip(*found, strict=True))
        precision = float(np.mean([_score(metrics.average_precision(*pair)) for pair in found]))
        return precision - COUNT_WEIGHT * abs(counted - true) / max(true, 1)

    if specs.keys() & set(LANDSCAPES):
        both = [_joined(Separation(f, p), known, specs, usual) for f, p in itertools.product(FOREGROUND, PROMINENCE)]
    else:
        both = [Separation(f) for f in FOREGROUND]
    best = max(both, key=score)
    best = max((dataclasses.replace(best, confidence=value) for value in CONFIDENCE), key=score)
    return max((dataclasses.replace(best, min_area_px=value) for value in MIN_AREA_PX), key=score)


def _joined(separation: Separation, known: Predicted, specs: Mapping[str, MapSpec], usual: Join | None) -> Separation:
    contacts = joining.examples((m for m, _ in known), (t for _, t in known), specs, separation)
    return dataclasses.replace(separation, join=joining.fit(contacts) or usual)


def _score(precision: np.ndarray) -> float:
    return float(precision[0] + precision.mean()) / 2
