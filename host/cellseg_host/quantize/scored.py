"""Accuracy of a model file on the validation split, as the device computes it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg_device.model import card as cards
from cellseg_device.model.card import KnownAnswer
from cellseg_device.model.graph import Operator, operators
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline.selftest import answer
from cellseg_host.data.dataset import Dataset
from cellseg_host.evaluation.evaluate import ImageScore, Summary, evaluate, summarise
from cellseg_host.evaluation.roc import roc
from cellseg_host.quantize.with_card import open_graph
from cellseg_host.training import presence

SPLIT = "val"


@dataclass(frozen=True)
class Scored:
    """A model file and its accuracy.

    Attributes
    ----------
    data : bytes
    operators : tuple of Operator
    metrics : mapping
        By name: those of a `Summary` for a model that predicts maps; views, accuracy and auc for a classifier.
    scores : tuple of ImageScore
        One per validation image; empty for a classifier.
    known_answer : KnownAnswer or None
        None for a classifier.
    """

    data: bytes
    operators: tuple[Operator, ...]
    metrics: Mapping[str, Any]
    scores: tuple[ImageScore, ...] = ()
    known_answer: KnownAnswer | None = None

    @property
    def tile(self) -> tuple[int, int] | None:
        """(height, width) of a static input; None where it is free."""
        height, width = open_graph(self.data).get_input_details()[0]["shape_signature"][1:3]
        return (int(height), int(width)) if height > 0 else None

    @property
    def summary(self) -> Summary:
        """The summary of the scores."""
        return summarise(self.scores)


def score(data: bytes, dataset: Dataset) -> Scored:
    """Score a model file on the validation split."""
    if cards.read_from(data).output(presence.HEAD):
        with _file(data) as path:
            return Scored(data, operators(open_graph(data)), _presence(path, dataset))
    with open_model(data) as model:
        found = operators(model.interpreter)
        scores = tuple(evaluate(model, dataset, dataset.labelled(SPLIT)))
        return Scored(data, found, dataclasses.asdict(summarise(scores)), scores, answer(model))


@contextmanager
def open_model(data: bytes) -> Iterator[Model]:
    """Open a model file's bytes as the device does."""
    with _file(data) as path:
        yield Model(path, threads=2)


@contextmanager
def _file(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(data)
        yield path


def _presence(path: Path, dataset: Dataset) -> dict[str, Any]:
    scores = presence.score(presence.open_classifier(path), dataset, SPLIT)
    right = (scores.probability >= 0.5) == scores.truth
    return {"views": len(right), "accuracy": float(right.mean()), "auc": roc(scores.truth, scores.probability).auc}
