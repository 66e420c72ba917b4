"""DoubleU-Net: a U-Net on VGG19 predicts a mask, and a second one gets the image multiplied by that mask.

Both have atrous spatial pyramid pooling at the bottom and squeeze-and-excitation in every block; the second also gets
the skips of the first. The paper concatenates both masks; here they are two groups of outputs, both supervised, of
which the last is used (``--depth 1`` keeps the first network alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tf_keras as keras
from tf_keras import layers

from cellseg_host.architectures.encoders import encode

PAPER = "D. Jha et al., DoubleU-Net: a deep convolutional neural network for medical image segmentation, CBMS 2020"
STRIDE = 16
# Half of the overlap that patches of 256 px can afford; squeeze-and-excitation sees the whole input anyway
MARGIN = 64


def build(
    heads: Sequence[str],
    *,
    encoder_weights: str | None = None,
    filters: tuple[int, ...] = (32, 64, 128, 256),
    pyramid: int = 64,
) -> keras.Model:
    """Return a DoubleU-Net.

    Parameters
    ----------
    heads : sequence of str
        One output each in both groups; ``"foreground"``, or else the first, is the mask.
    encoder_weights : str or None
        File of VGG19's weights; None for random ones.
    filters : tuple of int
        Of both decoders and the second encoder, the finest level first.
    pyramid : int
        Channels of the pyramid pooling.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of 16; outputs ``HEAD_1`` of the first,
        then ``HEAD_2`` of the second network, (None, height, width, 1), logits.

    Raises
    ------
    ValueError
        If there are other than four levels.
    InputError
        If the weights cannot be used.
    """
    if len(filters) != 4:
        raise ValueError(f"filters needs four numbers, one per level, not {filters}")

    def decode(x: Any, skips: Sequence[Sequence[Any]], name: str) -> Any:
        for level in reversed(range(len(filters))):
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_{level}_up")(x)
            x = layers.Concatenate(name=f"{name}_{level}_concat")([x, *(s[level] for s in skips)])
            x = _block(x, filters[level], f"{name}_{level}")
        return x

    def ends(x: Any, group: int) -> list[Any]:
        return [layers.Conv2D(1, 1, name=f"{head}_{group}")(x) for head in heads]

    image = keras.Input((None, None, 3), name="image")
    *first, x = encode(image, "vgg19", encoder_weights)
    first_ends = ends(decode(_pyramid(x, pyramid, "decoder1_aspp"), [first], "decoder1"), 1)

    index = list(heads).index("foreground") if "foreground" in heads else 0
    mask = layers.Activation("sigmoid", name="decoder2_mask")(first_ends[index])
    x = layers.Multiply(name="decoder2_masked")([image, mask])
    second = []
    for level, count in enumerate(filters):
        x = _block(x, count, f"decoder2_down{level}")
        second.append(x)
        x = layers.MaxPooling2D(2, name=f"decoder2_down{level}_pool")(x)
    second_ends = ends(decode(_pyramid(x, pyramid, "decoder2_aspp"), [first, second], "decoder2"), 2)
    return keras.Model(image, first_ends + second_ends, name="double-unet")


def _block(x: Any, filters: int, name: str) -> Any:
    """Apply two convolutions, then squeeze-and-excitation: channels weighted by their means over the map."""
    for number in range(2):
        x = _conv(x, filters, 3, f"{name}_conv{number}", use_bias=True)
    weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    weight = layers.Conv2D(filters // 8, 1, activation="relu", use_bias=False, name=f"{name}_excite0")(weight)
    weight = layers.Conv2D(filters, 1, activation="sigmoid", use_bias=False, name=f"{name}_excite1")(weight)
    return layers.Multiply(name=f"{name}_weighed")([x, weight])


def _pyramid(x: Any, filters: int, name: str) -> Any:
    """Apply atrous spatial pyramid pooling: convolutions of four dilations and the mean over the map, joined.

    The mean is not spread over the map and concatenated: a 1×1 convolution of the others plus one of the mean itself
    is the same, and works for inputs of any size.
    """
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    mean = _conv(mean, filters, 1, f"{name}_mean_conv", use_bias=True)
    paths = [_conv(x, filters, 1, f"{name}_1")]
    paths += [_conv(x, filters, 3, f"{name}_{rate}", dilation_rate=rate) for rate in (6, 12, 18)]
    joined = layers.Concatenate(name=f"{name}_concat")(paths)
    joined = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_join")(joined)
    mean = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_join_mean")(mean)
    x = layers.Add(name=f"{name}_add")([joined, mean])
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))


def _conv(x: Any, filters: int, size: int, name: str, *, use_bias: bool = False, dilation_rate: int = 1) -> Any:
    x = layers.Conv2D(filters, size, padding="same", use_bias=use_bias, dilation_rate=dilation_rate, name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))
