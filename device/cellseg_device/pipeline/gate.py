"""What a gate makes of an image before it is segmented: the views of it that the classifier sees, and its class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ModelError
from cellseg_device.image.pixels import Image
from cellseg_device.model import card as cards
from cellseg_device.model.classifier import Classifier
from cellseg_device.model.faults import as_model_faults
from cellseg_device.model.gate_card import Gate, GateClass
from cellseg_device.pipeline import predict

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Verdict:
    """Of which class a gate takes an image to be.

    Attributes
    ----------
    found : GateClass
    probability : float
        By the classifier; rounded, so that the text of it is the same on every machine.
    is_sure : bool
        Whether that is as much as the gate wants.
    """

    found: GateClass
    probability: float
    is_sure: bool = True

    @property
    def is_flagged(self) -> bool:
        """Whether the image is unlike what the models are made for: by its class, or since it is like none."""
        return self.found.follows == "flag" or (self.found.is_segmented and not self.is_sure)

    @property
    def flag(self) -> str:
        """What the class is a reason to say of the count, in words; empty if nothing."""
        if not self.found.is_segmented:
            return f"no cells looked for: looks like {self.found.looks_like}"
        if not self.is_flagged:
            return ""
        looks = "looks like" if self.found.follows == "flag" else "looks only a little like"
        return f"unlike what the models are made for: {looks} {self.found.looks_like}"


def open_gate(path: Path, threads: int = 1) -> Classifier:
    """Open a classifier as a gate.

    Parameters
    ----------
    path : Path
    threads : int
        Threads of the network; one that sees the field made small has one, since it would wait for the others.

    Raises
    ------
    ModelError
        If it is not a classifier, its card does not say what follows, or it cannot be run here.
    """
    gate = cards.of_file(path).gate
    classifier = Classifier(path, 1 if gate is not None and gate.sees == "field" else threads)
    of(classifier)
    return classifier


def of(classifier: Classifier) -> Gate:
    """Return what the card of a classifier says of it as a gate; raises ModelError if that is nothing."""
    if classifier.card.gate is None:
        raise ModelError(
            f"{classifier.path} does not say what follows for an image of each class, so it is no gate: quantize it "
            "again with 'cellseg-host quantize'"
        )
    return classifier.card.gate


def classify(image: Image, classifier: Classifier) -> Verdict:
    """Return the class of an image.

    The image is shown as it is to the segmentation: `Image.searched`, in levels. Of squares, the one that most likely
    shows a cell decides.

    Raises
    ------
    ModelError
        If the classifier is no gate, or the runtime fails.
    """
    with as_model_faults(classifier.path):
        answers = (classifier.probabilities(view) for view in seen(image, classifier))
        probabilities = max(answers, key=lambda answer: float(answer[-1]))
    return verdict_of(probabilities, of(classifier))


def verdict_of(probabilities: npt.ArrayLike, gate: Gate) -> Verdict:
    """Return the most likely class, given the probability of each in the order of the gate's classes."""
    chances = np.asarray(probabilities)
    number = int(chances.argmax())
    probability = round(float(chances[number]), 4)
    return Verdict(gate.classes[number], probability, is_sure=probability >= gate.sure_from)


def seen(image: Image, classifier: Classifier) -> Iterator[Levels]:
    """Yield the views of an image that a gate is shown, as `views` does."""
    return views(predict.levels(image, classifier.card), of(classifier), classifier.card.stride)


def views(levels: Levels, gate: Gate, stride: int) -> Iterator[Levels]:
    """Yield the views of an image that a gate sees, with sides that are multiples of the network's stride.

    Parameters
    ----------
    levels : ndarray of uint8, shape (height, width) or (height, width, 3)
        Of the whole image, as from `predict.levels`.
    gate : Gate
    stride : int
        Of the network.
    """
    if gate.sees == "field":
        yield _mirrored(made_small(levels, gate.side_px), stride)
        return
    side = gate.side_px
    for row in _starts(levels.shape[0], side):
        for col in _starts(levels.shape[1], side):
            yield _mirrored(levels[row : row + side, col : col + side], stride, side)


def made_small(levels: Levels, side_px: int) -> Levels:
    """Return levels made small until their longer side is at most `side_px`; they are never enlarged.

    First by a whole number of times, which takes a third of the time; the rest of a division, a few rows and columns at
    the end, is left out.
    """
    height, width = levels.shape[:2]
    times = max(height, width) // side_px
    if times > 1:
        rows, cols = (max(length // times, 1) for length in (height, width))
        levels = _resized(levels[: rows * times, : cols * times], (rows, cols))
    height, width = levels.shape[:2]
    longer = max(height, width)
    if longer <= side_px:
        return levels
    return _resized(levels, (max(round(height * side_px / longer), 1), max(round(width * side_px / longer), 1)))


def _resized(levels: Levels, shape: tuple[int, int]) -> Levels:
    return np.asarray(cv2.resize(levels, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _mirrored(levels: Levels, multiple: int, least_px: int = 0) -> Levels:
    """Return levels continued below and on the right by their mirror image: to `least_px`, and to whole multiples."""
    height, width = (-(-max(length, least_px) // multiple) * multiple for length in levels.shape[:2])
    below, right = height - levels.shape[0], width - levels.shape[1]
    if not below and not right:
        return levels
    return np.asarray(cv2.copyMakeBorder(levels, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8)


def _starts(length: int, side: int) -> list[int]:
    """Return the starts of the fewest stretches of `side` that cover `length`, evenly spread."""
    number = -(-length // side)
    return [(length - side) * index // max(number - 1, 1) for index in range(number)] if number > 1 else [0]
