"""A converted graph and its card: which output is which, told by a known answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

from cellseg_device import card as cards
from cellseg_device.card import Card, Output
from cellseg_device.quiet import quiet_stderr
from cellseg_host.architectures import as_list
from cellseg_host.quantize.errors import QuantizationError

# Side of the known input, where the graph takes any; a multiple of every stride
SIDE = 256
# Least correlation of an output of the converted graph with the network's own
_ALIKE = 0.9
_FREE_SIDE = 256  # of the input, where a graph takes any


def carded(network: keras.Model, outputs: Sequence[Output], card: Card, flatbuffer: bytes) -> bytes:
    """Attach the card to a flatbuffer, each output at its place.

    Parameters
    ----------
    network : keras.Model
        What was converted.
    outputs : sequence of Output
        What the network's outputs mean, in its order.
    card : Card
        Its outputs are replaced by those found.
    flatbuffer : bytes

    Raises
    ------
    QuantizationError
        If the graph does not answer as the network does.
    """
    interpreter = open_graph(flatbuffer)
    height, width = (n if n > 0 else SIDE for n in interpreter.get_input_details()[0]["shape_signature"][1:3])
    image = _probe(height, width)
    expected = [e.numpy() for e in as_list(network(image, training=False))]
    if expected[0].size > 1:
        matched = match_outputs(outputs, expected, run_graph(interpreter, image))
    else:  # a classifier's only output; a single number correlates with nothing
        matched = (dataclasses.replace(outputs[0], index=0),)
    return cards.attach(flatbuffer, dataclasses.replace(card, outputs=matched))


def match_outputs(
    outputs: Sequence[Output], expected: Sequence[np.ndarray], found: Sequence[np.ndarray]
) -> tuple[Output, ...]:
    """Find each of the network's outputs among those of the converted graph, which permutes them.

    Parameters
    ----------
    outputs : sequence of Output
    expected : sequence of ndarray
        The float network's answer to some input, in the order of `outputs`.
    found : sequence of ndarray
        The converted graph's answer, as real values.

    Raises
    ------
    QuantizationError
        If one is not there: no tensor of its shape correlates with it by at least 0.9.
    """
    matched = []
    for output, values in zip(outputs, expected, strict=True):
        similar = [_correlation(values, f) if f.shape == values.shape else -1.0 for f in found]
        best = int(np.argmax(similar))
        if similar[best] < _ALIKE:
            raise QuantizationError(
                f"the converted network does not answer as the float one: its {output.quantity} map correlates by "
                f"{similar[best]:.2f} only. Calibrate with more images, or train longer"
            )
        matched.append(dataclasses.replace(output, index=best))
    return tuple(matched)


def open_graph(flatbuffer: bytes, **options: Any) -> Interpreter:
    """An interpreter of the graph, silent; `options` are its own."""
    with quiet_stderr():
        interpreter = Interpreter(model_content=cards.strip(flatbuffer), **options)
        entry = interpreter.get_input_details()[0]
        free = entry["shape_signature"] < 0
        if free.any():  # as it stands 1 × 1, of which a max-pooling leaves nothing
            interpreter.resize_tensor_input(entry["index"], np.where(free, _FREE_SIDE, entry["shape"]))
        interpreter.allocate_tensors()
    return interpreter


def run_graph(interpreter: Interpreter, image: np.ndarray) -> list[np.ndarray]:
    """The graph's outputs as real values.

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
    """The real values of a tensor, float32."""
    step, zero = detail["quantization"]
    return (tensor.astype(np.float32) - zero) * step if step else tensor.astype(np.float32)


def _probe(height: int, width: int) -> np.ndarray:
    """Smooth blobs, (1, height, width, 3): an input on which every output of a trained network varies."""
    rows, cols = np.mgrid[:height, :width]
    blobs = np.sin(rows / 7.0) * np.sin(cols / 9.0) * np.sin((rows + cols) / 31.0)
    return np.repeat(np.clip(blobs, 0, 1)[None, ..., None], 3, axis=3).astype(np.float32)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-12))
