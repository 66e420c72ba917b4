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
EXPAND = "_expand"  # ends the name of the 1 × 1 convolution after one of low rank


def build(
    heads: Sequence[str],
    *,
    encoder: tuple[int, ...] = (16, 32, 64, 88),
    convs: tuple[int, ...] = (0, 1, 1, 1),
    decoder: tuple[int, ...] = (48, 32, 16),
    low_rank: bool = False,
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
    low_rank : bool
        Whether each 3 × 3 convolution but the first is one to about half the channels and a 1 × 1 to all of them [1]_:
        two thirds of the multiply-adds. Trained best from a network without it (`training.low_rank`).

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of 16. Outputs are logits:
        `foreground`, (None, height / 2, width / 2, 4), of blocks of 2 × 2 pixels, all others
        (None, height / 2, width / 2, 1).

    References
    ----------
    .. [1] X. Zhang et al., Accelerating very deep convolutional networks for classification and detection. TPAMI 2016.
    """
    x = image = keras.Input((None, None, 3), name="image")
    skips = []
    for level, (filters, more) in enumerate(zip(encoder, convs, strict=True)):
        for number in range(1 + more):
            name, is_first = f"encoder{level}_conv{number}", not level and not number
            x = _conv(x, filters, name, strides=1 if number else 2, low_rank=low_rank and not is_first)
        skips.append(x)
    for level, (filters, skip) in enumerate(zip(decoder, reversed(skips[:-1]), strict=True)):
        x = _project(x, filters, f"decoder{level}_project")
        x = NearestUpSampling2D(2, name=f"decoder{level}_up")(x)
        if skip.shape[-1] != filters:
            skip = _project(skip, filters, f"decoder{level}_lateral")
        x = layers.Add(name=f"decoder{level}_add")([x, skip])
        x = layers.ReLU(name=f"decoder{level}_relu")(x)
        x = _conv(x, filters, f"decoder{level}_conv", low_rank=low_rank)
    # float32 also where training computes in bfloat16, whose logits would be coarse
    outputs = [layers.Conv2D(4 if head == "foreground" else 1, 1, name=head, dtype="float32")(x) for head in heads]
    return keras.Model(image, outputs, name="edge-unet")


def inner_channels(filters: int) -> int:
    """Return the channels of a 3 × 3 convolution of low rank: half, in whole sixteens, which ARM cores do best."""
    return min(-(-filters // 32) * 16, filters)


def _conv(x: Any, filters: int, name: str, *, strides: int = 1, low_rank: bool = False) -> Any:
    inner = inner_channels(filters) if low_rank else filters
    x = layers.Conv2D(inner, 3, strides, padding="same", use_bias=False, name=name)(x)
    if inner < filters:
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}{EXPAND}")(x)
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


def _project(x: Any, filters: int, name: str) -> Any:
    x = layers.Conv2D(filters, 1, use_bias=False, name=name)(x)
    return layers.BatchNormalization(name=f"{name}_bn")(x)
