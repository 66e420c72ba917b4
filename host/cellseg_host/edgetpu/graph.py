"""The graph of a .tflite: operators in the order they run, tensors with their shapes, types and scales."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards

UNKNOWN = -1  # a size that is not fixed

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_TYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
# What the generated reader raises on damaged bytes
_DAMAGED = (struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
# Names that a converter makes up, which say nothing about the layer
_MADE_UP = ("StatefulPartitionedCall", "PartitionedCall", "Identity", "tfl.", "arith.")


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the graph.

    Attributes
    ----------
    index : int
    name : str
    shape : tuple of int
        `UNKNOWN` for a size that is not fixed.
    dtype : str
        ``"int8"``, ``"float32"``, …
    scales : tuple of float
        None, one, or one for each channel.
    zero_points : tuple of int
    constant : ndarray of uint8, or None
        The bytes of a parameter; None if it is computed.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    constant: np.ndarray | None = field(default=None, repr=False)

    @property
    def elements(self) -> int:
        """Number of its values, with unknown sizes counted as 1."""
        return int(np.prod([max(n, 1) for n in self.shape], dtype=np.int64))

    def integers(self) -> tuple[int, ...]:
        """Return the values of a constant of whole numbers, such as a shape or axes; nothing for other tensors."""
        if self.constant is None or self.dtype not in ("int32", "int64"):
            return ()
        return tuple(int(n) for n in self.constant.view(self.dtype))


@dataclass(frozen=True, eq=False)
class Node:
    """An operator of the graph.

    Attributes
    ----------
    op : str
        Name in TFLite's schema (``"CONV_2D"``), or that of a custom operator.
    version : int
    inputs, outputs : tuple of Tensor or None
        None for an input that is left out.
    options : mapping
        As named in the schema (``"strideW"``).
    """

    op: str
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def input(self, position: int) -> Tensor | None:
        """Return the input at this position, or None."""
        return self.inputs[position] if position < len(self.inputs) else None

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """Its inputs and outputs without its parameters."""
        return tuple(t for t in self.inputs if t is not None and t.constant is None) + self.outputs

    @property
    def constants(self) -> tuple[Tensor, ...]:
        """Its parameters."""
        return tuple(t for t in self.inputs if t is not None and t.constant is not None)

    @cached_property
    def layer(self) -> str:
        """The layer that it came from, if the converter kept its name."""
        named = (*self.outputs, *self.constants, *self.activations)
        name = next((t.name for t in named if t.name and not t.name.startswith(_MADE_UP)), self.op.lower())
        parts = [part for part in name.split(";")[0].split("/") if part != "resize"]
        # First comes the network's name and last TensorFlow's operator; UpSampling2D adds a scope between
        return "/".join(parts[1:-1] or parts[:1])


@dataclass(frozen=True, eq=False)
class Graph:
    """The main graph of a .tflite; branches and loops have their own graphs, which are not read."""

    nodes: tuple[Node, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read(data: bytes, name: str = "the model") -> Graph:
    """Read the graph of a model file, with or without a card.

    Parameters
    ----------
    data : bytes
    name : str
        Of the file, for the error.

    Raises
    ------
    ModelError
        If it is not a .tflite, is cut off or damaged, or has no operators.
    """
    if data[4:8] != b"TFL3":
        raise ModelError(f"{name}: is not a TFLite model: give a .tflite, such as 'cellseg-host quantize' makes")
    try:
        model = schema.ModelT.InitFromPackedBuf(cards.strip(data), 0)
        graph = _graph(model)
    except _DAMAGED:
        raise ModelError(f"{name}: is cut off or damaged: copy it again, or quantize again") from None
    if not graph.nodes:
        raise ModelError(f"{name}: has no operators: there is nothing to run")
    return graph


def _graph(model: Any) -> Graph:
    main = model.subgraphs[0]
    tensors = [_tensor(index, t, model.buffers) for index, t in enumerate(_list(main.tensors))]
    nodes = []
    for operator in _list(main.operators):
        code = model.operatorCodes[operator.opcodeIndex]
        # Codes above 127 are only in the newer field, which older files lack
        builtin = _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        nodes.append(
            Node(
                code.customCode.decode() if builtin == "CUSTOM" else builtin,
                code.version,
                tuple(tensors[i] if i >= 0 else None for i in _list(operator.inputs)),
                tuple(tensors[i] for i in _list(operator.outputs)),
                vars(operator.builtinOptions) if operator.builtinOptions else {},
            )
        )
    return Graph(
        tuple(nodes),
        tuple(tensors[i] for i in _list(main.inputs)),
        tuple(tensors[i] for i in _list(main.outputs)),
    )


def _tensor(index: int, raw: Any, buffers: list[Any]) -> Tensor:
    sizes = raw.shapeSignature if raw.shapeSignature is not None else raw.shape
    quantization = raw.quantization
    data = buffers[raw.buffer].data
    return Tensor(
        index,
        raw.name.decode() if raw.name else "",
        tuple(int(n) for n in _list(sizes)),
        _TYPES[raw.type],
        tuple(float(s) for s in _list(quantization.scale)) if quantization else (),
        tuple(int(z) for z in _list(quantization.zeroPoint)) if quantization else (),
        np.asarray(data, np.uint8) if data is not None and len(data) else None,
    )


def _list(vector: Any) -> Any:
    """Return a vector of the flatbuffer, which reads as None if it is empty."""
    return () if vector is None else vector
