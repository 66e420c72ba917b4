"""Classifiers that tell kinds of samples apart: their views of a dataset, and accuracy on whole fields.

The device makes a field small and shows it as a whole (`cellseg_device.pipeline.gate`); so does validation. In training
a view is a random part of a field that was made small, mostly even smaller than on the device, since the cells of
other laboratories' fields are of other sizes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tf_keras as keras
from scipy.special import softmax

from cellseg_device.errors import InputError
from cellseg_device.model.card import Card
from cellseg_device.pipeline import gate as gates
from cellseg_device.pipeline import predict
from cellseg_host.augment import Augmentation, Sample, random_view
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.evaluation.kinds import KindScores, summarise
from cellseg_host.training import feed, sampling
from cellseg_host.training.settings import TrainSettings

HEAD = "kind"

Levels = npt.NDArray[np.uint8]

_PART = 2 / 3  # side of a view, as a share of the side that the device makes a field small to
_SMALLEST = 0.45  # … to which it is made small at least
_SURE = 0.95  # probability that a target gives to its own kind; the others share the rest


def named(dataset: Dataset) -> tuple[str, ...]:
    """Return the kinds of the training images, sorted: the classes, in the order of the network's output.

    Raises
    ------
    InputError
        If there are not two of them, or another split has a further one.
    """
    kinds = tuple(sorted({e.kind for e in dataset.split("train")}))
    if len(kinds) < 2:
        raise InputError(
            f"{dataset.root}: all training images are of the kind '{kinds[0]}': a classifier needs two kinds at least; "
            "import more with 'cellseg-host data import --kind SET=NAME'"
        )
    if further := {e.kind for e in dataset.entries} - set(kinds):
        raise InputError(
            f"{dataset.root}: no training image is of the kind '{min(further)}', which others are: put some of them "
            "into the split 'train' in manifest.csv"
        )
    return kinds


def with_classes(settings: TrainSettings, dataset: Dataset) -> TrainSettings:
    """Return the settings with the number of kinds that the dataset has as option of the network."""
    return dataclasses.replace(settings, options={**settings.options, "classes": len(named(dataset))})


def load_samples(dataset: Dataset, entries: Sequence[Entry], card: Card, side: int) -> list[Sample]:
    """Read images, normalise them as the device does, and make them small to `side`; none has labels."""
    small = [gates.made_small(predict.levels(dataset.image(entry), card), side) for entry in entries]
    return [Sample(levels, np.zeros(levels.shape[:2], np.uint16)) for levels in small]


def batches(dataset: Dataset, card: Card, settings: TrainSettings) -> Callable[[int], tf.data.Dataset]:
    """Return the function from an epoch's number, from 0, to its batches; see `views`."""
    entries, kinds = dataset.split("train"), named(dataset)
    samples = load_samples(dataset, entries, card, settings.side)
    classes, weights = np.array([kinds.index(e.kind) for e in entries]), sampling.balanced_weights(entries)

    def of_epoch(epoch: int) -> tf.data.Dataset:
        return views(
            samples,
            classes,
            weights,
            settings.augmentation,
            side=settings.side,
            batch=settings.batch,
            count=settings.steps,
            seed=(settings.seed, epoch),
        )

    return of_epoch


def views(
    samples: Sequence[Sample],
    classes: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64],
    augmentation: Augmentation,
    *,
    side: int,
    batch: int,
    count: int,
    seed: tuple[int, int],
) -> tf.data.Dataset:
    """Return batches of random views with the kinds that they are of.

    Parameters
    ----------
    samples : sequence of Sample
    classes : ndarray of int, shape (len(samples),)
        Number of each one's kind.
    weights : ndarray, shape (len(samples),)
        Probability of each.
    augmentation : Augmentation
    side, batch, count, seed
        As for `feed.views`; a view's side is `_PART` of `side`, rounded to a multiple of 32.

    Returns
    -------
    tf.data.Dataset
        As of `feed.views`: the target of the head "kind" is (batch, 1, 1, number of kinds), and no pixel is at a
        border, (batch, 1, 1, 1).
    """
    order = np.random.default_rng(seed).choice(len(samples), size=batch * count, p=weights)
    kinds = int(classes.max()) + 1
    shown = max(round(_PART * side / 32), 1) * 32

    def view(number: np.int64) -> list[np.ndarray]:
        rng = np.random.default_rng((*seed, int(number)))
        index = order[number]
        small = gates.made_small(samples[index].levels, round(side * _SMALLEST ** rng.random()))
        sample = Sample(small, np.zeros(small.shape[:2], np.uint16))
        image = random_view(sample, shown, augmentation, rng)[0]
        target = np.full((1, 1, kinds), (1 - _SURE) / (kinds - 1), np.float32)
        target[..., classes[index]] = _SURE
        return [image, target, np.zeros((1, 1, 1), np.float32)]

    shapes = {HEAD: (1, 1, kinds)}
    return feed.stream(view, (shown, shown, 3), shapes, (1, 1, 1), batch=batch, count=count)


class Validation:
    """Scores of a network on whole fields: ``val_loss``, ``balanced_accuracy``, ``accuracy``, and each kind's recall.

    Parameters
    ----------
    network : keras.Model
    dataset : Dataset
    card : Card
        With the gate, whose kinds the network tells apart.
    """

    def __init__(self, network: keras.Model, dataset: Dataset, card: Card) -> None:
        if card.gate is None:
            raise ValueError("the card has no gate")
        self.network = network
        self.entries = dataset.split("val")
        self.kinds = tuple(found.name for found in card.gate.classes)
        self.shown = [
            next(gates.views(predict.levels(dataset.image(e), card), card.gate, card.stride)) for e in self.entries
        ]

    def __call__(self) -> dict[str, float]:
        """Return the scores of the network as it is."""
        logits = [self.network(as_input(levels), training=False).numpy().reshape(-1) for levels in self.shown]
        probabilities = softmax(np.array(logits, np.float64), axis=1)
        scores = [
            KindScores(e.id, e.set, e.kind, self.kinds, tuple(map(float, p)))
            for e, p in zip(self.entries, probabilities, strict=True)
        ]
        found = summarise(scores)
        return {
            "val_loss": found.loss,
            "balanced_accuracy": found.balanced_accuracy,
            "accuracy": found.accuracy,
            **{f"recall_{kind}": recall for kind, recall in found.recall.items()},
        }


def as_input(levels: Levels) -> npt.NDArray[np.float32]:
    """Return levels as a network's input: (1, height, width, 3) in [0, 1]."""
    image = levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2)
    return np.asarray(image[None], np.float32) / np.float32(255)
