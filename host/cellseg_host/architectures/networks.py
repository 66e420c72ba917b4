"""Properties of any network: its outputs, how far it reduces its input, what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tf_keras as keras
from tf_keras import layers

from cellseg_device.errors import InputError
from cellseg_device.model.card import Output


def as_list(outputs: Any) -> list[Any]:
    """Return the outputs of a network, or their shapes, as a list: Keras does not put a single one into a list."""
    return outputs if isinstance(outputs, list) else [outputs]


def for_inference(network: keras.Model, heads: Sequence[str], depth: int | None = None) -> keras.Model:
    """Return the network with one output for each head, and only the layers that these need.

    Parameters
    ----------
    network : keras.Model
        As built, perhaps deeply supervised.
    heads : sequence of str
    depth : int or None
        Which group of outputs to use, from 1, the shallowest; None for the last.

    Raises
    ------
    InputError
        If there is no such group.
    """
    groups = len(network.outputs) // len(heads)
    depth = groups if depth is None else depth
    if not 1 <= depth <= groups:
        raise InputError(f"--depth: {network.name} has {groups} supervised {'depths' if groups > 1 else 'depth'}")
    if groups == 1:
        return network
    last = depth * len(heads)
    return keras.Model(network.inputs, network.outputs[last - len(heads) : last], name=network.name)


def outputs_of(network: keras.Model, heads: Sequence[str]) -> tuple[Output, ...]:
    """Return the outputs of a network for the card: logits, or probabilities after a sigmoid."""
    found = []
    for index, head in enumerate(heads):
        layer = network.get_layer(network.output_names[index])
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        found.append(Output(head, index, "probability" if activation == "sigmoid" else "logit"))
    return tuple(found)


def stride_of(network: keras.Model) -> int:
    """Return the largest factor by which a network reduces its input: sides must be multiples of it."""
    return max((int(s) for s in _strides(network).values() if s), default=1)


def macs_per_px(network: keras.Model, side: int = 256) -> float:
    """Return the multiply-adds of all convolutions and dense layers for a side × side input, per input pixel."""
    strides = _strides(network)
    total = 0.0
    for layer in network.layers:
        # A transposed convolution multiplies for each pixel of its input, all others for each pixel of their output
        before = layer.inbound_nodes[0].inbound_layers if isinstance(layer, layers.Conv2DTranspose) else layer
        stride = strides[as_list(before)[0].name] or side
        kernels = (getattr(layer, name, None) for name in ("kernel", "depthwise_kernel", "pointwise_kernel"))
        total += sum(k.shape.num_elements() for k in kernels if k is not None) / stride**2
    return total


def _strides(network: keras.Model) -> dict[str, float]:
    """Return the stride of each layer's output, by name; 0 after global pooling."""
    found: dict[str, float] = {}
    for layer in network.layers:
        before = [s.name for node in layer.inbound_nodes for s in as_list(node.inbound_layers)]
        stride = min((found[name] for name in before if found.get(name)), default=0.0 if before else 1.0)
        if isinstance(layer, layers.UpSampling2D):
            stride /= layer.size[0]
        elif isinstance(layer, layers.Conv2DTranspose):
            stride /= layer.strides[0]
        elif isinstance(layer, (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)):
            stride = 0.0
        elif isinstance(getattr(layer, "strides", None), tuple):
            stride *= layer.strides[0]
        found[layer.name] = stride
    return found
