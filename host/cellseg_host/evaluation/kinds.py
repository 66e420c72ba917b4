"""How well a classifier tells kinds of samples apart, through the code that runs on the device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellseg_device.cells.counting import Counting
from cellseg_device.errors import InputError
from cellseg_device.model.classifier import Classifier
from cellseg_device.model.gate_card import Gate
from cellseg_device.pipeline import gate as gates
from cellseg_host.data.dataset import Dataset, Entry


@dataclass(frozen=True)
class KindScores:
    """What a classifier makes of one image.

    Attributes
    ----------
    id, set : str
    kind : str
        The true one.
    kinds : tuple of str
        Those that the classifier tells apart.
    probabilities : tuple of float
        Of each of these.
    """

    id: str
    set: str
    kind: str
    kinds: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def found(self) -> str:
        """The most likely kind."""
        return self.kinds[int(np.argmax(self.probabilities))]

    @property
    def loss(self) -> float:
        """−log of the true kind's probability."""
        return -math.log(max(self.probabilities[self.kinds.index(self.kind)], 1e-7))

    def row(self) -> dict[str, Any]:
        """Return all of it as a flat row of a table."""
        chances = {f"p_{k}": round(p, 4) for k, p in zip(self.kinds, self.probabilities, strict=True)}
        return {"id": self.id, "set": self.set, "kind": self.kind, "found": self.found} | chances


@dataclass(frozen=True)
class KindSummary:
    """Accuracy on a set of images, of which there is at least one.

    Attributes
    ----------
    images : int
    accuracy : float
        Share of the images whose kind is found.
    balanced_accuracy : float
        Mean of `recall` over the kinds that occur.
    loss : float
        Mean cross-entropy.
    recall : dict of str to float
        By kind that occurs: share of its images that are found to be of it.
    confusion : dict of str to dict of str to int
        Number of images by their kind, then by the kind that is found.
    """

    images: int
    accuracy: float
    balanced_accuracy: float
    loss: float
    recall: dict[str, float]
    confusion: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Handling:
    """What follows from the kinds that are found; see `handling`.

    Attributes
    ----------
    images : int
    other_model : int
        Segmented with another model than images of their kind are.
    unflagged, flagged : int
        Images that ought to be flagged and are not; that ought not to be and are.
    emptied : int
        Counted as empty though images of their kind are not.
    """

    images: int
    other_model: int
    unflagged: int
    flagged: int
    emptied: int


def evaluate(gate: Classifier, dataset: Dataset, entries: Iterable[Entry]) -> Iterator[KindScores]:
    """Yield what a classifier of kinds makes of each image, one after the other.

    Raises
    ------
    InputError
        If an image is of a kind that the classifier does not know.
    """
    kinds = tuple(found.name for found in gates.of(gate).classes)
    for entry in entries:
        if entry.kind not in kinds:
            raise InputError(
                f"{dataset.root}: {entry.id} is of the kind '{entry.kind}', but the model tells {', '.join(kinds)} "
                "apart: correct the column 'kind' of manifest.csv"
            )
        (view,) = gates.seen(Counting().applied(dataset.image(entry)), gate)
        yield KindScores(entry.id, entry.set, entry.kind, kinds, tuple(map(float, gate.probabilities(view))))


def summarise(scores: Sequence[KindScores]) -> KindSummary:
    """Return the summary of `scores`, of which there is at least one."""
    kinds = scores[0].kinds
    confusion = {true: dict.fromkeys(kinds, 0) for true in kinds}
    for score in scores:
        confusion[score.kind][score.found] += 1
    totals = {kind: sum(row.values()) for kind, row in confusion.items()}
    recall = {kind: confusion[kind][kind] / total for kind, total in totals.items() if total}
    return KindSummary(
        images=len(scores),
        accuracy=float(np.mean([s.found == s.kind for s in scores])),
        balanced_accuracy=float(np.mean(list(recall.values()))),
        loss=float(np.mean([s.loss for s in scores])),
        recall=recall,
        confusion=confusion,
    )


def by_set(scores: Sequence[KindScores]) -> dict[tuple[str, str], dict[str, int]]:
    """Return how many images of each (kind, set) are found to be of each kind."""
    groups: dict[tuple[str, str], dict[str, int]] = {}
    for score in sorted(scores, key=lambda s: (s.kind, s.set)):
        group = groups.setdefault((score.kind, score.set), dict.fromkeys(score.kinds, 0))
        group[score.found] += 1
    return groups


def handling(scores: Sequence[KindScores], gate: Gate) -> Handling:
    """Return how many images are handled otherwise than the gate does with images of their kind."""
    classes = {c.name: c for c in gate.classes}
    pairs = [(classes[s.kind], gates.verdict_of(s.probabilities, gate)) for s in scores]
    return Handling(
        images=len(pairs),
        other_model=sum(
            true.follows == "segment" and got.found.is_segmented and true.model != got.found.model
            for true, got in pairs
        ),
        unflagged=sum(true.follows == "flag" and not got.is_flagged for true, got in pairs),
        flagged=sum(got.is_flagged and true.follows != "flag" for true, got in pairs),
        emptied=sum(got.found.follows == "empty" != true.follows for true, got in pairs),
    )
