"""The look of a view: stain, colour, exposure, focus and noise."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_host.augment import stain
from cellseg_host.augment.settings import Augmentation

_TINT_MIXED = 0.7  # probability that each further channel is part of a tint


def draw(
    levels: npt.NDArray[np.uint8], augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return the view with a random look.

    Parameters
    ----------
    levels : ndarray of uint8, shape (side, side) or (side, side, 3)
    augmentation : Augmentation
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (side, side, 3)
        In [0, 1].
    """
    image: npt.NDArray[Any]
    if levels.ndim == 3 and augmentation.stain:
        image = stain.draw(levels, augmentation.stain, rng)
    else:
        image = levels.astype(np.float32) / 255
    if image.ndim == 3:
        if rng.random() < augmentation.grey:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        elif augmentation.colour or augmentation.saturation or augmentation.hue:
            image = cv2.transform(image, _colour_matrix(augmentation, rng))
    elif augmentation.tint and rng.random() < augmentation.tint:
        image = image[..., None] * _tint(rng)
    if rng.random() < augmentation.invert:
        image = 1 - image
    if augmentation.blur_px and rng.random() < augmentation.probability:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, max(augmentation.blur_px, 0.31)))
    gamma = math.exp(rng.uniform(math.log(augmentation.gamma[0]), math.log(augmentation.gamma[1])))
    image = np.clip(image, 0, 1) ** gamma
    mean = image.mean()
    image = (image - mean) * rng.uniform(*augmentation.contrast) + mean
    image += rng.uniform(-1, 1) * augmentation.brightness
    if augmentation.noise and rng.random() < augmentation.probability:
        image += rng.standard_normal(image.shape, np.float32) * rng.uniform(0, augmentation.noise)
    image = np.clip(image, 0, 1)
    colour: npt.NDArray[np.float32] = image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return colour


def _tint(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return a random bright colour, (red, green, blue): one channel at 1, each other one at 0 or anything up to 1."""
    colour = rng.uniform(0, 1, 3) * (rng.random(3) < _TINT_MIXED)
    colour[rng.integers(3)] = 1
    return colour.astype(np.float32)


def _colour_matrix(augmentation: Augmentation, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return saturation, hue rotation and a gain per channel as one 3 × 3 matrix on (red, green, blue).

    Saturation and hue do not change grey: one scales the colours around the grey axis, the other rotates them about it
    (Rodrigues' formula).
    """
    saturation = 1 + rng.uniform(-1, 1) * augmentation.saturation
    gains = 1 + rng.uniform(-1, 1, 3) * augmentation.colour
    angle = rng.uniform(-1, 1) * augmentation.hue * 2 * math.pi
    one, mean = np.eye(3), np.full((3, 3), 1 / 3)
    turn = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turn = math.cos(angle) * one + (1 - math.cos(angle)) * mean + math.sin(angle) * turn
    matrix = np.diag(gains) @ turn @ (saturation * one + (1 - saturation) * mean)
    return matrix.astype(np.float32)
