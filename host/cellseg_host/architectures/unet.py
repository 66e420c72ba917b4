"""The published baseline: U-Net with 16 to 256 filters, dropout and transposed convolutions, one sigmoid output.

After O. Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015, in the
small form that is commonly trained on DSB2018: 1,941,105 parameters.
"""

from __future__ import annotations

import tf_keras as keras
from tf_keras import layers

STRIDE = 16
# Half of the overlap that patches of 256 px can afford; the receptive field reaches a little further
MARGIN = 64

FILTERS = (16, 32, 64, 128, 256)
DROPOUT_FIRST, DROPOUT = 0.25, 0.5


def build() -> keras.Model:
    """The baseline U-Net.

    Returns
    -------
    keras.Model
        Input (None, height, width, 3) in [0, 1], height and width multiples of 16; output `foreground`,
        (None, height, width, 1), a probability.
    """
    x = image = keras.Input((None, None, 3), name="image")
    skips = []
    for level, filters in enumerate(FILTERS[:-1]):
        x = _double_conv(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(DROPOUT if level else DROPOUT_FIRST)(x)
    x = _double_conv(x, FILTERS[-1])
    for filters, skip in zip(reversed(FILTERS[:-1]), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(x)
        x = layers.Concatenate()([x, skip])
        x = layers.Dropout(DROPOUT)(x)
        x = _double_conv(x, filters)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", name="foreground")(x), name="unet")


def _double_conv(x: object, filters: int) -> object:
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    return x
