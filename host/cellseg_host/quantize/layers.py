"""Where int8 loses: the signal-to-noise ratio of each layer's int8 output against the float one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import OpResolverType

from cellseg_device.model import card as cards
from cellseg_device.model.graph import operator_details
from cellseg_device.system.csv_text import csv_bytes
from cellseg_host.quantize.errors import QuantizationError
from cellseg_host.quantize.with_card import open_graph, real, run_graph

Power = npt.NDArray[np.float64]

# Operators that change the scale of a tensor and belong to no layer
_SCALING = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class LayerError:
    """The noise of one layer.

    Attributes
    ----------
    layer : str
        Name of the network's layer: the last of those that are one operator on the device. For an output, its quantity.
    operator : str
        On the device.
    channels : int
    snr_db : float
        Signal-to-noise ratio of its output: per channel 10 · log10(Σ f² / Σ (q − f)²) of the float values f and the
        int8 ones q, mean over the channels, so that a strong channel does not hide what the weak ones lose.
    own_db : float
        The same for the noise that was not in its inputs already; infinite if it adds none.
    """

    layer: str
    operator: str
    channels: int
    snr_db: float
    own_db: float


@dataclass(frozen=True)
class _Node:
    layer: str
    operator: str
    inputs: tuple[int, ...]
    output: int


def errors(twin: bytes, model: bytes, images: Iterable[np.ndarray]) -> tuple[LayerError, ...]:
    """Compare a model, layer by layer, with the float model of the same weights.

    Parameters
    ----------
    twin : bytes
        Float32 .tflite with its card.
    model : bytes
        Int8 .tflite with its card.
    images : iterable of ndarray of float32, shape (1, height, width, 3)
        In [0, 1]; signal and noise are summed over all of them.

    Returns
    -------
    tuple of LayerError
        The one that adds the most noise first.

    Raises
    ------
    QuantizationError
        If the models have no layer in common.
    """
    plain, rounded = _Graph(twin), _Graph(model)
    outputs = {node.layer: node.output for node in plain.nodes}
    pairs = {node.output: outputs[node.layer] for node in rounded.nodes if node.layer in outputs}
    if not pairs:
        raise QuantizationError("no layer of the int8 model has a counterpart in the float one: nothing to compare")
    signal: dict[int, Any] = dict.fromkeys(pairs, 0.0)
    noise: dict[int, Any] = dict.fromkeys(pairs, 0.0)
    for image in images:
        plain.run(image)
        rounded.run(image)
        for mine, other in pairs.items():
            exact, found = plain.values(other), rounded.values(mine)
            if exact.shape == found.shape:
                signal[mine] = signal[mine] + _power(exact)
                noise[mine] = noise[mine] + _power(found - exact)
    ratio = {t: _ratio(signal[t], noise[t]) for t in pairs if np.any(signal[t])}
    return _ranked(rounded, ratio, {t: np.size(signal[t]) for t in pairs})


def to_csv(found: Sequence[LayerError]) -> bytes:
    """Return CSV with a row per layer, in this order."""
    rows = [(e.layer, e.operator, e.channels, e.snr_db, e.own_db) for e in found]
    return csv_bytes([("layer", "operator", "channels", "snr_db", "own_db"), *rows], float_format=".2f")


class _Graph:
    """A graph whose tensors can all be read."""

    def __init__(self, model: bytes) -> None:
        self.interpreter = open_graph(
            model,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self.details = {d["index"]: d for d in self.interpreter.get_tensor_details()}
        ends = self.interpreter.get_output_details()
        named = {int(ends[o.index]["index"]): o.quantity for o in cards.read_from(model).outputs}
        self.nodes = [
            _Node(
                named.get(int(op["outputs"][0]), _layer(self.details[int(op["outputs"][0])]["name"])),
                op["op_name"],
                tuple(int(i) for i in op["inputs"]),
                int(op["outputs"][0]),
            )
            for op in operator_details(self.interpreter)
        ]
        self.nodes = [n for n in self.nodes if self.details[n.output]["dtype"] in (np.float32, np.int8)]

    def run(self, image: np.ndarray) -> None:
        run_graph(self.interpreter, image)

    def values(self, index: int) -> np.ndarray:
        return real(self.details[index], self.interpreter.get_tensor(index))


def _layer(tensor: str) -> str:
    """Return the layer in a tensor's name, ``network/layer/operation;…``; the first is the last of those fused."""
    first = tensor.split(";")[0].split("/")
    return first[1] if len(first) > 1 else first[0]


def _power(values: np.ndarray) -> Power:
    """Return the sum of squares of each channel."""
    sums: Power = np.square(values.reshape(-1, values.shape[-1]), dtype=np.float64).sum(axis=0)
    return sums


def _ratio(signal: Power, noise: Power) -> float:
    """Return the ratio of noise to signal: the geometric mean over the channels that are not always 0."""
    alive = signal > 0
    return float(np.exp(np.log(np.maximum(noise[alive], 1e-12 * signal[alive]) / signal[alive]).mean()))


def _ranked(graph: _Graph, ratio: Mapping[int, float], channels: Mapping[int, int]) -> tuple[LayerError, ...]:
    """Return the layers by what each adds to the noise of its noisiest input, most first."""
    reached: dict[int, float] = {}
    found: dict[str, LayerError] = {}
    for node in graph.nodes:
        before = max((reached.get(i, 0.0) for i in node.inputs), default=0.0)
        reached[node.output] = ratio.get(node.output, before)
        if node.output in ratio and node.operator not in _SCALING:
            after = ratio[node.output]
            found[node.layer] = LayerError(
                node.layer, node.operator, channels[node.output], -_db(after), -_db(max(after - before, 0.0))
            )
    return tuple(sorted(found.values(), key=lambda e: e.own_db))


def _db(power: float) -> float:
    return 10 * math.log10(power) if power > 0 else -math.inf
