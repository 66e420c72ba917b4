"""What training minimises: the loss of the user's choice for masks, cross-entropy for graded maps (distance, centre).

A loss takes targets and logits, (batch, height, width, 1), and the weight of each pixel, and returns a scalar. In the
formulas t is the target, p = sigmoid(logit), w the weight; Σ runs over all pixels of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from cellseg_device.errors import InputError
from cellseg_device.model.card import Output
from cellseg_device.suggestions import unknown
from cellseg_host.plugins import functions
from cellseg_host.plugins.loading import is_spec
from cellseg_host.training.settings import BORDER_WEIGHT

Loss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

MASKS = ("foreground", "outline")  # heads that the chosen loss is for


def total_loss(
    outputs: Sequence[Output],
    predictions: Sequence[tf.Tensor],
    targets: Mapping[str, tf.Tensor],
    border: tf.Tensor,
    loss: Loss | str = "boundary",
    *,
    class_weights: tuple[float, float] = (1.0, 1.0),
    border_weight: float = BORDER_WEIGHT,
) -> tf.Tensor:
    """Return the loss of a batch.

    Parameters
    ----------
    outputs : sequence of Output
        What each prediction of a group means.
    predictions : sequence of tensor, each (batch, h, w, block²)
        One group, or, of a deeply supervised network, several one after the other: the loss is the groups' mean.
    targets : mapping of str to tensor, each (batch, height, width, 1)
        In [0, 1], for the quantity of each output; (batch, 1, 1, 1) for presence, (batch, 1, 1, kinds) for kind.
    border : tensor, (batch, height, width, 1)
        How close a pixel is to a second nucleus (`targets.border_weight`); weighs distance and centre and, with the
        loss "boundary", foreground and outline.
    loss : callable or str
        Of foreground and outline; the other heads have `cross_entropy`.
    class_weights : (float, float)
        Of background and foreground, multiplied into the weight of a pixel of the foreground head. Outlines have
        other shares, and presence needs none: half of its views have a cell (`feed.views`).
    border_weight : float
        A pixel weighs 1 + `border_weight` · `border`.

    Returns
    -------
    tensor, ()
    """
    chosen = get(loss) if isinstance(loss, str) else loss
    groups, rest = divmod(len(predictions), len(outputs))
    if rest:
        raise ValueError(f"{len(predictions)} predictions do not divide into groups of {len(outputs)}")
    total = 0.0
    for position, prediction in enumerate(predictions):
        output = outputs[position % len(outputs)]
        if output.quantity == "kind":
            total += kind_cross_entropy(targets["kind"], tf.cast(prediction, tf.float32))
            continue
        target, logits = targets[output.quantity], spread(tf.cast(prediction, tf.float32))
        if output.scale == "probability":
            probability = tf.clip_by_value(logits, 1e-6, 1 - 1e-6)
            logits = tf.math.log(probability / (1 - probability))
        weight = tf.ones_like(target)
        if output.quantity in ("distance", "centre") or (output.quantity in MASKS and chosen is boundary):
            weight += border_weight * border
        if output.quantity == "foreground":
            weight *= class_weights[0] + (class_weights[1] - class_weights[0]) * target
        reduction = target.shape[1] // logits.shape[1]
        function = chosen if output.quantity in MASKS else cross_entropy
        total += function(_reduce(target, reduction), logits, _reduce(weight, reduction))
    return total / groups


def cross_entropy(target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy: −Σ w·(t·log p + (1 − t)·log(1 − p)) / Σ w, less the same of p = t.

    Soft targets have their own entropy taken off, so that 0 is perfect.
    """
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
    clipped = tf.clip_by_value(target, 1e-6, 1 - 1e-6)
    floor = -clipped * tf.math.log(clipped) - (1 - clipped) * tf.math.log(1 - clipped)
    return tf.reduce_sum((entropy - floor) * weight) / tf.reduce_sum(weight)


