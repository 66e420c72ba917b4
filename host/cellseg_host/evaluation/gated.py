"""Accuracy of a model behind a gate, as the device has them count together: images without cells count as well."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_device.cells.counting import Counting
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import gate as gates
from cellseg_device.pipeline.models import LaterModel, Models, named_models
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation.evaluate import ImageScore, score_image, score_labels
from cellseg_host.evaluation.roc import Confusion, Proportion


@dataclass(frozen=True)
class GatedScore:
    """Accuracy of one image, and what the gate takes it for.

    Attributes
    ----------
    score : ImageScore
    class_name : str
    class_probability : float
    counted_by : str
        Name of the model; of the gate for an image in which no cells were looked for.
    """

    score: ImageScore
    class_name: str
    class_probability: float
    counted_by: str

    def row(self) -> dict[str, Any]:
        """Return all of it as one flat row of a table."""
        own = {"class": self.class_name, "class_probability": self.class_probability, "counted_by": self.counted_by}
        return self.score.row() | own


@dataclass(frozen=True)
class ClassSummary:
    """What becomes of the images of one class.

    Attributes
    ----------
    images : int
    with_cells : int
        Of these, by the truth.
    counted_by : str
        Names of the models, or of the gate.
    cells_true, cells_counted : int
    """

    images: int
    with_cells: int
    counted_by: str
    cells_true: int
    cells_counted: int


def open_models(model: Path, gate: Path, threads: int) -> Models:
    """Open a gate with `model` as the default one; those that the gate names lie beside it, or are bundled.

    Raises
    ------
    ModelError
        If a file is missing, or is not what it is taken for.
    """
    opened = gates.open_gate(gate, threads)
    named = {
        name: LaterModel(path, threads, "cpu", lambda _line: None)
        for name, path in named_models(opened.card, gate).items()
    }
    return Models(Model(model, threads), opened, named)


def evaluate(models: Models, dataset: Dataset, entries: Iterable[Entry]) -> Iterator[GatedScore]:
    """Yield the score of each image, one after the other."""
    for entry in entries:
        image, true = dataset.image(entry), dataset.labels(entry)
        choice = models.choose(Counting().applied(image))
        assert choice.verdict is not None, "there is a gate"
        if choice.is_segmented:
            score = choice.model.attempt(lambda loaded: score_image(loaded, entry, image, true).score)  # noqa: B023
        else:
            nothing = np.zeros_like(true)
            score = score_labels(entry, true, nothing, nothing > 0)
        verdict = choice.verdict
        yield GatedScore(score, verdict.found.name, verdict.probability, choice.counter.card.name)


def presence(scores: Sequence[GatedScore]) -> Confusion:
    """Return how often an image in which cells are counted shows some, and so on; its threshold is one cell."""
    pairs = Counter((s.score.cells_true > 0, s.score.cells_counted > 0) for s in scores)
    return Confusion(1.0, pairs[True, True], pairs[False, True], pairs[False, False], pairs[True, False])


def by_class(scores: Sequence[GatedScore], names: Sequence[str]) -> dict[str, ClassSummary]:
    """Return the summary of each class, in the order of `names`."""
    return {name: _summary([s for s in scores if s.class_name == name]) for name in names}


def _summary(scores: Sequence[GatedScore]) -> ClassSummary:
    return ClassSummary(
        images=len(scores),
        with_cells=sum(s.score.cells_true > 0 for s in scores),
        counted_by=", ".join(sorted({s.counted_by for s in scores})),
        cells_true=sum(s.score.cells_true for s in scores),
        cells_counted=sum(s.score.cells_counted for s in scores),
    )


def shares(found: Confusion) -> dict[str, Any]:
    """Return sensitivity, specificity, PPV and NPV, and the numbers that they are of; a share of nothing is None."""
    names = ("sensitivity", "specificity", "ppv", "npv")
    numbers = {key: value for key, value in dataclasses.asdict(found).items() if key != "threshold"}
    return {name: getattr(found, name).value for name in names} | numbers


def share_text(share: Proportion) -> str:
    """Return a share with the numbers it is of, for a table."""
    return "–" if share.value is None else f"{share.value:.3f} ({share.hits} of {share.of})"
