"""edge-unet: a lean U-Net for int8 on an ARM core or an Edge TPU, about 4,000 multiply-adds per input pixel.

What makes it fast, by the measured cost of int8 operators:

- the first convolution halves the image at once and nothing runs at full resolution: the head returns
  2 × 2 pixels of foreground as four channels, which the device spreads out while it stitches;
- plain 3 × 3 convolutions in multiples of 8 channels: a depthwise one costs three times as much per multiply-add;
- skips are added, not concatenated: no rescaling of int8 tensors;
- nearest-neighbour upsampling, which an Edge TPU has and which takes any size; on a CPU by copies (`upsampling`);
- one output tensor per quantity, so that each has its own int8 scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tf_keras as keras
from tf_keras import layers

from cellseg_host.architectures.upsampling import NearestUpSampling2D

STRIDE = 16
# More than the radius of the receptive field, so that no seam shows (tests/device/pipeline/test_seams.py)
MARGIN = 80


def build(
    heads: Sequence[str],
    *,
    encoder: tuple[int, ...] = (16, 32, 64, 88),
    convs: tuple[int, ...] = (0, 1, 1, 1),
    decoder: tuple[int, ...] = (48, 32, 16),
) -> keras.Model:
    """Return an edge-unet.

    Parameters
    ----------
    heads : sequence of str
        One output each; ``"foreground"`` at full resolution, others at half.
    encoder : tuple of int
        Channels at strides 2, 4, 8, 16.
    convs : tuple of int
        Additional convolutions at each of these strides.
    decoder : tuple of int
        Channels at strides 8, 4, 2.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of 16. Outputs are logits:
        `foreground`, (None, height / 2, width / 2, 4), of blocks of 2 × 2 pixels, all others
        (None, height / 2, width / 2, 1).
    """
    x = image = keras.Input((None, None, 3), name="image")
    skips = []
    for level, (filters, more) in enumerate(zip(encoder, convs, strict=True)):
        for number in range(1 + more):
            x = conv(x, filters, f"encoder{level}_conv{number}", strides=1 if number else 2)
        skips.append(x)
    for level, (filters, skip) in enumerate(zip(decoder, reversed(skips[:-1]), strict=True)):
        x = _project(x, filters, f"decoder{level}_project")
        x = NearestUpSampling2D(2, name=f"decoder{level}_up")(x)
        if skip.shape[-1] != filters:
            skip = _project(skip, filters, f"decoder{level}_lateral")
        x = layers.Add(name=f"decoder{level}_add")([x, skip])
        x = layers.ReLU(name=f"decoder{level}_relu")(x)
        x = conv(x, filters, f"decoder{level}_conv")
    # float32 also where training computes in bfloat16, whose logits would be coarse
    outputs = [layers.Conv2D(4 if head == "foreground" else 1, 1, name=head, dtype="float32")(x) for head in heads]
    return keras.Model(image, outputs, name="edge-unet")


def conv(x: Any, filters: int, name: str, strides: int = 1) -> Any:
    """Return a 3 × 3 convolution with batch normalisation and ReLU."""
    x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


def _project(x: Any, filters: int, name: str) -> Any:
    x = layers.Conv2D(filters, 1, use_bias=False, name=name)(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)
