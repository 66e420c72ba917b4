"""kind-net: a tiny classifier of what a field shows, for int8 on an ARM core or an Edge TPU, 500 multiply-adds a pixel.

It sees the field made small, so that a glance costs less than a hundredth of a segmentation. Built like the encoder of
`edge_unet`: plain 3 × 3 convolutions in multiples of 8 channels, each of which halves the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import tf_keras as keras
from tf_keras import layers

STRIDE = 32
MARGIN = 0  # images are not tiled


def build(
    heads: Sequence[str],
    *,
    classes: int = 5,
    filters: tuple[int, ...] = (16, 24, 32, 40, 48),
) -> keras.Model:
    """Return a classifier: convolutions of stride 2, global average pooling, and a number for each class.

    Parameters
    ----------
    heads : sequence of str
        ``("kind",)``.
    classes : int
        Number of kinds; training sets it to that of the dataset.
    filters : tuple of int
        Channels at strides 2, 4, 8 …

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of 32; output (None, 1, 1, classes),
        logits.

    Raises
    ------
    ValueError
        If another head is wanted, or there is nothing to tell apart.
    """
    if tuple(heads) != ("kind",):
        raise ValueError(f"it tells kinds of samples apart: its head is kind, not {', '.join(heads)}")
    if classes < 2:
        raise ValueError(f"{classes} classes: it tells at least 2 apart")
    x = image = keras.Input((None, None, 3), name="image")
    for level, channels in enumerate(filters):
        name = f"encoder{level}_conv"
        x = layers.Conv2D(channels, 3, 2, padding="same", use_bias=False, name=name)(x)
        x = layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))
    x = layers.GlobalAveragePooling2D(keepdims=True, name="decoder_pool")(x)
    output = layers.Conv2D(classes, 1, name="kind", dtype="float32")(x)
    return keras.Model(image, output, name="kind-net")
