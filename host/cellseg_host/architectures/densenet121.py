"""DenseNet121 as a classifier of images: whether an image shows any cell."""

from __future__ import annotations

from collections.abc import Sequence

import tf_keras as keras
from tf_keras import layers

from cellseg_host.architectures.encoders import encode

PAPER = "G. Huang et al., Densely connected convolutional networks, CVPR 2017"
STRIDE = 32
MARGIN = 0  # images are not tiled


def build(
    heads: Sequence[str],
    *,
    encoder_weights: str | None = None,
    units: int = 256,
    dropout: float = 0.5,
) -> keras.Model:
    """Return a classifier: DenseNet121, global average pooling, batch normalisation, a dense layer and dropout.

    Parameters
    ----------
    heads : sequence of str
        ``("presence",)``.
    encoder_weights : str or None
        File of DenseNet121's weights; None for random ones.
    units : int
        Of the dense layer.
    dropout : float
        Rate after it.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of 32; output (None, 1, 1, 1), a logit.

    Raises
    ------
    ValueError
        If another head is wanted.
    InputError
        If the weights cannot be used.
    """
    if tuple(heads) != ("presence",):
        raise ValueError(f"it classifies whole images: its head is presence, not {', '.join(heads)}")
    image = keras.Input((None, None, 3), name="image")
    (x,) = encode(image, "densenet121", encoder_weights)
    x = layers.GlobalAveragePooling2D(keepdims=True, name="decoder_pool")(x)
    x = layers.BatchNormalization(name="decoder_bn")(x)
    # Dense layers as 1×1 convolutions, which keep the four axes of a map
    x = layers.Conv2D(units, 1, activation="relu", name="decoder_dense")(x)
    x = layers.Dropout(dropout, name="decoder_dropout")(x)
    output = layers.Conv2D(1, 1, name="presence")(x)
    return keras.Model(image, output, name="densenet121")
