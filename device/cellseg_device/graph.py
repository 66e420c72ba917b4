"""What a graph is made of: its operators and the types of the tensors they touch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The one operator that the Edge TPU's compiler leaves of what it takes, as a flatbuffer holds its name
_EDGETPU_OPERATOR = b"edgetpu-custom-op"
_EDGETPU_MARK = len(_EDGETPU_OPERATOR).to_bytes(4, "little") + _EDGETPU_OPERATOR + b"\0"


@dataclass(frozen=True)
class Operator:
    """One operator of a graph.

    Attributes
    ----------
    name : str
        As in the TFLite schema, e.g. ``CONV_2D``.
    dtypes : tuple of str
        The distinct types of its inputs and outputs, sorted.
    """

    name: str
    dtypes: tuple[str, ...]


def operators(interpreter: Any) -> tuple[Operator, ...]:
    """The operators of a graph, in the order they run.

    Parameters
    ----------
    interpreter : Interpreter
        Of ai-edge-litert or tflite-runtime.
    """
    types = {d["index"]: d["dtype"].__name__ for d in interpreter.get_tensor_details()}
    # The only road to the operators in either runtime; -1 stands for an input that is left out.
    return tuple(
        Operator(
            op["op_name"],
            tuple(sorted({types[int(i)] for i in (*op["inputs"], *op["outputs"]) if int(i) in types})),
        )
        for op in interpreter._get_ops_details()
        if op["op_name"] != "DELEGATE"
    )


def is_for_edgetpu(flatbuffer: bytes) -> bool:
    """Whether a graph has been compiled for an Edge TPU; such a graph runs nowhere else."""
    return _EDGETPU_MARK in flatbuffer


def is_delegated(interpreter: Any) -> bool:
    """Whether a delegate (XNNPACK, an Edge TPU's) runs some of the graph, rather than the plain kernels all of it."""
    return any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
