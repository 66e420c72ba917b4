"""The maps of a Keras network as the device computes them, int8, so that it is scored in training as it will run."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import Card, Output
from cellseg_device.model.interpreter import MapSpec, float_to_int8, map_spec
from cellseg_device.pipeline.predict import Maps, shown
from cellseg_host.architectures import as_list


def levels(image: Image, card: Card) -> npt.NDArray[np.uint8]:
    """Return the image as the device normalises it: uint8 levels, (height, width) or (height, width, 3)."""
    pixels, table = shown(image, card)
    normalised: npt.NDArray[np.uint8] = table[pixels]
    return normalised


def predict(network: keras.Model, outputs: Sequence[Output], stride: int, image_levels: np.ndarray) -> Maps:
    """Return the network's maps of a whole image, like `cellseg_device.pipeline.segment.predict`.

    Parameters
    ----------
    network : keras.Model
    outputs : sequence of Output
    stride : int
    image_levels : ndarray of uint8, shape (height, width) or (height, width, 3)

    Raises
    ------
    InputError
        If a value is not finite: the network has diverged.
    """
    height, width = image_levels.shape[:2]
    below, right = -height % stride, -width % stride
    padded = cv2.copyMakeBorder(image_levels, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    if padded.ndim == 2:
        padded = np.repeat(padded[..., None], 3, axis=2)
    tensors = as_list(network(padded[None].astype(np.float32) / 255, training=False))
    maps = {}
    for output, tensor in zip(outputs, tensors, strict=True):
        _, rows, cols, channels = tensor.shape
        block = round(channels**0.5)
        values = np.asarray(tensor, np.float32).reshape(rows, cols, block, block).swapaxes(1, 2)
        if not np.isfinite(values).all():
            raise InputError("the network's predictions are not finite: start again with a lower --learning-rate")
        maps[output.quantity] = float_to_int8(values.reshape(rows * block, cols * block), output.scale)
    return maps


def specs(network: keras.Model, outputs: Sequence[Output]) -> dict[str, MapSpec]:
    """Return what the values of `predict`'s maps mean, by quantity."""
    side = 256
    # From a prediction, since the wrappers of quantization-aware training do not know their output shapes beforehand
    tensors = as_list(network(np.zeros((1, side, side, 3), np.float32), training=False))
    return {o.quantity: map_spec(o, tuple(t.shape), (side, side), None) for o, t in zip(outputs, tensors, strict=True)}
