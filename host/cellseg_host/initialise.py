"""Where a training starts from: the weights of an earlier run, or those inside a released .tflite model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

from cellseg_device import card as cards
from cellseg_device.errors import InputError
from cellseg_device.quiet import quiet_stderr
from cellseg_host import runs
from cellseg_host.architectures import as_list, for_inference

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Dense)  # Conv2DTranspose and DepthwiseConv2D are Conv2D too
_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def initialise(network: keras.Model, source: Path, heads: Sequence[str], images: Callable[[], Iterator[Any]]) -> str:
    """Give a network the weights of a run folder or of a .tflite model.

    Parameters
    ----------
    network : keras.Model
        Changed in place. Its heads may be others than the source's: those keep their random weights.
    source : Path
    heads : sequence of str
    images : callable
        Gives batches (n, height, width, 3) in [0, 1], from which batch statistics are taken, for a .tflite.

    Returns
    -------
    str
        What was taken over, in a line.

    Raises
    ------
    InputError
        If the source cannot be read, or is of another network.
    """
    if source.is_file() and source.suffix == ".tflite":
        _from_flatbuffer(for_inference(network, heads), cards.strip(cards.read_model_file(source)), source, images)
        return f"started from {source}: the weights of {len(_convolutions(network))} layers"
    older = runs.open_run(source).network
    taken = _copy(older, network, source)
    return f"started from {source}: the weights of {taken} layers"


def freeze(network: keras.Model, what: str) -> None:
    """Let the training leave alone: ``"none"``, the ``"encoder"``, or ``"all-but-head"``.

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
        fits = found is not None and [w.shape for w in found.weights] == [w.shape for w in layer.weights]
        if fits:
            layer.set_weights(found.get_weights())
            taken += 1
        elif layer.name not in network.output_names:
            raise InputError(
                f"--init {source}: its weights do not fit: layer '{layer.name}' is "
                f"{'of another shape' if found is not None else 'not there'}: use the --arch and --option of that run"
            )
    return taken


def _convolutions(network: keras.Model) -> list[Any]:
    return [layer for layer in network.layers if isinstance(layer, _CONVOLUTIONS)]


def _from_flatbuffer(
    network: keras.Model, flatbuffer: bytes, source: Path, images: Callable[[], Iterator[Any]]
) -> None:
    """Take the convolutions' weights out of a graph, and undo the folding of batch normalisation.

    A graph holds for each convolution a kernel and a bias with the normalisation folded in. So the normalisation is
    first made the identity plus that bias, which gives the graph's function; then, since training normalises by the
    statistics of its batches, it gets those of `images` and the scale and shift that undo them.
    """
    with quiet_stderr():
        interpreter = Interpreter(model_content=flatbuffer)
        interpreter.allocate_tensors()
    layers, found = _convolutions(network), list(_constants(interpreter))
    kernels = [_kernel(layer, kernel) for layer, (_, kernel, _) in zip(layers, found, strict=False)]
    misfit = next((la.name for la, k in zip(layers, kernels, strict=True) if k is None), None)
    if len(layers) != len(found) or misfit:
        where = f"layer '{misfit}' is of another shape" if misfit else f"it has {len(found)} layers, not {len(layers)}"
        raise InputError(
            f"--init {source}: its weights do not fit {network.name} ({where}): use the --arch and --option it was "
            "made with (cellseg-device info), with its --heads"
        )
    norms = _normalisations(network)
    for layer, kernel, (_, _, bias) in zip(layers, kernels, found, strict=True):
        if layer.use_bias:
            layer.set_weights([kernel, bias])
            continue
        layer.set_weights([kernel])
        if layer.name not in norms:
            raise InputError(f"--init {source}: batch normalisation cannot be undone after '{layer.name}': use its run")
        norm = norms[layer.name]
        _, _, mean, variance = norm.get_weights()
        norm.set_weights([np.sqrt(1 + norm.epsilon) + 0 * mean, bias, 0 * mean, 0 * variance + 1])
    if norms:
        _restate(network, list(norms.values()), images())


def _constants(interpreter: Any) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(operator, kernel, bias) of all convolutions as real values, in the order they run."""
    details = {d["index"]: d for d in interpreter.get_tensor_details()}

    def real(index: int) -> np.ndarray:
        values = interpreter.get_tensor(index).astype(np.float32)
        told = details[index]["quantization_parameters"]
        if not len(told["scales"]):
            return values
        shape = [1] * values.ndim
        shape[told["quantized_dimension"]] = len(told["scales"])
        return (values - told["zero_points"].reshape(shape)) * told["scales"].reshape(shape)

    for operator in interpreter._get_ops_details():
        name, inputs = operator["op_name"], [int(i) for i in operator["inputs"]]
        if name not in _OPERATORS:
            continue
        kernel = real(inputs[1])
        place = 3 if name == "TRANSPOSE_CONV" else 2
        channels = kernel.shape[3] if name == "DEPTHWISE_CONV_2D" else kernel.shape[0]
        has_bias = len(inputs) > place and inputs[place] >= 0
        yield name, kernel, real(inputs[place]) if has_bias else np.zeros(channels, np.float32)


def _kernel(layer: Any, kernel: np.ndarray) -> np.ndarray | None:
    """A graph's kernel in the order that Keras has for this layer; None if it does not fit."""
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
    """The batch normalisation that directly follows a convolution, by the convolution's name."""
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
