"""Images that a model is shown again while it adapts, so that it does not forget what it knew.

They are fields drawn by `synth` of those kinds on which the start model finds cells, and images of a data set of the
user's. A part of them is held back, to measure what is forgotten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import labels_of, predicted
from cellseg_host.synth import empties
from cellseg_host.synth.field import make_field
from cellseg_host.synth.settings import SynthSettings
from cellseg_host.synth.write import SET
from cellseg_host.training.sampling import sampling_weights

SIDE_PX = 320
_KNOWN_AP50 = 0.5  # a kind on which the start model does worse than this is not what it is for
_TRIED = 3  # fields of each kind, to know
_MOST_IMAGES = 60  # of a data set; more take their time to read and add little in so few steps
_MOST_HELD = 12
_OTHER = 1 << 20  # in a seed: fields that are not among those of `synthetic`


@dataclass(frozen=True)
class Numbers:
    """Of each kind of field: how many to train on, and how many to hold back."""

    train: int
    held: int


# Two thirds fluorescence and histology; empty fields, of ten kinds in turn
KINDS = {"fluorescence": Numbers(16, 6), "histology": Numbers(10, 4), "empty": Numbers(10, 5)}


@dataclass(frozen=True)
class Picture:
    """An image with its true cells, on its way into the working data set.

    Attributes
    ----------
    id, set, modality : str
    split : str
        ``"train"``, or ``"test"`` if it is held back.
    image : Image
    labels : ndarray of uint16
    """

    id: str
    set: str
    modality: str
    split: str
    image: Image
    labels: npt.NDArray[np.uint16]


def known_kinds(model: Model, seed: int) -> tuple[str, ...]:
    """Return the kinds of synthetic fields on which a model finds cells, or finds that there are none."""
    return tuple(
        kind
        for kind in KINDS
        if np.mean([_ap50(model, *_draw(kind, (seed, _OTHER, number), number)) for number in range(_TRIED)])
        >= _KNOWN_AP50
    )


def fields(kinds: Iterable[str]) -> int:
    """Return the number of fields that `synthetic` makes."""
    return sum(KINDS[kind].train + KINDS[kind].held for kind in kinds)


def synthetic(kinds: Iterable[str], seed: int) -> Iterator[Picture]:
    """Yield synthetic fields of these kinds, those to train on first."""
    for kind in kinds:
        numbers = KINDS[kind]
        for number in range(numbers.train + numbers.held):
            pixels, labels = _draw(kind, (seed, number), number)
            modality = "fluorescence" if pixels.ndim == 2 else "histology"
            split = "train" if number < numbers.train else "test"
            yield Picture(f"{kind}-{number:02d}", SET, modality, split, Image(pixels), labels)


def chosen(dataset: Dataset, seed: int) -> tuple[Entry, ...]:
    """Return images of a data set to train on, of each set and modality some, and images to hold back, split "test".

    Those held back are of its val split, or, where it has none, of the train split.

    Raises
    ------
    InputError
        If no image in its train split has labels.
    """
    rng = np.random.default_rng(seed)
    entries = dataset.labelled("train")
    others = tuple(e for e in dataset.entries if e.split == "val" and e.is_labelled)
    if not others and len(entries) > 1:
        held_places = set(rng.permutation(len(entries))[: max(1, min(_MOST_HELD, len(entries) // 4))].tolist())
        others = tuple(e for place, e in enumerate(entries) if place in held_places)
        entries = tuple(e for place, e in enumerate(entries) if place not in held_places)
    train, held = _some(entries, _MOST_IMAGES, rng), _some(others, _MOST_HELD, rng)
    return (
        *(dataclasses.replace(entry, split="train") for entry in train),
        *(dataclasses.replace(entry, split="test") for entry in held),
    )


def _some(entries: tuple[Entry, ...], most: int, rng: np.random.Generator) -> tuple[Entry, ...]:
    if len(entries) <= most:
        return entries
    places = rng.choice(len(entries), size=most, replace=False, p=sampling_weights(entries))
    return tuple(entries[place] for place in sorted(places))


def _draw(kind: str, seed: tuple[int, ...], number: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint16]]:
    if kind == "empty":
        shape = (SIDE_PX, SIDE_PX)
        return empties.make_empty(list(empties.KINDS)[number % len(empties.KINDS)], shape, seed), np.zeros(
            shape, np.uint16
        )
    return make_field(SynthSettings(kind, SIDE_PX, SIDE_PX), seed)


def _ap50(model: Model, pixels: npt.NDArray[Any], labels: npt.NDArray[np.uint16]) -> float:
    return float(metrics.average_precision(labels, labels_of(predicted(model, Image(pixels))))[0])
