"""Where a training starts from: the weights of an earlier run, or those inside a released .tflite model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

from cellseg_device.errors import InputError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Join
from cellseg_device.model.faults import as_model_faults
from cellseg_device.model.graph import operator_details
from cellseg_device.stderr import quiet_stderr
from cellseg_host.architectures import as_list, for_inference
from cellseg_host.training import runs

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Dense)  # Conv2DTranspose and DepthwiseConv2D are Conv2D too
_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def initialise(network: keras.Model, source: Path, heads: Sequence[str], images: Callable[[], Iterator[Any]]) -> str:
    """Give a network the weights of a run or of a .tflite model.

    Parameters
    ----------
    network : keras.Model
        Changed in place. Heads that the source does not have keep their random weights.
    source : Path
    heads : sequence of str
    images : callable
        Returns batches (n, height, width, 3) in [0, 1], on which batch statistics are measured, for a .tflite.

    Returns
    -------
    str
        A line that says what was copied.

    Raises
    ------
    InputError
        If the source cannot be read, or is of another network.
    ModelError
        If it is a model file that cannot be used.
    """
    if source.is_file() and source.suffix == ".tflite":
        data = cards.read_model_file(source)
        with as_model_faults(source):
            _from_flatbuffer(for_inference(network, heads), data, source, images)
        return f"started from {source}: the weights of {len(_convolutions(network))} layers"
    older = runs.open_run(source).network
    taken = _copy(older, network, source)
    return f"started from {source}: the weights of {taken} layers"


def options_of(source: Path, arch: str) -> Mapping[str, Any]:
    """Return the options that a run or a .tflite model was made with; none if it is of another architecture.

    Raises
    ------
    InputError, ModelError
        If it cannot be read.
    """
    card = _card(source)
    if card is not None:
        settings = card.provenance.get("settings")
        if not isinstance(settings, dict) or settings.get("arch") != arch:
            return {}
        return {k: tuple(v) if isinstance(v, list) else v for k, v in (settings.get("options") or {}).items()}
    older = runs.open_run(source).settings
    return older.options if older.arch == arch else {}


def join_of(source: Path) -> Join | None:
    """Return when touching pieces are one cell by a .tflite model, or by the one that a run started from.

    Raises
    ------
    InputError, ModelError
        If it cannot be read.
    """
    card = _card(source)
    return runs.open_run(source).start_join if card is None else card.separation.join


def _card(source: Path) -> Card | None:
    """Return the card of a .tflite model; None for what must be a run."""
    return cards.of_file(source) if source.is_file() and source.suffix == ".tflite" else None


def freeze(network: keras.Model, what: str) -> None:
    """Freeze layers: ``"none"``, the ``"encoder"``, or ``"all-but-head"``.

    Frozen batch normalisations keep their statistics too.

    Raises
    ------
    InputError
        If nothing is left to train.
    """
    heads = set(network.output_names)
    for layer in network.layers:
        if what == "all-but-head":
            layer.trainable = layer.name in heads
        elif what == "encoder":
            layer.trainable = layer.name in heads or layer.name.startswith("decoder")
    if not network.trainable_weights:
        raise InputError(f"--freeze {what} leaves nothing to train")


def _copy(older: keras.Model, network: keras.Model, source: Path) -> int:
    """Copy weights by the layers' names; only heads may differ. Returns the number of layers."""
    by_name = {layer.name: layer for layer in older.layers if layer.weights}
    taken = 0
    for layer in network.layers:
        if not layer.weights:
            continue
        found = by_name.get(layer.name)
        fits = found and [w.shape for w in found.weights] == [w.shape for w in layer.weights]
        if found is not None and fits:
            layer.set_weights(found.get_weights())
            taken += 1
        elif layer.name not in network.output_names:
            raise InputError(
                f"--init {source}: its weights do not fit: layer '{layer.name}' is "
                f"{'of another shape' if found is not None else 'missing'}: use the --arch and --option of that run"
            )
    known = {layer.name for layer in network.layers}
    for name in by_name:
        if name not in known and name not in older.output_names:
            raise InputError(
                f"--init {source}: its weights do not fit: it has an extra layer '{name}': use the --arch and --option "
                "of that run"
            )
    return taken


def _convolutions(network: keras.Model) -> list[Any]:
    return [layer for layer in network.layers if isinstance(layer, _CONVOLUTIONS)]


