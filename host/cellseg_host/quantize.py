"""From a trained run to the .tflite that the device runs."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

from cellseg_device import card as cards
from cellseg_device import files
from cellseg_device.card import Card, Output
from cellseg_device.errors import CellsegError, InputError
from cellseg_device.graph import Operator, operators
from cellseg_device.model import Model
from cellseg_device.quiet import quiet_stderr
from cellseg_device.selftest import answer
from cellseg_host import feed, keras_road
from cellseg_host.architectures import as_list
from cellseg_host.data.dataset import Dataset
from cellseg_host.evaluate import ImageScore, Summary, evaluate, summarise
from cellseg_host.train import Run
from cellseg_host.tune import tune

MODES = ("int8", "dynamic", "float16", "float32")
CALIBRATION_SIDE = 256


class QuantizationError(CellsegError):
    """The network cannot be quantized this way, or came out wrong."""


@dataclass(frozen=True)
class Quantized:
    """A model file and how it compares with the float network, on the validation split.

    Attributes
    ----------
    data : bytes
        The .tflite with its card.
    card : Card
    operators : tuple of Operator
    float_size, size : int
        Bytes.
    float_scores, scores : tuple of ImageScore
        One per validation image, in the same order.
    """

    data: bytes
    card: Card
    operators: tuple[Operator, ...]
    float_size: int
    float_scores: tuple[ImageScore, ...]
    scores: tuple[ImageScore, ...]

    @property
    def float_summary(self) -> Summary:
        """Of the float network."""
        return summarise(self.float_scores)

    @property
    def summary(self) -> Summary:
        """Of the quantized network."""
        return summarise(self.scores)

    @property
    def worst(self) -> tuple[ImageScore, ImageScore]:
        """(float, quantized) score of the image that lost most mean AP."""
        pairs = zip(self.float_scores, self.scores, strict=True)
        return max(pairs, key=lambda pair: pair[0].mean_ap - pair[1].mean_ap)


def quantize(
    run: Run,
    dataset: Dataset,
    mode: str = "int8",
    tile: tuple[int, int] | None = None,
    calibration_images: int = 200,
    name: str | None = None,
    say: Callable[[str], None] = lambda stage: None,
) -> Quantized:
    """Convert a run's best network, attach its card, and compare it with the float network.

    Parameters
    ----------
    run : Run
    dataset : Dataset
        Its train split calibrates the ranges of int8 activations, its val split chooses the separation's
        thresholds and is what both networks are scored on.
    mode : str
        One of `MODES`.
    tile : (height, width) or None
        Static input size; None leaves it free, so that the device takes a whole field at once.
    calibration_images : int
    name : str or None
        The model's name in its card; None for the architecture's.
    say : callable
        Called with what is being done.

    Raises
    ------
    QuantizationError
        If an int8 model still has a float operator, or the converted network does not answer as the float one.
    InputError
        If the tile does not fit the network, or there is nothing to calibrate with.
    """
    arch = run.architecture
    if tile and (any(t % arch.stride for t in tile) or min(tile) <= 2 * arch.margin):
        raise InputError(f"--tile must be a multiple of {arch.stride} and larger than {2 * arch.margin}")
    network, card = run.network, run.card()
    validation = dataset.split("val")

    say("choosing the thresholds on the validation split")
    specs = keras_road.specs(network, arch.outputs)
    levels = [keras_road.levels(dataset.image(e), card) for e in validation]
    maps = [keras_road.predict(network, arch.outputs, arch.stride, image) for image in levels]
    card = dataclasses.replace(
        card, name=name or card.name, separation=tune(maps, [dataset.labels(e) for e in validation], specs)
    )

    def calibration() -> Iterator[np.ndarray]:
        return _calibration(dataset, card, calibration_images, tile or (CALIBRATION_SIDE, CALIBRATION_SIDE))

    say("converting")
    float_data = _carded(network, arch.outputs, card, convert(network, "float32", tile, calibration))
    card = dataclasses.replace(card, quantization=mode)
    data = _carded(network, arch.outputs, card, convert(network, mode, tile, calibration))
    with tempfile.TemporaryDirectory() as folder:
        float_model = _model(Path(folder) / "float.tflite", float_data)
        model = _model(Path(folder) / "model.tflite", data)
        found = operators(model.interpreter)
        if mode == "int8" and (floats := [o for o in found if "float" in " ".join(o.dtypes)]):
            raise QuantizationError(
                f"not full int8: {floats[0].name} works on {', '.join(floats[0].dtypes)} "
                f"({len(floats)} such operators): use --dynamic, or change the network"
            )
        say("scoring the float network")
        float_scores = tuple(evaluate(float_model, dataset, validation))
        say(f"scoring the {mode} network")
        scores = tuple(evaluate(model, dataset, validation))
        card = dataclasses.replace(
            model.card,
            known_answer=answer(model),
            metrics={
                "split": f"val of {dataset.root.resolve().name} ({len(scores)} images)",
                "float32": _rounded(summarise(float_scores)),
                mode: _rounded(summarise(scores)),
            },
        )
    return Quantized(cards.attach(data, card), card, found, len(float_data), float_scores, scores)


def write(quantized: Quantized, path: Path) -> None:
    """Write the model file whole; a model of that name is replaced only then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, quantized.data)


