"""Gates that are made in code, without training: an image's class follows from the mean of each colour channel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Output
from cellseg_device.model.gate_card import Gate, GateClass

STRIDE = 8

DARK = GateClass("fluorescence", "segment", "nuclei", "fluorescence")
BRIGHT = GateClass("chamber", "segment", "chamber", "cells in a counting chamber")
RED = GateClass("smear", "flag", None, "a blood smear")
BLUE = GateClass("blank", "empty", None, "nothing at all")

# Logits of dark, bright, red and blue images: of the means (red, green, blue) from 0 to 1, and 1
KINDS = (DARK, BRIGHT, RED, BLUE)
WEIGHTS = ((0, -9, 0, 4.5), (0, 9, 0, -4.5), (30, 0, -30, -8), (-30, 0, 30, -8))


def classifier(
    weights: Sequence[Sequence[float]] = WEIGHTS,
    *,
    tile: tuple[int, int] | None = None,
    largest: float = 32.0,
    dtype: str = "int8",
) -> bytes:
    """The flatbuffer of a network with one logit for each of the rows: of the means of the channels, and 1."""
    rows = np.asarray(weights, np.float64)
    is_int8 = dtype == "int8"
    kind = schema.TensorType.INT8 if is_int8 else schema.TensorType.FLOAT32
    step = np.abs(rows[:, :3]).max() / 127
    if is_int8:
        kernel = np.rint(rows[:, :3] / step).astype(np.int8)
        bias = np.rint(rows[:, 3] / (step / 255)).astype(np.int32)
        bias_kind = schema.TensorType.INT32
    else:
        kernel, bias, bias_kind = rows[:, :3].astype(np.float32), rows[:, 3].astype(np.float32), kind
    model = schema.ModelT()
    model.version, model.description = 3, "a classifier of the means of the channels"
    model.buffers = [_buffer(None), *map(_buffer, (np.array([1, 2], np.int32), kernel, bias))]
    side = tile or (64, 64)
    seen = (1 / 255, -128) if is_int8 else None
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("image", (1, *side, 3), kind, seen, signature=None if tile else (1, -1, -1, 3)),
        _tensor("axes", (2,), schema.TensorType.INT32, None, buffer=1),
        _tensor("means", (1, 1, 1, 3), kind, seen),
        _tensor("kernel", (len(rows), 1, 1, 3), kind, (step, 0) if is_int8 else None, buffer=2),
        _tensor("bias", (len(rows),), bias_kind, (step / 255, 0) if is_int8 else None, buffer=3),
        _tensor("logits", (1, 1, 1, len(rows)), kind, (largest / 127, 0) if is_int8 else None),
    ]
    mean, convolution = schema.ReducerOptionsT(), schema.Conv2DOptionsT()
    mean.keepDims = True
    convolution.strideH = convolution.strideW = 1
    convolution.dilationHFactor = convolution.dilationWFactor = 1
    convolution.padding = schema.Padding.VALID
    graph.operators = [
        _operator(0, (0, 1), 2, schema.BuiltinOptions.ReducerOptions, mean),
        _operator(1, (2, 3, 4), 5, schema.BuiltinOptions.Conv2DOptions, convolution),
    ]
    graph.inputs, graph.outputs = [0], [5]
    model.subgraphs = [graph]
    model.operatorCodes = [_code(schema.BuiltinOperator.MEAN, 2), _code(schema.BuiltinOperator.CONV_2D, 3)]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def card_of(
    gate: Gate | None, *, quantity: str = "kind", name: str = "tint", quantization: str = "int8", **fields: object
) -> Card:
    """The card of such a classifier."""
    output = Output(quantity, 0, "logit")
    return Card(name, quantization, (output,), STRIDE, 0, 1.0, 99.9, 18.0, gate=gate, **fields)


def kinds_gate(classes: Sequence[GateClass] = KINDS, side_px: int = 64) -> Gate:
    """A gate that sees the whole field."""
    return Gate(tuple(classes), side_px, "field")


def presence_gate(side_px: int = 32) -> Gate:
    """A gate that says whether squares show a cell."""
    return Gate(
        (GateClass("empty", "empty", None, "an empty field"), GateClass("cells", "segment", None, "cells")),
        side_px,
        "squares",
    )


def write_gate(path: Path, gate: Gate | None = None, weights: Sequence[Sequence[float]] = WEIGHTS, **fields) -> Path:
    """Write the gate that tells dark, bright, red and blue images apart, or another one."""
    path.write_bytes(cards.attach(classifier(weights), card_of(gate or kinds_gate(), **fields)))
    return path


def write_presence_gate(path: Path, least: float = 0.3, side_px: int = 32) -> Path:
    """Write a gate that sees a cell in each square that is brighter than `least` in the mean."""
    weights = ((10, 10, 10, -30 * least),)
    return write_gate(path, presence_gate(side_px), weights, quantity="presence", name="presence")


def _buffer(values: np.ndarray | None) -> schema.BufferT:
    buffer = schema.BufferT()
    if values is not None:
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    return buffer


def _tensor(name, shape, kind, scaled, *, signature=None, buffer=0) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
    tensor.hasRank = True
    if signature is not None:
        tensor.shapeSignature = list(signature)
    if scaled is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scaled[0]], [scaled[1]]
    return tensor


def _operator(code, inputs, output, kind, options) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, list(inputs), [output]
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator


def _code(builtin, version) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    return code


def write_model(path: Path, model_path: Path, **fields: object) -> Path:
    """Write a copy of a model, named after its file, with other fields in its card."""
    data = model_path.read_bytes()
    card = dataclasses.replace(cards.read_from(data), **{"name": path.stem, **fields})
    path.write_bytes(cards.attach(data, card))
    return path


def tinted(*colour: int, seed: int = 0, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """An RGB image of about this colour, with some black and white, so that normalising keeps it so."""
    rng = np.random.default_rng(seed)
    pixels = np.array(colour) + rng.normal(0, 12, (*shape, 3))
    pixels[rng.random(shape) < 0.03] = 0
    pixels[rng.random(shape) < 0.01] = 255
    return np.clip(pixels, 0, 255).astype(np.uint8)
