"""The mean of networks' weights: of a run's last epochs [1]_ or steps [3]_, or of runs from one network [2]_ [4]_.

The mean generalises better than any of them, and costs no more to run.

References
----------
.. [1] P. Izmailov et al., Averaging weights leads to wider optima and better generalization. UAI 2018.
.. [2] M. Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves accuracy without
   increasing inference time. ICML 2022.
.. [3] A. Tarvainen & H. Valpola, Mean teachers are better role models. NeurIPS 2017.
.. [4] M. Wortsman et al., Robust fine-tuning of zero-shot models. CVPR 2022: the mean with the weights
   before fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_host.training import runs
from cellseg_host.training.runs import Run

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
        """Add the network's present weights to the mean of `count` earlier ones."""
        for mean, weight in zip(self.variables, self.network.weights, strict=True):
            mean.assign(mean + (weight - mean) / (count + 1))

    @contextmanager
    def applied(self, images: Iterable[Any]) -> Iterator[None]:
        """Give the network the mean weights meanwhile, with batch statistics measured on `images`."""
        with _with_weights(self.network, self.variables):
            restate_statistics(self.network, images)
            yield


class MovingAverage:
    """The moving average of a network's weights over the steps of its training.

    Parameters
    ----------
    network : keras.Model
    decay : float
        Share of the average that a step leaves; near the start less, so that the first weights are forgotten.

    Attributes
    ----------
    variables : list of tf.Variable
        Its state, for a checkpoint.
    """

    def __init__(self, network: keras.Model, decay: float) -> None:
        self._network = network
        self._decay = decay
        self._steps = tf.Variable(0.0, trainable=False)
        self._means = [tf.Variable(w, trainable=False) for w in network.weights]
        self.variables = [self._steps, *self._means]

    def add(self) -> None:
        """Let the present weights into the average; may be called in a graph."""
        self._steps.assign_add(1.0)
        decay = tf.minimum(self._decay, self._steps / (self._steps + 10.0))
        for mean, weight in zip(self._means, self._network.weights, strict=True):
            mean.assign(decay * mean + (1 - decay) * weight)

    def restart(self) -> None:
        """Forget what it has, as after the network was given other weights."""
        self._steps.assign(0.0)
        for mean, weight in zip(self._means, self._network.weights, strict=True):
            mean.assign(weight)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the averaged weights, batch statistics among them, meanwhile."""
        with _with_weights(self._network, self._means):
            yield


@contextmanager
def _with_weights(network: keras.Model, variables: Sequence[tf.Variable]) -> Iterator[None]:
    """Give a network these weights meanwhile, and its own back."""
    present = network.get_weights()
    network.set_weights([variable.numpy() for variable in variables])
    try:
        yield
    finally:
        network.set_weights(present)


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


def mean_run(sources: Sequence[Run], out: Path, *, shares: Sequence[float] | None = None) -> None:
    """Make a run with the mean weights and batch statistics of several; all else is from the first.

    Parameters
    ----------
    sources : sequence of Run
    out : Path
        A new folder.
    shares : sequence of float, optional
        How much each run counts; all alike by default.

    Raises
    ------
    InputError
        If they are of different networks, or the folder is not empty.
    """
    first, *others = sources
    network = first.network
    weights = [network.get_weights()]
    for other in others:
        weights.append(other.network.get_weights())
        if other.heads != first.heads or [w.shape for w in weights[-1]] != [w.shape for w in weights[0]]:
            raise InputError(
                f"{other.path}: is of another network than {first.path}: only runs of one network can be averaged"
            )
    network.set_weights([np.average(of_runs, axis=0, weights=shares) for of_runs in zip(*weights, strict=True)])
    made_of = [{"run": run.path.resolve().name, "sha256": run.weights_digest()} for run in sources]
    runs.create(out, first.settings, first.info | {"average": made_of})
    runs.save_weights(network, out / runs.NETWORK)