def convert(
    network: keras.Model,
    mode: str,
    tile: tuple[int, int] | None,
    calibration: Callable[[], Iterator[np.ndarray]],
) -> bytes:
    """Convert a Keras network to a TFLite flatbuffer.

    Parameters
    ----------
    network : keras.Model
        Input (None, height, width, 3).
    mode : str
        ``"int8"``: full integer, int8 in and out; ``"dynamic"``: int8 weights, float activations computed on the
        fly; ``"float16"``: half-precision weights; ``"float32"``.
    tile : (height, width) or None
    calibration : callable
        Gives float arrays (1, height, width, 3) in [0, 1]; used for ``"int8"``.
    """
    # A batch of one and no other unknown than the size: what depends on a batch stays out of the graph.
    signature = tf.TensorSpec((1, *(tile or (None, None)), 3), tf.float32)
    function = tf.function(lambda image: network(image, training=False)).get_concrete_function(signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], network)
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode == "int8":
        converter.representative_dataset = lambda: ([image] for image in calibration())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    try:
        with quiet_stderr():
            return bytes(converter.convert())
    except Exception as error:  # the converter raises whatever its passes raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise QuantizationError(f"TensorFlow cannot convert the network to {mode}: {lines[0]}") from error


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
        if similar[best] < 0.9:
            raise QuantizationError(
                f"the converted network does not answer as the float one: its {output.quantity} map correlates by "
                f"{similar[best]:.2f} only. Calibrate with more images, or train longer"
            )
        matched.append(dataclasses.replace(output, index=best))
    return tuple(matched)


def _carded(network: keras.Model, outputs: Sequence[Output], card: Card, flatbuffer: bytes) -> bytes:
    """The flatbuffer with a card whose outputs are found by a known answer."""
    with quiet_stderr():
        interpreter = Interpreter(model_content=flatbuffer)
        interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0]
    _, height, width, _ = (n if n > 0 else CALIBRATION_SIDE for n in details["shape_signature"])
    interpreter.resize_tensor_input(details["index"], (1, height, width, 3))
    interpreter.allocate_tensors()
    image = _probe(height, width)
    expected = as_list(network(image, training=False))
    quantized = details["dtype"] is np.int8
    interpreter.set_tensor(details["index"], np.rint(image * 255 - 128).astype(np.int8) if quantized else image)
    interpreter.invoke()
    found = [_real(d, interpreter.get_tensor(d["index"])) for d in interpreter.get_output_details()]
    matched = match_outputs(outputs, [e.numpy() for e in expected], found)
    return cards.attach(flatbuffer, dataclasses.replace(card, outputs=matched))


def _probe(height: int, width: int) -> np.ndarray:
    """Smooth blobs, (1, height, width, 3): an input on which every output of a trained network varies."""
    rows, cols = np.mgrid[:height, :width]
    blobs = np.sin(rows / 7.0) * np.sin(cols / 9.0) * np.sin((rows + cols) / 31.0)
    return np.repeat(np.clip(blobs, 0, 1)[None, ..., None], 3, axis=3).astype(np.float32)


def _real(detail: dict[str, Any], tensor: np.ndarray) -> np.ndarray:
    step, zero = detail["quantization"]
    return (tensor.astype(np.float32) - zero) * step if step else tensor.astype(np.float32)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel() - a.mean(), b.ravel() - b.mean()
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-12))


def _calibration(dataset: Dataset, card: Card, count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Middle crops of training images, drawn as in training; float32 in [0, 1], mirrored where they are too small."""
    entries = dataset.split("train")
    rng = np.random.default_rng(0)
    count = min(count, len(entries))
    chosen = rng.choice(len(entries), size=count, replace=False, p=feed.sampling_weights(entries))
    for position, index in enumerate(chosen):
        levels = keras_road.levels(dataset.image(entries[index]), card)
        missing = [max(s - n, 0) for s, n in zip(size, levels.shape, strict=False)]
        levels = cv2.copyMakeBorder(levels, 0, missing[0], 0, missing[1], cv2.BORDER_REFLECT_101)
        top, left = ((n - s) // 2 for n, s in zip(levels.shape, size, strict=False))
        crop = levels[top : top + size[0], left : left + size[1]]
        image = np.repeat(crop[..., None], 3, axis=2) if crop.ndim == 2 else crop
        image = image[None].astype(np.float32) / 255
        if position == 0:
            image[0, 0, :2] = [[0], [1]]  # the whole range: the input's step is then 1/255, as the device expects
        yield image


def _model(path: Path, data: bytes) -> Model:
    path.write_bytes(data)
    return Model(path, threads=2)


def _rounded(summary: Summary) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in dataclasses.asdict(summary).items()}
