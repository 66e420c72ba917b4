"""A user's architecture, tried before any training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from cellseg_device.errors import ModelError
from cellseg_device.model.card import Output
from cellseg_device.model.interpreter import map_spec
from cellseg_host import architectures
from cellseg_host.architectures import Architecture
from cellseg_host.plugins.loading import Plugin, described, find, is_spec, one_line

DEFAULT_STRIDE, DEFAULT_MARGIN = 32, 64


def find_architecture(name: str, heads: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Architecture:
    """Return an architecture by its name, or a user's own by ``FILE.py:build``."""
    return architecture(name, heads, options) if is_spec(name) else architectures.get(name)


def architecture(spec: str, heads: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Architecture:
    """Return a user's architecture, after building it and running it once.

    Parameters
    ----------
    spec : str
        ``FILE.py:build``.
    heads : sequence of str
        Maps to learn; empty for the file's HEADS, or else foreground.
    options : mapping or None
        For the build function.

    Returns
    -------
    Architecture
        Named after the file.

    Raises
    ------
    InputError
        If it cannot be loaded or built, or the network's inputs or outputs are not as they should be.
    """
    plugin = find(spec, "--arch")
    plugin.check_signature("build(heads, *, option=default, …)", 1)
    stride = getattr(plugin.module, "STRIDE", DEFAULT_STRIDE)
    if not isinstance(stride, int) or stride < 1:
        raise plugin.error(f"STRIDE must be a whole number from 1, not {described(stride)}")
    margin = getattr(plugin.module, "MARGIN", math.ceil(DEFAULT_MARGIN / stride) * stride)
    if not isinstance(margin, int) or margin < 0 or margin % stride:
        raise plugin.error(f"MARGIN must be a multiple of STRIDE, {stride}, not {described(margin)}")
    found = Architecture(
        plugin.path.stem,
        plugin.as_function(),
        stride,
        margin,
        str(getattr(plugin.module, "PAPER", plugin.path.name)),
        tuple(getattr(plugin.module, "HEADS", ("foreground",))),
    )
    heads = tuple(heads or found.heads)
    _check(plugin, found.network(heads, **(options or {})), heads, stride)
    return found


def _check(plugin: Plugin, network: Any, heads: tuple[str, ...], stride: int) -> None:
    if not isinstance(network, keras.Model):
        hint = ": import tf_keras as keras, not keras" if type(network).__module__.startswith("keras.") else ""
        raise plugin.error(f"must return a keras.Model of tf_keras, not {described(network)}{hint}")
    inputs = [tuple(i.shape) for i in network.inputs or ()]
    if inputs != [(None, None, None, 3)]:
        found = ", ".join(map(str, inputs)) or "none"
        raise plugin.error(f"must have one input, keras.Input((None, None, 3)), for images of any size, not {found}")
    if len(network.outputs) < len(heads) or len(network.outputs) % len(heads):
        raise plugin.error(f"must have an output for each of {', '.join(heads)}, not {len(network.outputs)} in all")
    height, width = size = (2 * stride, 3 * stride)
    try:
        answers = architectures.as_list(network(tf.zeros((1, *size, 3)), training=False))
    except Exception as error:  # noqa: BLE001 - the user's layers may raise anything
        reason = one_line(error, plugin.path)
        raise plugin.error(f"fails on an image of {height}×{width} px, 2 × 3 times its STRIDE: {reason}") from None
    for index, (answer, name) in enumerate(zip(answers, network.output_names, strict=True)):
        head, shape = heads[index % len(heads)], tuple(answer.shape)
        if len(heads) > 1 and not name.startswith(head):
            raise plugin.error(f"output {index} must be {head}, from a layer of that name, not '{name}'")
        if head == "presence" and shape != (1, 1, 1, 1):
            raise plugin.error(f"output {index}, presence, must have the shape (batch, 1, 1, 1), not {shape}")
        if head == "kind" and (shape[:3] != (1, 1, 1) or len(shape) != 4):
            raise plugin.error(f"output {index}, kind, must have the shape (batch, 1, 1, classes), not {shape}")
        if head not in ("presence", "kind"):
            try:
                map_spec(Output(head, index, "logit"), shape, size, None)
            except ModelError as error:
                raise plugin.error(error.message) from None
        if not np.isfinite(answer.numpy()).all():
            raise plugin.error(f"output {index}, {head}, is not finite for a black image")
