"""A trained network's 3 × 3 convolutions as 3 × 3 ones to fewer channels and 1 × 1 ones back, losing least.

The channels that a convolution puts out depend on each other, so a basis of fewer holds nearly all of them. The best is
that of the principal components of its outputs over images [1]_: projection and expansion are linear, so the one goes
into the 3 × 3 kernel, the other is the 1 × 1.

References
----------
.. [1] X. Zhang et al., Accelerating very deep convolutional networks for classification and detection. TPAMI 2016.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import tf_keras as keras

from cellseg_host.architectures import as_list
from cellseg_host.architectures.edge_unet import EXPAND

Array = npt.NDArray[np.float64]


def factorise(plain: keras.Model, network: keras.Model, images: Iterable[Any]) -> None:
    """Give a network of low rank the weights of the same one without.

    Parameters
    ----------
    plain : keras.Model
        Trained; its layers have the same names.
    network : keras.Model
        Changed in place. A convolution is of low rank if there is one named like it with `EXPAND` behind it.
    images : iterable
        Batches (n, height, width, 3) in [0, 1], over whose outputs the components are taken.
    """
    names = [layer.name for layer in network.layers]
    factored = [name for name in names if name + EXPAND in names]
    moments = _moments(plain, factored, images)
    for layer in network.layers:
        if layer.name in factored:
            mean, covariance = moments[layer.name]
            kernel = plain.get_layer(layer.name).get_weights()[0]
            basis = _components(covariance, layer.filters)
            layer.set_weights([kernel @ basis])
            network.get_layer(layer.name + EXPAND).set_weights([basis.T[None, None]])
        elif layer.weights and not layer.name.endswith(EXPAND):
            layer.set_weights(plain.get_layer(layer.name).get_weights())
    for name in factored:  # what the components leave out of the mean comes back in the normalisation after them
        mean, covariance = moments[name]
        basis = network.get_layer(name + EXPAND).get_weights()[0][0, 0]
        norm = network.get_layer(f"{name}_bn")
        gain, shift, moving_mean, variance = norm.get_weights()
        norm.set_weights([gain, shift, moving_mean - (mean - basis.T @ (basis @ mean)), variance])


def _components(covariance: Array, count: int) -> Array:
    """Return the `count` directions of the largest variance, as columns."""
    _, directions = np.linalg.eigh(covariance)
    return directions[:, ::-1][:, :count]


def _moments(plain: keras.Model, names: list[str], images: Iterable[Any]) -> dict[str, tuple[Array, Array]]:
    """Return mean and covariance of the named layers' outputs, over all pixels."""
    probe = keras.Model(plain.inputs, [plain.get_layer(name).output for name in names])
    sums: dict[str, list[Any]] = {name: [0, 0.0, 0.0] for name in names}
    for image in images:
        for name, value in zip(names, as_list(probe(image, training=False)), strict=True):
            flat = np.asarray(value, np.float64).reshape(-1, value.shape[-1])
            sums[name][0] += len(flat)
            sums[name][1] += flat.sum(0)
            sums[name][2] += flat.T @ flat
    found = {}
    for name, (count, first, second) in sums.items():
        mean = first / count
        found[name] = mean, second / count - np.outer(mean, mean)
    return found
