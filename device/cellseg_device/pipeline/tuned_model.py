"""A model file with other thresholds than it had: the same graph with a new card."""

from __future__ import annotations

import dataclasses

from cellseg_device import __version__
from cellseg_device.model import card as cards
from cellseg_device.model.card import KnownAnswer
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import selftest
from cellseg_device.pipeline.models import kind_of
from cellseg_device.pipeline.tuning import Tuning


def tuned_model(model: Model, tuning: Tuning, name: str, corrections: str) -> bytes:
    """Return a model's file with the chosen thresholds.

    Parameters
    ----------
    model : Model
    tuning : Tuning
    name : str
        Of the new model.
    corrections : str
        Name of what the thresholds were chosen on, for its card: under ``provenance.tuning``, where the metrics are
        moved that the model had with its own thresholds.

    Raises
    ------
    ModelError
        If the model's file cannot be read any more.
    """
    card = dataclasses.replace(
        model.card,
        name=name,
        separation=tuning.chosen,
        known_answer=None,
        provenance=model.card.provenance | {"tuning": _provenance(model, tuning, corrections)},
        metrics={},
    )
    data = cards.attach(cards.read_model_file(model.path), card)
    answer = _known_answer(model, data)
    return data if answer is None else cards.attach(data, dataclasses.replace(card, known_answer=answer))


def _provenance(model: Model, tuning: Tuning, corrections: str) -> dict[str, object]:
    return {
        "corrections": corrections,
        "images": tuning.images,
        "cells": tuning.cells,
        "scored": "leave-one-out",
        "before": dataclasses.asdict(tuning.before),
        "after": dataclasses.asdict(tuning.after),
        "start": {
            "name": model.card.name,
            "kind": kind_of(model.card),
            "sha256": model.sha256,
            "separation": model.card.to_dict()["separation"],
            "metrics": model.card.metrics,
        },
        "version": __version__,
    }


def _known_answer(model: Model, data: bytes) -> KnownAnswer | None:
    """Return the new model's answer; None where this computer does not give the old one's, and so proves nothing."""
    expected = model.card.known_answer
    if expected is None or not selftest.agree(selftest.answer(model), expected):
        return None
    return selftest.answer(Model(model.path, model.threads, data=data))
