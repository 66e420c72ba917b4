"""Stochastic weight averaging: the mean of the last epochs' weights generalises better than any of them.

References
----------
.. [1] P. Izmailov et al., Averaging weights leads to wider optima and better generalization. UAI 2018.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
import tf_keras as keras

# Batches from which the averaged network's batch statistics are taken
STATISTICS_BATCHES = 20


class Average:
    """The running mean of a network's weights.

    Parameters
    ----------
    network : keras.Model
    """

    def __init__(self, network: keras.Model) -> None:
        self.network = network
        self.variables = [tf.Variable(w, trainable=False) for w in network.weights]

    def add(self, count: int) -> None:
        """Take in the network's present weights, `count` having been taken before."""
        for mean, weight in zip(self.variables, self.network.weights, strict=True):
            mean.assign(mean + (weight - mean) / (count + 1))

    @contextmanager
    def applied(self, images: Iterable[Any]) -> Iterator[None]:
        """Give the network the mean weights for a while, with batch statistics of their own taken from `images`."""
        present = [w.numpy() for w in self.network.weights]
        self.network.set_weights([v.numpy() for v in self.variables])
        restate_statistics(self.network, images)
        try:
            yield
        finally:
            self.network.set_weights(present)


def restate_statistics(network: keras.Model, images: Iterable[Any]) -> None:
    """Set the moving statistics of all trainable batch normalisations to the plain mean over batches of images."""
    norms = [
        layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    try:
        for number, image in zip(range(STATISTICS_BATCHES), images, strict=False):
            for layer in norms:
                layer.momentum = number / (number + 1)
            network(image, training=True)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
