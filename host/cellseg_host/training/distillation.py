"""Distillation: the predictions of trained models on the training images, as targets beside the truth.

A small network learns more from the mean prediction of several models, each of eight orientations of the image, than
from outlines alone: where an outline is uncertain, the prediction says how likely each pixel is. This is distillation
[1]_ with test-time augmentation as in [2]_.

References
----------
.. [1] G. Hinton et al., Distilling the knowledge in a neural network. 2015, arXiv:1503.02531.
.. [2] I. Radosavovic et al., Data distillation: towards omni-supervised learning. CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.special import expit

from cellseg_device.errors import InputError
from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline.predict import predict_maps

Map = npt.NDArray[np.float32]

SHARE = 0.5  # of the teachers in a target; the rest is the truth
_SIDES = 8  # quarter turns, and their mirror images


def load(paths: Iterable[str], heads: Sequence[str]) -> list[Model]:
    """Return the models in these files.

    Raises
    ------
    ModelError
        If one cannot be used.
    InputError
        If one lacks a head.
    """
    models = [Model(Path(path), threads=2) for path in paths]
    for path, model in zip(paths, models, strict=True):
        for head in heads:
            if head not in model.maps:
                raise InputError(f"--teacher {path}: predicts no {head}: choose another teacher, or other --heads")
    return models


def soft_targets(image: Image, teachers: Sequence[Model], heads: Sequence[str]) -> dict[str, Map]:
    """Return the teachers' maps of an image as probabilities, by head.

    Parameters
    ----------
    image : Image
    teachers : sequence of Model
    heads : sequence of str

    Returns
    -------
    dict of str to ndarray of float32, shape (height, width)
        The mean logit over all teachers and orientations, as a probability.
    """
    height, width = image.shape
    stride = int(np.lcm.reduce([t.card.stride for t in teachers]))
    # To whole strides first, so that the image is padded at the same places in all orientations
    below, right = -height % stride, -width % stride
    pixels = cv2.copyMakeBorder(image.pixels, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    total = {head: np.zeros(pixels.shape[:2], np.float32) for head in heads}
    for teacher in teachers:
        for side in range(_SIDES):
            maps = predict_maps(Image(_turned(pixels, side)), teacher)
            for head in heads:
                total[head] += _back(_logits(maps[head], teacher, head), side)
    count = len(teachers) * _SIDES
    return {head: expit(values[:height, :width] / count) for head, values in total.items()}


def _logits(values: npt.NDArray[np.int8], teacher: Model, head: str) -> Map:
    """Return a map as logits, at the resolution of the image."""
    spec = teacher.maps[head]
    real = (values.astype(np.float32) - spec.zero) * np.float32(spec.step)
    if spec.output.scale == "probability":
        real = np.clip(real, 1e-4, 1 - 1e-4)
        real = np.log(real / (1 - real))
    size = spec.reduction
    logits: npt.NDArray[np.float32] = cv2.resize(real, None, fx=size, fy=size, interpolation=cv2.INTER_LINEAR)
    return logits


def _turned(pixels: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    turned = np.rot90(pixels, side % 4)
    return np.ascontiguousarray(turned[:, ::-1] if side >= 4 else turned)


def _back(values: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Undo `_turned`."""
    return np.rot90(values[:, ::-1] if side >= 4 else values, -(side % 4))
