"""A Keras network on the device's road: its maps as int8, so that a network in training is judged as it will run."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import tf_keras as keras

from cellseg_device.card import Card, Output
from cellseg_device.image import Image
from cellseg_device.model import MapSpec, float_to_int8, map_spec
from cellseg_device.segment import Maps, shown
from cellseg_host.architectures import as_list


def levels(image: Image, card: Card) -> np.ndarray:
    """The image as the device normalises it: uint8 levels, (height, width) or (height, width, 3)."""
    pixels, table = shown(image, card)
    return table[pixels]


def predict(network: keras.Model, outputs: Sequence[Output], stride: int, image_levels: np.ndarray) -> Maps:
    """The network's maps of a whole image, like `cellseg_device.segment.predict`.

    Parameters
    ----------
    network : keras.Model
    outputs : sequence of Output
    stride : int
    image_levels : ndarray of uint8, shape (height, width) or (height, width, 3)
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
        maps[output.quantity] = float_to_int8(values.reshape(rows * block, cols * block), output.scale)
    return maps


def specs(network: keras.Model, outputs: Sequence[Output]) -> dict[str, MapSpec]:
    """What the values of `predict`'s maps mean."""
    side = 256
    # Asked by an answer: the wrappers of quantization-aware training do not know their output shapes beforehand
    tensors = as_list(network(np.zeros((1, side, side, 3), np.float32), training=False))
    return {o.quantity: map_spec(o, tuple(t.shape), (side, side), None) for o, t in zip(outputs, tensors, strict=True)}
