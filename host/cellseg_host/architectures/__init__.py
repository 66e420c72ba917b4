"""The networks, one file each. A network maps levels in [0, 1] to logits, in tensors the device understands.

A network's file offers ``build(heads, **options)`` and what `Architecture` says of it; a file of a user's own that does
the same is as good as ours (``--arch FILE.py:build``, see `cellseg_host.plugins`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tf_keras as keras

from cellseg_device.card import Output
from cellseg_device.errors import InputError
from cellseg_host.architectures import edge_unet, hrnet, unet, unetpp
from cellseg_host.nearest import unknown


@dataclass(frozen=True)
class Architecture:
    """How a network is built and run.

    Attributes
    ----------
    name : str
    build : callable
        ``build(heads, **options)`` gives an untrained network: one input, (None, None, None, 3) in [0, 1]; for each of
        `heads` one output, (None, h, w, block²) of logits (or of probabilities, where it ends in a sigmoid), named
        after it. Options are keyword-only and have defaults. A deeply supervised network has several outputs for each
        head, group by group, the one to be used last. Layers that belong to neither encoder nor heads have names
        that begin with ``decoder``.
    stride : int
        Largest stride: inputs are multiples of it.
    margin : int
        Pixels along a cut between tiles whose answer is not used, a multiple of `stride`; at least the receptive
        field's radius, where the results must not depend on the tiling.
    paper : str
        Where it comes from.
    heads : tuple of str
        Quantities it learns unless told otherwise; ``("presence",)`` for a classifier of images.
    options : mapping
        Of `build`, where they differ from its defaults.
    """

    name: str
    build: Callable[..., keras.Model]
    stride: int
    margin: int
    paper: str
    heads: tuple[str, ...] = ("foreground",)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_classifier(self) -> bool:
        """Whether it judges an image as a whole."""
        return self.heads == ("presence",)

    def network(self, heads: Sequence[str] = (), **options: Any) -> keras.Model:
        """An untrained network; options that are not given are the architecture's own.

        Raises
        ------
        InputError
            If an option is unknown or its value does not work.
        """
        known = option_defaults(self.build)
        for key in options:
            if key not in known:
                raise InputError(f"--option: {self.name} {unknown('option', key, list(known))}")
        try:
            return self.build(tuple(heads or self.heads), **{**self.options, **options})
        except (ValueError, TypeError) as error:
            told = ", ".join(f"{k}={v}" for k, v in options.items()) or "its defaults"
            raise InputError(f"--arch {self.name} cannot be built with {told}: {str(error).splitlines()[0]}") from None


ARCHITECTURES = {
    a.name: a
    for a in (
        Architecture(
            "edge-unet",
            edge_unet.build,
            edge_unet.STRIDE,
            edge_unet.MARGIN,
            "this project",
            ("foreground", "distance"),
        ),
        Architecture("unet", unet.build, unet.STRIDE, unet.MARGIN, unet.PAPER),
        # The variants of the published work on DSB2018 crops of 128 px, and on fields of 200 × 200
        Architecture(
            "unet-128",
            unet.build,
            unet.STRIDE,
            unet.MARGIN,
            unet.PAPER,
            options={"activation": "elu", "dropout": (0.1, 0.1, 0.2, 0.2, 0.3)},
        ),
        Architecture(
            "unet-200",
            unet.build,
            8,
            unet.MARGIN,
            unet.PAPER,
            options={"filters": (32, 64, 128, 256), "dropout": (0.0,), "batch_norm": True},
        ),
        Architecture("unetpp", unetpp.build, unetpp.STRIDE, unetpp.MARGIN, unetpp.PAPER),
        Architecture("hrnet", hrnet.build, hrnet.STRIDE, hrnet.MARGIN, hrnet.PAPER),
        Architecture("hrnet-w18-small", hrnet.build, hrnet.STRIDE, hrnet.MARGIN, hrnet.PAPER, options=hrnet.SMALL),
    )
}


def get(name: str) -> Architecture:
    """The architecture of this name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in ARCHITECTURES:
        raise InputError(f"--arch: {unknown('architecture', name, list(ARCHITECTURES))}")
    return ARCHITECTURES[name]


def option_defaults(build: Callable[..., keras.Model]) -> dict[str, Any]:
    """The options of a `build` function, with their defaults."""
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def as_list(outputs: Any) -> list[Any]:
    """The outputs of a network, or their shapes, as a list: Keras gives a single one bare."""
    return outputs if isinstance(outputs, list) else [outputs]


def for_inference(network: keras.Model, heads: Sequence[str], depth: int | None = None) -> keras.Model:
    """The network with one output for each head, and no layer that those do not need.

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
    """What the outputs of a network mean, for the card: logits, or probabilities where a sigmoid comes last."""
    found = []
    for index, head in enumerate(heads):
        layer = network.get_layer(network.output_names[index])
        activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
        found.append(Output(head, index, "probability" if activation == "sigmoid" else "logit"))
    return tuple(found)


def macs_per_px(network: keras.Model, side: int = 256) -> float:
    """Multiply-adds of all convolutions and dense layers for a side × side input, per input pixel."""
    # The output shapes of a graph of unknown size are unknown: ask a copy with a fixed input.
    fixed = keras.models.clone_model(network, input_tensors=keras.Input((side, side, 3)))
    total = 0
    for layer in fixed.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            height, width = layer.input_shape[1:3]
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            total += layer.depthwise_kernel.shape.num_elements() * layer.output_shape[1] * layer.output_shape[2]
            continue
        elif isinstance(layer, keras.layers.Conv2D):
            height, width = layer.output_shape[1:3]
        elif isinstance(layer, keras.layers.Dense):
            height = width = 1
        else:
            continue
        total += layer.kernel.shape.num_elements() * height * width
    return total / side**2
