"""The ranges of activations, which int8 needs: from training images, whole or without rare extremes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_device.model.card import Card
from cellseg_host.architectures import as_list
from cellseg_host.data.dataset import Dataset
from cellseg_host.training import keras_maps
from cellseg_host.training.sampling import sampling_weights

Range = tuple[float, float]
Images = Callable[[], Iterator[np.ndarray]]

SIDE = 256
_BINS = 1 << 16
# Values of a tensor that are counted per image; the least and the greatest are those of all values
_SAMPLE = 1 << 17


@dataclass(frozen=True)
class Calibration:
    """How the ranges are found.

    Attributes
    ----------
    images : int
        Training images, at most.
    percentile : float or None
        Percentile of the values at the upper end of a range; its counterpart is the lower end. None for the least and
        the greatest value.
    """

    images: int = 200
    percentile: float | None = None


DEFAULT = Calibration()


def images(dataset: Dataset, card: Card, count: int, size: tuple[int, int] | None = None) -> Images:
    """Return the middles of training images, chosen with the probabilities of training.

    Parameters
    ----------
    dataset : Dataset
    card : Card
        Says how images are normalised.
    count : int
        At most.
    size : (height, width) or None
        Of each; None for 256 × 256. Smaller images are mirrored.

    Returns
    -------
    callable
        Returns an iterator of float32 arrays (1, height, width, 3) in [0, 1], the same ones each time.

    Raises
    ------
    InputError
        If there are none.
    """
    if count < 1:
        raise InputError("--images 0: calibration needs at least one image")
    entries = dataset.labelled("train")
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(entries), size=min(count, len(entries)), replace=False, p=sampling_weights(entries))

    def crops() -> Iterator[np.ndarray]:
        for position, index in enumerate(chosen):
            image = _middle(keras_maps.levels(dataset.image(entries[index]), card), size or (SIDE, SIDE))
            if position == 0:
                image[0, 0, :2] = [
                    [0],
                    [1],
                ]  # both ends of the range, so that the input's step is 1/255, as the device expects
            yield image

    return crops


def ranges(
    network: keras.Model, names: Sequence[str], calibration: Images, percentile: float | None = None
) -> dict[str, Range]:
    """Return the range of the output of each of these layers.

    Parameters
    ----------
    network : keras.Model
    names : sequence of str
    calibration : callable
    percentile : float or None
        As in `Calibration`.

    Returns
    -------
    dict of str to (float, float)
        0 is in each, since int8 must be able to represent it.
    """
    probe = keras.Model(network.inputs, [network.get_layer(name).output for name in names])
    spreads = [Spread() for _ in names]
    for image in calibration():
        for spread, tensor in zip(spreads, as_list(probe(image, training=False)), strict=True):
            spread.add(tensor.numpy())
    return {name: spread.range(percentile) for name, spread in zip(names, spreads, strict=True)}


class Spread:
    """The range of a tensor's values over several images, and their histogram, which widens when needed."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self._reach = 2.0**-10
        self._counts: npt.NDArray[np.int64] = np.zeros(_BINS, np.int64)
        self._rng = np.random.default_rng(0)

    def add(self, values: np.ndarray) -> None:
        """Count the values of a tensor of any shape."""
        values = values.ravel()
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        while self._reach <= max(-self.low, self.high):
            self._reach *= 2
            quarter = np.zeros(_BINS // 4, np.int64)
            self._counts = np.concatenate([quarter, self._counts.reshape(-1, 2).sum(axis=1), quarter])
        if values.size > _SAMPLE:
            values = values[self._rng.integers(values.size, size=_SAMPLE)]
        bins = ((values + self._reach) * (_BINS / 2 / self._reach)).astype(np.int64)
        self._counts += np.bincount(bins.clip(0, _BINS - 1), minlength=_BINS)

    def range(self, percentile: float | None = None) -> Range:
        """Return the least and greatest value, or the percentiles; 0 is never outside."""
        if percentile is None:
            return self.low, self.high
        below = np.cumsum(self._counts) / self._counts.sum()
        edges = [np.searchsorted(below, 1 - percentile / 100), np.searchsorted(below, percentile / 100) + 1]
        low, high = (float(edge / _BINS * 2 - 1) * self._reach for edge in edges)
        return max(self.low, min(low, 0.0)), min(self.high, max(high, 0.0))


def _middle(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the middle of an image, float32 (1, height, width, 3) in [0, 1]; a small image is mirrored."""
    missing = [max(s - n, 0) for s, n in zip(size, levels.shape, strict=False)]
    levels = cv2.copyMakeBorder(levels, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)
    top, left = ((n - s) // 2 for n, s in zip(levels.shape, size, strict=False))
    crop = levels[top : top + size[0], left : left + size[1]]
    image = np.repeat(crop[..., None], 3, axis=2) if crop.ndim == 2 else crop
    return image[None].astype(np.float32) / 255
