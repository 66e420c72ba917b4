"""The networks, one file each. A network maps levels in [0, 1] to logits, in tensors the device understands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tf_keras as keras

from cellseg_device.card import Output
from cellseg_device.errors import InputError
from cellseg_host.architectures import edge_unet, unet


@dataclass(frozen=True)
class Architecture:
    """How a network is built and run.

    Attributes
    ----------
    build : callable
        Gives an untrained network with an input of shape (None, None, None, 3) in [0, 1].
    outputs : tuple of Output
        What its outputs are, in the order of the Keras model's.
    stride : int
        Largest stride: inputs are multiples of it.
    margin : int
        Pixels along a cut between tiles whose answer is not used; at least the receptive field's radius, where the
        results must not depend on the tiling.
    """

    build: Callable[[], keras.Model]
    outputs: tuple[Output, ...]
    stride: int
    margin: int


ARCHITECTURES = {
    "edge-unet": Architecture(
        edge_unet.build,
        (Output("foreground", 0, "logit"), Output("distance", 1, "logit")),
        edge_unet.STRIDE,
        edge_unet.MARGIN,
    ),
    "unet": Architecture(unet.build, (Output("foreground", 0, "probability"),), unet.STRIDE, unet.MARGIN),
}


def get(name: str) -> Architecture:
    """The architecture of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"no architecture '{name}': choose one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def as_list(outputs: Any) -> list[Any]:
    """The outputs of a network, or their shapes, as a list: Keras gives a single one bare."""
    return outputs if isinstance(outputs, list) else [outputs]


def macs_per_px(build: Callable[[], keras.Model], side: int = 256) -> float:
    """Multiply-adds of all convolutions for a side × side input, per input pixel."""
    # The output shapes of a graph of unknown size are unknown: ask a copy with a fixed input.
    fixed = keras.models.clone_model(build(), input_tensors=keras.Input((side, side, 3)))
    total = 0
    for layer in fixed.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            height, width = layer.input_shape[1:3]
        elif isinstance(layer, keras.layers.Conv2D):
            height, width = layer.output_shape[1:3]
        else:
            continue
        total += layer.kernel.shape.num_elements() * height * width
    return total / side**2
