"""U-Net, from the published baseline to its deeper, narrower and batch-normalised variants.

By default the small form that is often trained on DSB2018: 16 to 256 filters, ReLU, dropout and transposed
convolutions, one sigmoid output: 1,941,105 parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import tf_keras as keras
from tf_keras import layers

PAPER = "O. Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015"
STRIDE = 16
# Half of the overlap that patches of 256 px can afford; the receptive field reaches a little further
MARGIN = 64


def build(
    heads: Sequence[str],
    *,
    filters: tuple[int, ...] = (16, 32, 64, 128, 256),
    activation: str = "relu",
    batch_norm: bool = False,
    dropout: tuple[float, ...] = (0.25, 0.5),
) -> keras.Model:
    """Return a U-Net.

    Parameters
    ----------
    heads : sequence of str
        One output each.
    filters : tuple of int
        Of each level, from full resolution down; five levels have a stride of 16.
    activation : str
        ``"relu"``, ``"elu"`` or any that Keras knows.
    batch_norm : bool
        Batch normalisation between convolution and activation.
    dropout : tuple of float
        Rate at each level; the last one also for all further levels.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of the stride; outputs
        (None, height, width, 1), probabilities.
    """
    rates = (dropout + dropout[-1:] * len(filters))[: len(filters)]

    def double_conv(x: object, level: int, part: str) -> object:
        for number in range(2):
            name = f"{part}{level}_conv{number}"
            x = layers.Conv2D(
                filters[level], 3, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", name=name
            )(x)
            if batch_norm:
                x = layers.BatchNormalization(name=f"{name}_bn")(x)
            x = layers.Activation(activation, name=f"{name}_{activation}")(x)
        return x

    x = image = keras.Input((None, None, 3), name="image")
    skips = []
    for level, rate in enumerate(rates[:-1]):
        x = double_conv(x, level, "encoder")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"encoder{level}_pool")(x)
        x = layers.Dropout(rate, name=f"encoder{level}_dropout")(x)
    x = double_conv(x, len(filters) - 1, "encoder")
    for level in reversed(range(len(skips))):
        x = layers.Conv2DTranspose(filters[level], 2, strides=2, padding="same", name=f"decoder{level}_up")(x)
        x = layers.Concatenate(name=f"decoder{level}_concat")([x, skips[level]])
        x = layers.Dropout(rates[level + 1], name=f"decoder{level}_dropout")(x)
        x = double_conv(x, level, "decoder")
    outputs = [layers.Conv2D(1, 1, activation="sigmoid", name=head)(x) for head in heads]
    return keras.Model(image, outputs, name="unet")