def _from_flatbuffer(network: keras.Model, data: bytes, source: Path, images: Callable[[], Iterator[Any]]) -> None:
    """Copy the convolutions' weights out of a model file, and undo the folding of batch normalisation.

    A graph holds for each convolution a kernel and a bias with the normalisation folded in. So the normalisation first
    becomes the identity plus that bias, which computes what the graph does; then, since training normalises by the
    statistics of its batches, it gets those of `images`, and the scale and shift that cancel them.
    """
    with quiet_stderr():
        interpreter = Interpreter(model_content=cards.strip(data))
        interpreter.allocate_tensors()
    found = list(_constants(interpreter))
    ends = interpreter.get_output_details()
    by_head = {o.quantity: _convolved(interpreter, ends[o.index]["index"]) for o in cards.read_from(data).outputs}
    layers = _convolutions(network)
    # A head is known by its output tensor; all others are in the order of the graph, which is that of the network
    weights, left = {}, [f for f in found if f.output not in by_head.values()]
    for layer in layers:
        among = [f for f in found if f.output == by_head[layer.name]] if layer.name in by_head else left
        fitting = next((f for f in among if _kernel(layer, f.kernel) is not None), None)
        if fitting is None and layer.name in network.output_names:
            continue  # a head that the model does not have keeps its random weights
        if fitting is None:
            raise InputError(
                f"--init {source}: its weights do not fit {network.name} (nothing in it has the shape of layer "
                f"'{layer.name}'): use the --arch and --option it was made with"
            )
        weights[layer.name] = fitting
        left = [f for f in left if f is not fitting]
    if left:
        raise InputError(
            f"--init {source}: has {len(left)} more layers than {network.name}: use the --arch and --option it was "
            "made with"
        )
    norms = _normalisations(network)
    for layer in layers:
        if layer.name not in weights:
            continue
        kernel, bias = _kernel(layer, weights[layer.name].kernel), weights[layer.name].bias
        if layer.use_bias:
            layer.set_weights([kernel, bias])
            continue
        layer.set_weights([kernel])
        if layer.name not in norms:
            if not bias.any():  # nothing was folded in
                continue
            raise InputError(f"--init {source}: batch normalisation cannot be undone after '{layer.name}': use its run")
        norm = norms[layer.name]
        _, _, mean, variance = norm.get_weights()
        norm.set_weights([np.sqrt(1 + norm.epsilon) + 0 * mean, bias, 0 * mean, 0 * variance + 1])
    if norms:
        _restate(network, list(norms.values()), images())


@dataclass(frozen=True)
class _Constants:
    """Kernel and bias of a convolution in a graph, as real values, and the index of its output tensor."""

    kernel: np.ndarray
    bias: np.ndarray
    output: int


def _constants(interpreter: Any) -> Iterator[_Constants]:
    """Yield the constants of all convolutions, in the order they run."""
    details = {d["index"]: d for d in interpreter.get_tensor_details()}

    def real(index: int) -> np.ndarray:
        values: np.ndarray = interpreter.get_tensor(index).astype(np.float32)
        quantization = details[index]["quantization_parameters"]
        scales, zeros = quantization["scales"], quantization["zero_points"]
        if len(scales):
            shape = [1] * values.ndim
            shape[quantization["quantized_dimension"]] = len(scales)
            values = (values - zeros.reshape(shape)) * scales.reshape(shape)
        return values

    for operator in operator_details(interpreter):
        name, inputs = operator["op_name"], [int(i) for i in operator["inputs"]]
        if name not in _OPERATORS:
            continue
        kernel = real(inputs[1])
        place = 3 if name == "TRANSPOSE_CONV" else 2
        channels = kernel.shape[3] if name == "DEPTHWISE_CONV_2D" else kernel.shape[0]
        has_bias = len(inputs) > place and inputs[place] >= 0
        bias = real(inputs[place]) if has_bias else np.zeros(channels, np.float32)
        yield _Constants(kernel, bias, int(operator["outputs"][0]))


def _convolved(interpreter: Any, tensor: int) -> int:
    """Return the convolution's output tensor from which this one follows by an activation or a change of scale."""
    makers = {int(o["outputs"][0]): o for o in operator_details(interpreter) if o["op_name"] != "DELEGATE"}
    while makers[tensor]["op_name"] not in _OPERATORS:
        tensor = int(makers[tensor]["inputs"][0])
    return tensor


def _kernel(layer: Any, kernel: np.ndarray) -> np.ndarray | None:
    """Return a graph's kernel with its axes as Keras has them for this layer; None if it does not fit."""
    shape = tuple(layer.kernel.shape if not hasattr(layer, "depthwise_kernel") else layer.depthwise_kernel.shape)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        turned = kernel.reshape(shape) if kernel.size == np.prod(shape) else kernel
    elif isinstance(layer, keras.layers.Conv2DTranspose):
        turned = kernel.transpose(1, 2, 0, 3)
    elif isinstance(layer, keras.layers.Dense):
        turned = kernel.reshape(kernel.shape[0], -1).T
    else:
        turned = kernel.transpose(1, 2, 3, 0)
    return turned if turned.shape == shape else None


def _normalisations(network: keras.Model) -> dict[str, Any]:
    """Return the batch normalisations that directly follow a convolution, by the convolution's name."""
    found = {}
    for layer in _convolutions(network):
        followers = [node.outbound_layer for node in layer.outbound_nodes if node.outbound_layer in network.layers]
        if len(followers) == 1 and isinstance(followers[0], keras.layers.BatchNormalization):
            found[layer.name] = followers[0]
    return found


def _restate(network: keras.Model, norms: Sequence[Any], images: Iterator[Any]) -> None:
    """Give identity normalisations the statistics of their inputs, without changing what they compute."""
    probe = keras.Model(network.inputs, [norm.input for norm in norms])
    sums = [[0.0, 0.0] for _ in norms]
    count = 0
    for count, image in enumerate(images, 1):  # noqa: B007 - the count is used after the loop
        for pair, value in zip(sums, as_list(probe(image, training=False)), strict=True):
            pair[0] = pair[0] + np.mean(value, (0, 1, 2))
            pair[1] = pair[1] + np.mean(np.square(value), (0, 1, 2))
    for norm, (first, second) in zip(norms, sums, strict=True):
        mean = first / count
        variance = np.maximum(second / count - mean**2, 1e-6)
        bias = norm.get_weights()[1]
        norm.set_weights([np.sqrt(variance + norm.epsilon), bias + mean, mean, variance])
