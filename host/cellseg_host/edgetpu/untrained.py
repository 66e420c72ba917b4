"""The check before training: an architecture with random weights, calibrated with random images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellseg_device.errors import InputError
from cellseg_host.architectures import Architecture, for_inference
from cellseg_host.edgetpu import check, rules
from cellseg_host.edgetpu.check import Verdict
from cellseg_host.quantize import convert

TILE = (256, 256)


def check_architecture(
    arch: Architecture,
    options: Mapping[str, Any] | None = None,
    tile: tuple[int, int] = TILE,
    heads: Sequence[str] = (),
    compiler: int = rules.COMPILER,
) -> Verdict:
    """Return the verdict on an untrained network: operators and their shapes do not depend on weights.

    Parameters
    ----------
    arch : Architecture
    options : mapping or None
        Of the architecture, where they differ from its own.
    tile : (height, width)
        The size that the input would be fixed to.
    heads : sequence of str
        Maps that it predicts; empty for those of the architecture.
    compiler : int

    Raises
    ------
    InputError
        If the network cannot be built with these options, or the tile does not fit it.
    QuantizationError
        If TensorFlow cannot convert it to int8.
    """
    return check.check(untrained_model(arch, options, tile, heads), arch.name, compiler)


def untrained_model(
    arch: Architecture,
    options: Mapping[str, Any] | None = None,
    tile: tuple[int, int] = TILE,
    heads: Sequence[str] = (),
) -> bytes:
    """Return the int8 .tflite of an untrained network; see `check_architecture`."""
    if any(n % arch.stride for n in tile) or min(tile) < arch.stride:
        raise InputError(f"--tile must be a multiple of {arch.stride} for {arch.name}")
    heads = tuple(heads or arch.heads)
    network = for_inference(arch.network(heads, **(options or {})), heads)
    rng = np.random.default_rng(0)

    def noise() -> Iterator[np.ndarray]:
        image = rng.random((1, *tile, 3), np.float32)
        image[0, 0, :2] = [[0], [1]]
        yield image

    return convert(network, "int8", tile, noise)
