"""Nearest-neighbour upsampling that is fast on the CPU of a device."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tf_keras import layers


class NearestUpSampling2D(layers.UpSampling2D):
    """Each pixel as a block of size × size: a nearest-neighbour `UpSampling2D`, and the same values.

    For an input of any size the blocks are made by two concatenations, along the channels and along the rows, which
    put the values in memory as the larger image has them, and a reshape. TFLite copies these in runs; its
    RESIZE_NEAREST_NEIGHBOR looks up pixel after pixel, which was 13 % of the time of edge-unet (models/NOTES.md). For
    an input of fixed size it is one resize still, the operator that an Edge TPU has.
    """

    def call(self, inputs: Any) -> Any:
        """Upsample (batch, height, width, channels)."""
        if None not in inputs.shape[1:3]:
            return super().call(inputs)
        down, right = self.size
        wide = tf.concat([inputs] * right, axis=3)
        tall = tf.concat([wide] * down, axis=2)
        larger = tf.reshape(tall, tf.shape(inputs) * (1, down, right, 1))
        larger.set_shape((inputs.shape[0], None, None, inputs.shape[3]))
        return larger
