"""Batch normalisation folded into the convolutions before it: what the converter does, but before fine-tuning.

A network that is fine-tuned for int8 must compute what the device will, where batch normalisation is part of the
convolution's weights, which are rounded after folding [1]_. Folding first also settles which statistics fine-tuning
uses, and includes transposed convolutions, which the converter does not fold.

References
----------
.. [1] B. Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference.
   CVPR 2018, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tf_keras import layers

from cellseg_host.quantize.errors import QuantizationError

# The axes of the kernel that are output channels; a subclass comes before its base
CHANNEL_AXIS = {layers.DepthwiseConv2D: (2, 3), layers.Conv2DTranspose: (2,), layers.Conv2D: (3,)}
WEIGHTED = tuple(CHANNEL_AXIS)


def folded(network: keras.Model) -> keras.Model:
    """Return the same function without batch normalisation, and with each activation in its own layer.

    Parameters
    ----------
    network : keras.Model
        Functional, of layers that are used once each.

    Returns
    -------
    keras.Model
        With its own variables. Layers keep their names; one that ended in an activation is now NAME_linear with the
        activation NAME after it, so that outputs keep their names too.

    Raises
    ------
    QuantizationError
        If a batch normalisation follows anything but a linear layer used by it alone, or a layer is used twice.
    """
    check_foldable(network)
    followers = consumers(network)

    def call(layer: Any, inputs: Any) -> Any:
        if isinstance(layer, (layers.InputLayer, layers.BatchNormalization)):
            return inputs
        if isinstance(layer, WEIGHTED):
            after = followers[layer.name]
            return _linear(layer, after[0] if _folds(layer, after) else None)(inputs)
        return type(layer).from_config(layer.get_config())(inputs)

    return rebuilt(network, call)


def check_foldable(network: keras.Model) -> None:
    """Raise a QuantizationError where `folded` would."""
    followers = consumers(network)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            (source,) = sources(layer)
            if not _folds(source, followers[source.name]):
                raise QuantizationError(
                    f"{network.name}: the batch normalisation '{layer.name}' does not follow a convolution alone, so "
                    "it cannot be folded into one: use --int8 without --qat and percentiles, or --dynamic"
                )


def rebuilt(network: keras.Model, call: Callable[[Any, Any], Any]) -> keras.Model:
    """Return a functional network built anew, layer by layer, from its inputs to its outputs.

    Parameters
    ----------
    network : keras.Model
    call : callable
        Returns the new output, given (layer, its new input or list of inputs); for an input layer, given the new input.
    """
    inputs: dict[str, Any] = {}
    made: dict[str, Any] = {}
    for layer in network.layers:
        if isinstance(layer, layers.InputLayer):
            taken = inputs[layer.name] = keras.Input(layer.output.shape[1:], name=layer.name)
        else:
            several = [made[source.name] for source in sources(layer)]
            taken = several if len(several) > 1 else several[0]
        made[layer.name] = call(layer, taken)
    outputs = [made[name] for name in network.output_names]
    return keras.Model([inputs[name] for name in network.input_names], outputs, name=network.name)


def sources(layer: Any) -> list[Any]:
    """Return the layers whose outputs a layer takes.

    Raises
    ------
    QuantizationError
        If the layer is used more than once.
    """
    if len(layer.inbound_nodes) != 1:
        raise QuantizationError(f"the layer '{layer.name}' is used {len(layer.inbound_nodes)} times, not once")
    found: list[Any] = tf.nest.flatten(layer.inbound_nodes[0].inbound_layers)
    return found


def consumers(network: keras.Model) -> dict[str, list[Any]]:
    """Return, by layer name, the layers that take its output; None among them for an output of the network."""
    found: dict[str, list[Any]] = {layer.name: [] for layer in network.layers}
    for layer in network.layers:
        if not isinstance(layer, layers.InputLayer):
            for source in sources(layer):
                found[source.name].append(layer)
    for name in network.output_names:
        found[name].append(None)
    return found


def _folds(layer: Any, after: Sequence[Any]) -> bool:
    """Return whether the batch normalisation after a layer can be folded into it."""
    return (
        isinstance(layer, WEIGHTED)
        and layer.activation is keras.activations.linear
        and len(after) == 1
        and isinstance(after[0], layers.BatchNormalization)
    )


def _linear(layer: Any, norm: Any | None) -> Callable[[Any], Any]:
    """Return a function that applies a layer with a bias, and its activation as a layer of its own."""
    activation = layer.activation.__name__
    name = layer.name if activation == "linear" else f"{layer.name}_linear"
    new = type(layer).from_config({**layer.get_config(), "name": name, "use_bias": True, "activation": "linear"})
    kernel, *bias = layer.get_weights()
    axes = next(axes for kind, axes in CHANNEL_AXIS.items() if isinstance(layer, kind))
    channels = [kernel.shape[axis] for axis in axes]
    scale, shift = np.ones(channels), bias[0] if bias else np.zeros(np.prod(channels))
    if norm is not None:
        scale = _value(norm.gamma, 1.0) / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
        shift = (shift - norm.moving_mean.numpy()) * scale + _value(norm.beta, 0.0)
    shape = [n if axis in axes else 1 for axis, n in enumerate(kernel.shape)]

    def call(inputs: Any) -> Any:
        outputs = new(inputs)
        new.set_weights([kernel * scale.reshape(shape), shift])
        return outputs if activation == "linear" else layers.Activation(layer.activation, name=layer.name)(outputs)

    return call


def _value(variable: Any, default: float) -> Any:
    return default if variable is None else variable.numpy()
