"""A U-Net on a classifier's encoder: VGG19, ResNet50 and others.

As usual, each level is upsampled by a transposed convolution, concatenated with the encoder's map and convolved twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tf_keras as keras
from tf_keras import layers

from cellseg_host.architectures.encoders import ENCODERS, encode

PAPER = "V. Iglovikov & A. Shvets, TernausNet: U-Net with an encoder pre-trained on ImageNet, arXiv:1801.05746, 2018"
STRIDE = 16
# Half of the overlap that patches of 256 px can afford, as for the U-Net
MARGIN = 64


def build(
    heads: Sequence[str],
    *,
    encoder: str = "vgg19",
    encoder_weights: str | None = None,
    filters: tuple[int, ...] = (64, 128, 256, 512),
) -> keras.Model:
    """Return a U-Net on this encoder.

    Parameters
    ----------
    heads : sequence of str
        One output each.
    encoder : str
        ``"vgg19"`` or ``"resnet50"``, whose stride is 16, or ``"efficientnet-b4"``, whose stride is 32.
    encoder_weights : str or None
        File of its weights; None for random ones.
    filters : tuple of int
        Of the decoder's levels, the finest first.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of the stride; outputs
        (None, height / b, width / b, b²), logits of blocks of b × b pixels; b is 1, or 2 for EfficientNet.

    Raises
    ------
    ValueError
        If there is no such encoder, or `filters` are not one fewer than its levels.
    InputError
        If the weights cannot be used.
    """
    image = keras.Input((None, None, 3), name="image")
    *skips, x = encode(image, encoder, encoder_weights)
    if len(filters) != len(skips):
        raise ValueError(f"filters needs {len(skips)} numbers, one per level of the decoder, not {filters}")
    for level in reversed(range(len(skips))):
        x = layers.Conv2DTranspose(filters[level], 2, strides=2, padding="same", name=f"decoder{level}_up")(x)
        x = layers.Concatenate(name=f"decoder{level}_concat")([x, skips[level]])
        x = _double_conv(x, filters[level], f"decoder{level}")
    block = ENCODERS[encoder].block
    outputs = [layers.Conv2D(block**2, 1, name=head)(x) for head in heads]
    return keras.Model(image, outputs, name=f"{encoder}-unet")


def _double_conv(x: Any, filters: int, name: str) -> Any:
    for number in range(2):
        conv = f"{name}_conv{number}"
        x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=conv)(x)
        x = layers.BatchNormalization(name=f"{conv}_bn")(x)
        x = layers.ReLU(name=f"{conv}_relu")(x)
    return x
