"""edge-unet: our lean U-Net for int8 on an ARM core or an Edge TPU, about 4,000 multiply-adds per input pixel.

What keeps it fast, by the measured cost of int8 operators:

- the first convolution halves the image at once and nothing runs at full resolution: the head gives 2 × 2 pixels of
  foreground as four channels, which the device spreads out while it stitches;
- plain 3 × 3 convolutions in multiples of 8 channels: a depthwise one costs three times as much per multiply-add;
- skips are added, not concatenated: no rescaling of int8 tensors;
- nearest-neighbour upsampling, which an Edge TPU can do and which takes any size;
- one output tensor per quantity, so that each has an int8 scale of its own.
"""

from __future__ import annotations

from typing import Any

import tf_keras as keras
from tf_keras import layers

STRIDE = 16
# More than the receptive field reaches to a side, so a cut shows nowhere (tests/device/test_seams.py)
MARGIN = 80

ENCODER = (16, 32, 64, 88)  # channels at strides 2, 4, 8, 16
CONVS = (0, 1, 1, 1)  # further convolutions at each of them
DECODER = (48, 32, 16)  # channels at strides 8, 4, 2


def build() -> keras.Model:
    """The network.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of 16. Outputs `foreground`,
        (None, height / 2, width / 2, 4), logits of blocks of 2 × 2 pixels, and `distance`,
        (None, height / 2, width / 2, 1), logit of the distance to the nucleus's border, 1 at its deepest pixel.
    """
    x = image = keras.Input((None, None, 3), name="image")
    skips = []
    for filters, convs in zip(ENCODER, CONVS, strict=True):
        x = _conv(x, filters, strides=2)
        for _ in range(convs):
            x = _conv(x, filters)
        skips.append(x)
    for filters, skip in zip(DECODER, reversed(skips[:-1]), strict=True):
        x = layers.UpSampling2D(2, interpolation="nearest")(_project(x, filters))
        if skip.shape[-1] != filters:
            skip = _project(skip, filters)
        x = layers.ReLU()(layers.Add()([x, skip]))
        x = _conv(x, filters)
    foreground = layers.Conv2D(4, 1, name="foreground")(x)
    distance = layers.Conv2D(1, 1, name="distance")(x)
    return keras.Model(image, [foreground, distance], name="edge-unet")


def _conv(x: Any, filters: int, strides: int = 1) -> Any:
    x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _project(x: Any, filters: int) -> Any:
    return layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(x))
