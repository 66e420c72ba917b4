"""A converted graph and its card: which output is which, found by a known answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Output
from cellseg_device.model.classifier import QUANTITIES
from cellseg_device.stderr import quiet_stderr
from cellseg_host.architectures import as_list
from cellseg_host.quantize.errors import QuantizationError

# Side of the known input, if the graph takes any size; a multiple of every stride
SIDE = 256
# Least correlation of an output of the converted graph with the network's own output
_ALIKE = 0.9
_FREE_SIDE = 256  # of the input, if a graph takes any size


def with_card(network: keras.Model, outputs: Sequence[Output], card: Card, flatbuffer: bytes) -> bytes:
    """Return a flatbuffer with its card, which says which output is which.

    Parameters
    ----------
    network : keras.Model
        The converted network.
    outputs : sequence of Output
        The network's outputs, in its order.
    card : Card
        Its outputs are replaced by those found in the graph.
    flatbuffer : bytes

    Raises
    ------
    QuantizationError
        If the graph's outputs differ from the network's.
    """
    interpreter = open_graph(flatbuffer)
    height, width = (n if n > 0 else SIDE for n in interpreter.get_input_details()[0]["shape_signature"][1:3])
    image = _probe(height, width)
    expected = [e.numpy() for e in as_list(network(image, training=False))]
    if outputs[0].quantity not in QUANTITIES:
        matched = match_outputs(outputs, expected, run_graph(interpreter, image))
    else:  # a classifier's only output; a few numbers correlate with anything
        matched = (dataclasses.replace(outputs[0], index=0),)
    return cards.attach(flatbuffer, dataclasses.replace(card, outputs=matched))


def match_outputs(
    outputs: Sequence[Output], expected: Sequence[np.ndarray], found: Sequence[np.ndarray]
) -> tuple[Output, ...]:
    """Return the network's outputs with their places in the converted graph, which permutes them.

    Parameters
    ----------
    outputs : sequence of Output
    expected : sequence of ndarray
        The float network's outputs for some input, in the order of `outputs`.
    found : sequence of ndarray
        The converted graph's outputs for it, as real values.

    Raises
    ------
    QuantizationError
        If one is missing: no tensor of its shape correlates with it by at least 0.9.
    """
    matched = []
    for output, values in zip(outputs, expected, strict=True):
        similar = [_correlation(values, f) if f.shape == values.shape else -1.0 for f in found]
        best = int(np.argmax(similar))
        if similar[best] < _ALIKE:
            raise QuantizationError(
                f"the converted network's outputs differ from the float one's: its {output.quantity} map correlates by "
                f"only {similar[best]:.2f}. Calibrate with more images, or train longer"
            )
        matched.append(dataclasses.replace(output, index=best))
    return tuple(matched)


def open_graph(flatbuffer: bytes, **options: Any) -> Interpreter:
    """Return a silent interpreter of the graph; `options` are the interpreter's."""
    with quiet_stderr():
        interpreter = Interpreter(model_content=cards.strip(flatbuffer), **options)
        entry = interpreter.get_input_details()[0]
        free = entry["shape_signature"] < 0
        if free.any():  # else 1 × 1, of which max-pooling leaves nothing
            interpreter.resize_tensor_input(entry["index"], np.where(free, _FREE_SIDE, entry["shape"]))
        interpreter.allocate_tensors()
    return interpreter


def run_graph(interpreter: Interpreter, image: np.ndarray) -> list[np.ndarray]:
    """Return the graph's outputs as real values.

    Parameters
    ----------
    interpreter : Interpreter
    image : ndarray of float32, shape (1, height, width, 3)
        In [0, 1].
    """
    entry = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(entry["index"], image.shape)
    interpreter.allocate_tensors()
    quantized = entry["dtype"] is np.int8
    interpreter.set_tensor(entry["index"], np.rint(image * 255 - 128).astype(np.int8) if quantized else image)
    interpreter.invoke()
    return [real(d, interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]


def real(detail: dict[str, Any], tensor: np.ndarray) -> np.ndarray:
    """Return the real values of a tensor, float32."""
    step, zero = detail["quantization"]
    return (tensor.astype(np.float32) - zero) * step if step else tensor.astype(np.float32)


def _probe(height: int, width: int) -> np.ndarray:
    """Return smooth blobs, (1, height, width, 3): an input on which every output of a trained network varies."""
    rows, cols = np.mgrid[:height, :width]
    blobs = np.sin(rows / 7.0) * np.sin(cols / 9.0) * np.sin((rows + cols) / 31.0)
    return np.repeat(np.clip(blobs, 0, 1)[None, ..., None], 3, axis=3).astype(np.float32)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-12))
