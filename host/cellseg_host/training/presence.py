"""Classifiers that predict whether an image shows a cell: their views of a dataset, predictions and accuracy.

Scored are not whole fields, nearly all of which show a cell, but squares of the side that the classifier was trained
at: each image is cut into as many as fit beside each other, around its middle. A square shows a cell if any of its
pixels belongs to one, as in training. An image smaller than the square is extended by its mirror image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter
from scipy.special import expit

from cellseg_device.errors import InputError, ModelError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card
from cellseg_device.model.faults import as_model_faults, first_line
from cellseg_device.stderr import quiet_stderr
from cellseg_host import architectures
from cellseg_host.augment import Sample
from cellseg_host.data.dataset import Dataset
from cellseg_host.evaluation.roc import Probability, Truth, roc
from cellseg_host.training import keras_maps, runs
from cellseg_host.training.settings import TrainSettings

HEAD = "presence"

Levels = npt.NDArray[np.uint8]

_BATCH = 16


@dataclass(frozen=True)
class Classifier:
    """A classifier ready to predict.

    Attributes
    ----------
    name : str
    card : Card
        Says how images are normalised, and where the classifier came from.
    predict : callable
        From levels, uint8 (n, side, side, 3), to probabilities that a cell is in each, float64 (n,).
    """

    name: str
    card: Card
    predict: Callable[[Levels], Probability]

    @property
    def side(self) -> int:
        """Side in pixels of the views that it was trained on."""
        settings = self.card.provenance.get("settings")
        side = settings.get("side") if isinstance(settings, dict) else None
        return side if isinstance(side, int) and side > 0 else TrainSettings.side


@dataclass(frozen=True)
class PresenceScores:
    """A classifier's predictions for every view.

    Attributes
    ----------
    id : tuple of str
        ``IMAGE:ROW,COLUMN`` of each view's first pixel; negative where the image is smaller than the view.
    image : tuple of str
        The image that each view is of: views of one image are not independent of each other.
    truth : ndarray of bool, shape (n,)
    probability : ndarray of float64, shape (n,)
    """

    id: tuple[str, ...]
    image: tuple[str, ...]
    truth: Truth
    probability: Probability


def open_classifier(path: Path) -> Classifier:
    """Open a training run or a .tflite model that classifies images.

    Raises
    ------
    InputError
        If it predicts maps instead, or is not a run.
    ModelError
        If the model file cannot be run.
    """
    if path.suffix == ".tflite":
        return _from_model(path)
    run = runs.open_run(path)
    if run.heads != (HEAD,):
        raise InputError(f"{path}: {run.architecture.name} predicts maps: only a classifier has a ROC curve")
    network = run.network
    return Classifier(run.path.name, run.card(), lambda levels: _predict(network, levels))


def score(classifier: Classifier, dataset: Dataset, split: str, side: int | None = None) -> PresenceScores:
    """Return a classifier's predictions for all views of a split.

    Parameters
    ----------
    classifier : Classifier
    dataset : Dataset
    split : str
    side : int or None
        Of a view in pixels; None for the one that the classifier was trained at.

    Raises
    ------
    InputError
        If the split has no image, or the classifier takes views of another side only.
    """
    ids, images, truths, probabilities = [], [], [], []
    for entry in dataset.labelled(split):
        levels = keras_maps.levels(dataset.image(entry), classifier.card)
        places, views, truth = _views(levels, dataset.labels(entry), side or classifier.side)
        ids += [f"{entry.id}:{row},{column}" for row, column in places]
        images += [entry.id] * len(places)
        truths.append(truth)
        probabilities.append(classifier.predict(views))
    return PresenceScores(tuple(ids), tuple(images), np.concatenate(truths), np.concatenate(probabilities))


def validation(network: keras.Model, samples: Sequence[Sample], side: int) -> dict[str, float]:
    """Return the scores of a network in training: ``val_loss`` (cross-entropy), ``auc``, and ``accuracy`` at one half.

    Parameters
    ----------
    network : keras.Model
    samples : sequence of Sample
    side : int
        Of a view in pixels.

    Returns
    -------
    dict of str to float
        `auc` is NaN where all views show a cell, or none does.
    """
    truths, probabilities = [], []
    for sample in samples:
        _, views, truth = _views(sample.levels, sample.labels, side)
        truths.append(truth)
        probabilities.append(_predict(network, views))
    truth, probability = np.concatenate(truths), np.concatenate(probabilities)
    auc = roc(truth, probability).auc
    right = np.clip(np.where(truth, probability, 1 - probability), 1e-7, 1)
    return {
        "val_loss": float(-np.log(right).mean()),
        "auc": math.nan if auc is None else auc,
        "accuracy": float(((probability >= 0.5) == truth).mean()),
    }


def auc_interval(scores: PresenceScores, resamples: int = 1000, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % interval of the AUC, by the bootstrap over images, since views of one image are alike.

    None where the AUC is undefined; resamples without one are left out.
    """
    rng = np.random.default_rng(seed)
    names, image = np.unique(scores.image, return_inverse=True)
    members = [np.flatnonzero(image == number) for number in range(len(names))]
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([members[i] for i in rng.integers(len(names), size=len(names))])
        found.append(roc(scores.truth[drawn], scores.probability[drawn]).auc)
    defined = [auc for auc in found if auc is not None]
    if not defined:
        return None
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def _views(levels: Levels, labels: npt.NDArray[np.uint16], side: int) -> tuple[list[tuple[int, int]], Levels, Truth]:
    """Return the squares of an image: their first pixels, levels (n, side, side, 3), and whether a cell is in each."""
    height, width = labels.shape
    below, right = max(side - height, 0), max(side - width, 0)
    margins = (below // 2, below - below // 2, right // 2, right - right // 2)
    levels, labels = (cv2.copyMakeBorder(a, *margins, cv2.BORDER_REFLECT_101) for a in (levels, labels))
    if levels.ndim == 2:
        levels = np.repeat(levels[..., None], 3, axis=2)
    places = [(r, c) for r in _starts(labels.shape[0], side) for c in _starts(labels.shape[1], side)]
    squares = [np.s_[r : r + side, c : c + side] for r, c in places]
    truth = np.array([labels[s].any() for s in squares])
    return [(r - margins[0], c - margins[2]) for r, c in places], np.stack([levels[s] for s in squares]), truth


def _starts(length: int, side: int) -> Iterator[int]:
    """Yield the starts of as many stretches of `side` as fit into `length`, the rest shared by both ends."""
    first = length % side // 2
    yield from range(first, length - side + 1, side)


def _predict(network: keras.Model, levels: Levels) -> Probability:
    scale = architectures.outputs_of(network, (HEAD,))[0].scale
    parts = []
    for start in range(0, len(levels), _BATCH):
        images = levels[start : start + _BATCH].astype(np.float32) / 255
        parts.append(architectures.as_list(network(images, training=False))[0].numpy().reshape(-1))
    return _probability(np.concatenate(parts), scale)


def _probability(values: npt.NDArray[Any], scale: str) -> Probability:
    values = values.astype(np.float64)
    return np.asarray(expit(values) if scale == "logit" else values, np.float64)


def _from_model(path: Path) -> Classifier:
    data = cards.read_model_file(path)
    with as_model_faults(path):
        card = cards.read_from(data)
        output = card.output(HEAD)
        if output is None:
            raise InputError(f"{path}: predicts maps: only a classifier has a ROC curve")
        try:
            with quiet_stderr():
                interpreter = Interpreter(model_content=cards.strip(data))
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the runtime refuses the graph: {first_line(error)}") from None
        entry, answers = interpreter.get_input_details()[0], interpreter.get_output_details()
        if output.index >= len(answers):
            raise ModelError(f"the card names output {output.index}, but the graph has {len(answers)}")
        answer = answers[output.index]

    def predict(levels: Levels) -> Probability:
        shape = (1, *levels.shape[1:])
        if -1 not in entry["shape_signature"] and tuple(entry["shape"]) != shape:
            raise InputError(
                f"{path}: takes views of {entry['shape'][1]}×{entry['shape'][2]}, not {shape[1]}×{shape[2]}"
            )
        interpreter.resize_tensor_input(entry["index"], shape)
        with quiet_stderr():  # it prints the name of its delegate
            interpreter.allocate_tensors()
        values = []
        for view in levels:
            tensor = (view ^ 0x80).view(np.int8) if entry["dtype"] is np.int8 else view.astype(np.float32) / 255
            interpreter.set_tensor(entry["index"], tensor[None])
            interpreter.invoke()
            value = interpreter.get_tensor(answer["index"]).reshape(-1)[0]
            step, zero = answer["quantization"] if answer["dtype"] is np.int8 else (1.0, 0)
            values.append((float(value) - zero) * step)
        return _probability(np.array(values), output.scale)

    return Classifier(path.stem, card, predict)
