"""How cells are told apart: thresholds chosen for the best AP on the val split, the join learnt on the train split."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from cellseg_device.model.card import Join, Separation
from cellseg_device.model.interpreter import MapSpec
from cellseg_device.pipeline import tuning
from cellseg_device.pipeline.predict import Maps
from cellseg_device.pipeline.segment import LANDSCAPES
from cellseg_device.pipeline.tuning import Scores
from cellseg_host.evaluation.evaluate import labelled
from cellseg_host.quantize import joining

# Training images whose contacts, some thousands, are enough to learn the join from
KNOWN_IMAGES = 200
# Foreground and prominence are chosen with cells dropped as they usually are in the end: what false cells they bring is
# then not held against a low foreground threshold
FIRST_CONFIDENCE = (0.5, 0.8)

Fixed = Mapping[str, Any]
Predicted = Sequence[tuple[Maps, np.ndarray]]


def tune(
    known: Predicted,
    scored: Predicted,
    specs: Mapping[str, MapSpec],
    *,
    usual: Join | None = None,
    fixed: Fixed = MappingProxyType({}),
) -> Separation:
    """Return the separation with the best score: first foreground threshold and prominence, then what is dropped.

    The score is that of `tuning.search`. Which pieces are joined is learnt from the contacts in the training images,
    anew for each threshold and prominence.

    Parameters
    ----------
    known, scored : sequence of (dict, ndarray of uint16)
        Maps, from `predict`, and true labels: of about `KNOWN_IMAGES` training images, and of all validation images.
    specs : dict
        What the maps' values mean.
    usual : Join or None
        The join where the training images have too few contacts to learn one from.
    fixed : mapping of str to float
        Thresholds, fields of a `Separation`, that are not chosen.
    """

    def with_fixed(separation: Separation) -> Separation:
        return dataclasses.replace(separation, **fixed)

    @functools.cache  # settings that differ in what is fixed alone are the same
    def score(separation: Separation) -> Scores:
        return tuning.scores((t, labelled(m, t.shape, specs, separation)) for m, t in scored)

    def scores(settings: Sequence[Separation]) -> list[Scores]:
        return [score(with_fixed(setting)) for setting in settings]

    if specs.keys() & set(LANDSCAPES):
        both = [
            _joined(with_fixed(Separation(f, p)), known, specs, usual)
            for f, p in itertools.product(tuning.FOREGROUND, tuning.PROMINENCE)
        ]
    else:
        both = [Separation(f) for f in tuning.FOREGROUND]
    first = [dataclasses.replace(one, confidence=c) for one in both for c in FIRST_CONFIDENCE]
    [best] = tuning.search(first, scores, np.ones((1, len(scored)))).chosen
    return with_fixed(best)


def _joined(separation: Separation, known: Predicted, specs: Mapping[str, MapSpec], usual: Join | None) -> Separation:
    contacts = joining.examples((m for m, _ in known), (t for _, t in known), specs, separation)
    return dataclasses.replace(separation, join=joining.fit(contacts) or usual)
