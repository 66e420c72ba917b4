"""Scores of a network in training: on whole validation images, with the device's own way from maps to labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from cellseg_device.cells.instances import mask_of
from cellseg_device.model.card import Output, Separation
from cellseg_host import augment
from cellseg_host.architectures import as_list
from cellseg_host.augment import Sample
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import BASELINE_THRESHOLD, labelled
from cellseg_host.training import feed, keras_maps

SIDE, BATCH, BATCHES = 256, 8, 4


class Maps:
    """Scores of a network that predicts maps: ``val_loss``, ``ap50``, ``mean_ap``, ``mean_iou`` and the user's own.

    Parameters
    ----------
    samples : sequence of Sample
        The validation images.
    network : keras.Model
        With one output for each of `outputs`.
    outputs : sequence of Output
    stride : int
        Largest stride of the network.
    loss : callable
        Of (predictions, targets, border weight).
    own : dict of str to callable
        Further metrics of (true labels, labels).
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        network: keras.Model,
        outputs: Sequence[Output],
        stride: int,
        *,
        loss: Callable[..., Any],
        own: dict[str, Callable[..., float]],
    ) -> None:
        self.samples, self.network, self.outputs, self.stride, self.own = samples, network, outputs, stride, own
        self.specs = keras_maps.specs(network, outputs)
        even = np.full(len(samples), 1 / len(samples))
        heads = [o.quantity for o in outputs]
        self.batches = list(
            feed.views(samples, even, heads, augment.NONE, side=SIDE, batch=BATCH, count=BATCHES, seed=(0, 0))
        )
        self._loss = tf.function(lambda image, *truth: loss(as_list(network(image, training=False)), *truth))

    def __call__(self) -> dict[str, float]:
        """Return the scores of the network as it is, means over the images."""
        rows = []
        for sample in self.samples:
            maps = keras_maps.predict(self.network, self.outputs, self.stride, sample.levels)
            height, width = sample.labels.shape
            labels = labelled(maps, (height, width), self.specs, Separation())
            threshold = self.specs["foreground"].threshold(BASELINE_THRESHOLD)
            mask = mask_of(maps["foreground"], (height, width), threshold)[:height, :width] > 0
            precision = metrics.average_precision(sample.labels, labels)
            rows.append(
                {
                    "ap50": precision[0],
                    "mean_ap": precision.mean(),
                    "mean_iou": metrics.two_class_iou(sample.labels > 0, mask),
                    **{name: metric(sample.labels, labels) for name, metric in self.own.items()},
                }
            )
        loss = float(np.mean([self._loss(*batch) for batch in self.batches]))
        return {"val_loss": loss} | {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
