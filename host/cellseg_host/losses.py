"""What training minimises: cross-entropy and Dice on the foreground, cross-entropy on the distance."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from cellseg_device.card import Output

GAP_WEIGHT = 4.0  # extra weight of a pixel between two nuclei
DISTANCE_SHARE = 1.0


def total_loss(
    outputs: Sequence[Output],
    predictions: Sequence[tf.Tensor],
    foreground: tf.Tensor,
    distance: tf.Tensor,
    gap: tf.Tensor,
) -> tf.Tensor:
    """Loss of a batch.

    Parameters
    ----------
    outputs : sequence of Output
        What each prediction means.
    predictions : sequence of tensor, each (batch, h, w, block²)
    foreground, distance, gap : tensor, (batch, height, width, 1)
        Targets in [0, 1], and how close a pixel is to a second nucleus (`targets.gap_weight`).

    Returns
    -------
    tensor, ()
    """
    weight = 1.0 + GAP_WEIGHT * gap
    total = 0.0
    for output, prediction in zip(outputs, predictions, strict=True):
        logits = spread(prediction)
        reduction = foreground.shape[1] // logits.shape[1]
        if output.scale == "probability":
            probability = tf.clip_by_value(logits, 1e-6, 1 - 1e-6)
            logits = tf.math.log(probability / (1 - probability))
        target = _reduce(foreground if output.quantity == "foreground" else distance, reduction)
        if output.quantity == "foreground":
            total += cross_entropy(target, logits, _reduce(weight, reduction)) + dice_loss(target, logits)
        else:
            total += DISTANCE_SHARE * cross_entropy(target, logits, _reduce(weight, reduction))
    return total


def cross_entropy(target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Weighted mean of the cross-entropy; soft targets have their own entropy taken off, so that 0 is perfect."""
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
    clipped = tf.clip_by_value(target, 1e-6, 1 - 1e-6)
    floor = -clipped * tf.math.log(clipped) - (1 - clipped) * tf.math.log(1 - clipped)
    return tf.reduce_sum((entropy - floor) * weight) / tf.reduce_sum(weight)


def dice_loss(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """1 − Dice coefficient over the batch: 1 − (2 Σ t·p + 1) / (Σ t + Σ p + 1)."""
    probability = tf.sigmoid(logits)
    overlap = tf.reduce_sum(target * probability)
    return 1 - (2 * overlap + 1) / (tf.reduce_sum(target) + tf.reduce_sum(probability) + 1)


def spread(prediction: tf.Tensor) -> tf.Tensor:
    """Blocks of pixels in the channels, spread out: (batch, h, w, b²) to (batch, h·b, w·b, 1)."""
    block = round(prediction.shape[-1] ** 0.5)
    return tf.nn.depth_to_space(prediction, block) if block > 1 else prediction


def _reduce(target: tf.Tensor, reduction: int) -> tf.Tensor:
    return tf.nn.avg_pool2d(target, reduction, reduction, "VALID") if reduction > 1 else target
