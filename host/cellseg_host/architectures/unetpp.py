"""UNet++: a U-Net whose skips are networks themselves, supervised at every depth, so that it can be used shallower.

Node X(level, depth) joins all earlier nodes of its level with the upsampled one below; X(level, 0) is the encoder.
Each X(0, depth) has an output, and group `depth` of these needs only the nodes above its diagonal. The encoder may be
a classifier's; the finest level is then the finest of its maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import tf_keras as keras
from tf_keras import layers

from cellseg_host.architectures.encoders import ENCODERS, encode
from cellseg_host.architectures.upsampling import NearestUpSampling2D

PAPER = "Z. Zhou et al., UNet++: redesigning skip connections to exploit multiscale features, TMI 2020"
STRIDE = 16
# Half of the overlap that patches of 256 px can afford, as for the U-Net
MARGIN = 64
UPSAMPLINGS = ("transposed", "nearest")


def build(
    heads: Sequence[str],
    *,
    filters: tuple[int, ...] = (16, 32, 64, 128, 256),
    deep_supervision: bool = True,
    batch_norm: bool = True,
    upsampling: str = "transposed",
    dropout: float = 0.0,
    encoder: str | None = None,
    encoder_weights: str | None = None,
) -> keras.Model:
    """Return a UNet++.

    Parameters
    ----------
    heads : sequence of str
        One output each, or one in each group.
    filters : tuple of int
        Of each level, from full resolution down; five levels have a stride of 16.
    deep_supervision : bool
        A group of outputs for each depth, ``HEAD_1`` the shallowest, instead of only the last group.
    batch_norm : bool
        Batch normalisation between convolution and ReLU.
    upsampling : str
        ``"transposed"`` convolution, as published, or ``"nearest"`` neighbour.
    dropout : float
        Rate after each convolution; 0.5 as published.
    encoder : str or None
        One of `cellseg_host.architectures.encoders` instead of its own; `filters` are then for the levels of that, of
        which the last has no node.
    encoder_weights : str or None
        File of that encoder's weights; None for random ones.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of the stride; outputs
        (None, height / b, width / b, b²), logits of blocks of b × b pixels; b is 1, or 2 with EfficientNet.

    Raises
    ------
    ValueError
        If there are fewer than two levels, or an option has an unknown value.
    InputError
        If the weights cannot be used.
    """
    if len(filters) < 2:
        raise ValueError(f"filters needs at least two numbers, one per level, not {filters}")
    if encoder_weights and not encoder:
        raise ValueError("encoder_weights needs an encoder: name one")
    if upsampling not in UPSAMPLINGS:
        raise ValueError(f"upsampling must be one of {', '.join(UPSAMPLINGS)}, not {upsampling}")

    node = partial(_node, batch_norm=batch_norm, dropout=dropout)
    x = image = keras.Input((None, None, 3), name="image")
    if encoder:
        nodes = [[x] for x in encode(image, encoder, encoder_weights)]
        if len(filters) != len(nodes):
            raise ValueError(f"filters needs {len(nodes)} numbers, one per level of {encoder}, not {filters}")
    else:
        nodes = []
        for level in range(len(filters)):
            if level:
                x = layers.MaxPooling2D(2, name=f"encoder{level - 1}_pool")(x)
            x = node(x, filters[level], f"encoder{level}")
            nodes.append([x])
    for depth in range(1, len(filters)):
        for level in range(len(filters) - depth):
            name = f"decoder{level}_{depth}"
            joined = [*nodes[level], _up(nodes[level + 1][depth - 1], filters[level], name, upsampling)]
            nodes[level].append(node(layers.Concatenate(name=f"{name}_concat")(joined), filters[level], name))
    if deep_supervision:
        ends = [(f"_{depth}", x) for depth, x in enumerate(nodes[0][1:], start=1)]
    else:
        ends = [("", nodes[0][-1])]
    channels = ENCODERS[encoder].block ** 2 if encoder else 1
    outputs = [layers.Conv2D(channels, 1, name=f"{head}{suffix}")(x) for suffix, x in ends for head in heads]
    return keras.Model(image, outputs, name="unetpp")


def _node(x: Any, filters: int, name: str, *, batch_norm: bool, dropout: float) -> Any:
    for number in range(2):
        conv = f"{name}_conv{number}"
        x = layers.Conv2D(
            filters, 3, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", name=conv
        )(x)
        if batch_norm:
            x = layers.BatchNormalization(name=f"{conv}_bn")(x)
        x = layers.ReLU(name=f"{conv}_relu")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"{conv}_dropout")(x)
    return x


def _up(x: Any, filters: int, name: str, upsampling: str) -> Any:
    if upsampling == "nearest":
        return NearestUpSampling2D(2, name=f"{name}_up")(x)
    return layers.Conv2DTranspose(filters, 2, strides=2, padding="same", name=f"{name}_up")(x)
