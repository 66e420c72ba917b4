"""Random views of the training images: changes by microscope, stain and camera that must not change the count.

Not albumentations: its last release under a free licence is no longer maintained and looks for updates on import, and
it would interpolate once for each change of geometry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cellseg_host.augment import geometry, light
from cellseg_host.augment.settings import NONE, Augmentation

__all__ = ["NONE", "Augmentation", "Sample", "random_view"]

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """One training image with its targets, all of one (height, width).

    Attributes
    ----------
    levels : ndarray of uint8, (height, width) or (height, width, 3)
        The image after the device's own normalisation.
    labels : ndarray of uint16
    maps : mapping of str to ndarray of float32
        Targets drawn beforehand, since scaling does not change their values (`targets.WARPED`), by name.
    soft : mapping of str to ndarray of float32
        The predictions of teachers (`distillation.soft_targets`), by name.
    """

    levels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint16]
    maps: Mapping[str, Map] = field(default_factory=dict)
    soft: Mapping[str, Map] = field(default_factory=dict)


def random_view(
    sample: Sample, side: int, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16], dict[str, Map], dict[str, Map]]:
    """Return a random square view of a sample.

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
    maps : dict of str to ndarray of float32, shape (side, side)
        0 outside the labels.
    soft : dict of str to ndarray of float32, shape (side, side)
    """
    place = geometry.draw(sample.labels.shape, side, augmentation, rng)
    labels = place.warp(sample.labels, nearest=True)
    maps = {name: place.warp(values) * (labels > 0) for name, values in sample.maps.items()}
    soft = {name: place.warp(values) for name, values in sample.soft.items()}
    return light.draw(place.warp(sample.levels), augmentation, rng), labels, maps, soft