def kind_cross_entropy(target: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of exclusive kinds: −Σ t·log softmax(logits), summed over the kinds, mean over the batch."""
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(target, logits))


def dice(target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """1 − the Sørensen–Dice coefficient: 1 − (2 Σ w·t·p + 1) / (Σ w·t + Σ w·p + 1) [1]_.

    References
    ----------
    .. [1] F. Milletari et al., V-Net: fully convolutional neural networks for volumetric medical image segmentation.
       3DV 2016. (The sums are over t and p instead of over their squares.)
    """
    probability = tf.sigmoid(logits)
    overlap = tf.reduce_sum(weight * target * probability)
    return 1 - (2 * overlap + 1) / (tf.reduce_sum(weight * target) + tf.reduce_sum(weight * probability) + 1)


def cross_entropy_and_dice(target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """`cross_entropy` + `dice`."""
    return cross_entropy(target, logits, weight) + dice(target, logits, weight)


def boundary(target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """`cross_entropy`, weighted high between nuclei, + `dice` of all pixels alike.

    The weight, 1 + `border_weight`·`targets.border_weight`, is after U-Net's [1]_: the few pixels between two nuclei
    decide whether they are counted as one.

    References
    ----------
    .. [1] O. Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015.
    """
    return cross_entropy(target, logits, weight) + dice(target, logits, tf.ones_like(weight))


def focal(target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor, gamma: float = 2.0) -> tf.Tensor:
    """−Σ w·(t·(1 − p)^γ·log p + (1 − t)·p^γ·log(1 − p)) / Σ w, with γ = 2 [1]_.

    A pixel that is nearly right hardly counts. The paper's α is `class_weights` here.

    References
    ----------
    .. [1] T.-Y. Lin et al., Focal loss for dense object detection. ICCV 2017.
    """
    probability = tf.sigmoid(logits)
    of_ones = target * (1 - probability) ** gamma * tf.math.log_sigmoid(logits)
    of_zeros = (1 - target) * probability**gamma * tf.math.log_sigmoid(-logits)
    return -tf.reduce_sum(weight * (of_ones + of_zeros)) / tf.reduce_sum(weight)


def tversky(
    target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor, false_positives: float = 0.3, false_negatives: float = 0.7
) -> tf.Tensor:
    """1 − (TP + 1) / (TP + 0.3·FP + 0.7·FN + 1), with TP = Σ w·t·p, FP = Σ w·(1 − t)·p, FN = Σ w·t·(1 − p) [1]_.

    A missed pixel costs more than a false one; with ½ and ½ it is (but for the smoothing) `dice`.

    References
    ----------
    .. [1] S. Salehi et al., Tversky loss function for image segmentation using 3D fully convolutional deep networks.
       MLMI 2017.
    """
    probability = tf.sigmoid(logits)
    right = tf.reduce_sum(weight * target * probability)
    false = tf.reduce_sum(weight * (1 - target) * probability)
    missed = tf.reduce_sum(weight * target * (1 - probability))
    return 1 - (right + 1) / (right + false_positives * false + false_negatives * missed + 1)


def weighted_accuracy(target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor, ones: float = 1.0) -> tf.Tensor:
    """1 − weighted two-class accuracy, (X·PC/AC + PCZ/ACZ) / (X + 1), made differentiable.

    AC and ACZ count the actual ones and zeros, PC and PCZ those of them that are predicted so; p stands for the
    prediction: PC = Σ w·t·p, AC = Σ w·t, PCZ = Σ w·(1 − t)·(1 − p), ACZ = Σ w·(1 − t). A class that the batch lacks
    counts as all right.

    Parameters
    ----------
    target, logits, weight : tensor, (batch, height, width, 1)
    ones : float
        X, the weight of the ones' accuracy against that of the zeros.
    """
    probability = tf.sigmoid(logits)

    def accuracy(actual: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
        return (tf.reduce_sum(weight * actual * predicted) + 1) / (tf.reduce_sum(weight * actual) + 1)

    return 1 - (ones * accuracy(target, probability) + accuracy(1 - target, 1 - probability)) / (ones + 1)


LOSSES: dict[str, Loss] = {
    "boundary": boundary,
    "bce": cross_entropy,
    "dice": dice,
    "bce-dice": cross_entropy_and_dice,
    "focal": focal,
    "tversky": tversky,
    "weighted-accuracy": weighted_accuracy,
}


def get(name: str) -> Loss:
    """Return the loss of this name, or of a user's own file, ``FILE.py:NAME`` (see `plugins.functions.loss`).

    Raises
    ------
    InputError
        If the name is unknown, or the user's function does not work.
    """
    if is_spec(name):
        return _weighted(functions.loss(name))
    if name not in LOSSES:
        raise InputError(f"--loss: there is {unknown('loss', name, list(LOSSES))}")
    return LOSSES[name]


def _weighted(custom: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Loss:
    """Return a loss of logits from one of probabilities; if that returns a value for each pixel, weight them."""

    def loss(target: tf.Tensor, logits: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        values = custom(target, tf.clip_by_value(tf.sigmoid(logits), functions.EPSILON, 1 - functions.EPSILON))
        if values.shape.rank == 3:
            values = values[..., None]
        if values.shape.rank == 4:
            return tf.reduce_sum(values * weight) / tf.reduce_sum(weight)
        return tf.reduce_mean(values)

    return loss


def spread(prediction: tf.Tensor) -> tf.Tensor:
    """Return (batch, h·b, w·b, 1) from (batch, h, w, b²), blocks of b × b pixels in the channels."""
    block = round(prediction.shape[-1] ** 0.5)
    return tf.nn.depth_to_space(prediction, block) if block > 1 else prediction


def _reduce(target: tf.Tensor, reduction: int) -> Any:
    return tf.nn.avg_pool2d(target, reduction, reduction, "VALID") if reduction > 1 else target
