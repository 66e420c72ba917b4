"""Random views of the training images: what a microscope, a stain or a camera may change and a count may not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; (1, 1) or 0 turns one off.

    Attributes
    ----------
    scale : tuple of float
        Magnification, drawn log-uniformly.
    stretch : float
        Largest difference in magnification between the axes, as a share.
    rotate : bool
        Any angle, and mirror images.
    contrast, gamma : tuple of float
        Factor around the mean level; exponent on levels in 0…1.
    brightness : float
        Largest shift, as a share of the range.
    colour : float
        Largest change of a channel's gain, and of saturation, as a share; colour images only.
    blur_px : float
        Largest standard deviation of a Gaussian blur; applied to a third of the views.
    noise : float
        Largest standard deviation of Gaussian noise, as a share of the range; applied to a third of the views.
    invert : float
        Probability that a grey view is inverted.
    grey : float
        Probability that a colour view loses its colour.
    """

    scale: tuple[float, float] = (0.6, 1.8)
    stretch: float = 0.15
    rotate: bool = True
    contrast: tuple[float, float] = (0.6, 1.3)
    gamma: tuple[float, float] = (0.6, 1.6)
    brightness: float = 0.1
    colour: float = 0.12
    blur_px: float = 1.5
    noise: float = 0.06
    invert: float = 0.03
    grey: float = 0.1


NONE = Augmentation((1, 1), 0, False, (1, 1), (1, 1), 0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Sample:
    """One training image with its targets, all of one (height, width).

    Attributes
    ----------
    levels : ndarray of uint8, (height, width) or (height, width, 3)
        The image after the device's own normalisation.
    labels : ndarray of uint16
    distance : ndarray of float32
        `targets.distance` of the labels; scaling does not change its values.
    """

    levels: Levels
    labels: npt.NDArray[np.uint16]
    distance: npt.NDArray[np.float32]


def random_view(
    sample: Sample, side: int, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Draw a random square view of a sample.

    Parameters
    ----------
    sample : Sample
    side : int
        Side of the view in pixels.
    augmentation : Augmentation
    rng : numpy.random.Generator

    Returns
    -------
    image : ndarray of float32, shape (side, side, 3)
        In [0, 1].
    labels : ndarray of uint16, shape (side, side)
    distance : ndarray of float32, shape (side, side)
    """
    matrix = _random_affine(sample.labels.shape, side, augmentation, rng)
    size = (side, side)
    border = cv2.BORDER_REFLECT_101
    levels = cv2.warpAffine(sample.levels, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    labels = cv2.warpAffine(sample.labels, matrix, size, flags=cv2.INTER_NEAREST, borderMode=border)
    distance = cv2.warpAffine(sample.distance, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    return _random_light(levels, augmentation, rng), labels, distance * (labels > 0)


def _random_affine(
    shape: tuple[int, ...], side: int, augmentation: Augmentation, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Matrix from image to view: scale, stretch, rotation, mirror, and a random place."""
    low, high = augmentation.scale
    scale = math.exp(rng.uniform(math.log(low), math.log(high)))
    stretch = 1 + rng.uniform(-augmentation.stretch, augmentation.stretch)
    angle = rng.uniform(0, 2 * math.pi) if augmentation.rotate else 0.0
    if augmentation.rotate and rng.random() < 0.5:
        angle = round(angle / (math.pi / 2)) * (math.pi / 2)  # half of the views keep to right angles
    mirror = -1 if augmentation.rotate and rng.random() < 0.5 else 1
    linear = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = linear @ np.diag([scale * stretch * mirror, scale])
    reach = side / scale / 2
    centre = [rng.uniform(min(reach, n / 2), max(n - reach, n / 2)) for n in (shape[1], shape[0])]
    offset = np.array([side / 2, side / 2]) - linear @ np.array(centre)
    return np.column_stack([linear, offset])


def _random_light(levels: Levels, augmentation: Augmentation, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    image = levels.astype(np.float32) / 255
    if image.ndim == 3:
        if rng.random() < augmentation.grey:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        elif augmentation.colour:
            grey = image.mean(axis=2, keepdims=True)
            saturation = 1 + rng.uniform(-2, 2) * augmentation.colour
            gains = 1 + rng.uniform(-1, 1, 3) * augmentation.colour
            image = (grey + (image - grey) * saturation) * gains
    elif rng.random() < augmentation.invert:
        image = 1 - image
    if augmentation.blur_px and rng.random() < 1 / 3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, max(augmentation.blur_px, 0.31)))
    gamma = math.exp(rng.uniform(math.log(augmentation.gamma[0]), math.log(augmentation.gamma[1])))
    image = np.clip(image, 0, 1) ** gamma
    mean = image.mean()
    image = (image - mean) * rng.uniform(*augmentation.contrast) + mean
    image += rng.uniform(-1, 1) * augmentation.brightness
    if augmentation.noise and rng.random() < 1 / 3:
        image = image + rng.normal(0, rng.uniform(0, augmentation.noise), image.shape)
    image = np.clip(image, 0, 1).astype(np.float32)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
