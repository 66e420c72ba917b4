"""The operators of a graph, and the types of the tensors they use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The operator by which the Edge TPU's compiler replaces what it has compiled, with its name as a flatbuffer stores it
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
    """Return the operators of a graph, in the order in which they run.

    Parameters
    ----------
    interpreter : Interpreter
        Of ai-edge-litert or tflite-runtime.
    """
    types = {d["index"]: d["dtype"].__name__ for d in interpreter.get_tensor_details()}
    # -1 stands for an optional input that is left out
    return tuple(
        Operator(
            op["op_name"],
            tuple(sorted({types[int(i)] for i in (*op["inputs"], *op["outputs"]) if int(i) in types})),
        )
        for op in operator_details(interpreter)
        if op["op_name"] != "DELEGATE"
    )


def is_for_edgetpu(flatbuffer: bytes) -> bool:
    """Return whether a graph has been compiled for an Edge TPU and so runs nowhere else."""
    return _EDGETPU_MARK in flatbuffer


def is_delegated(interpreter: Any) -> bool:
    """Return whether a delegate (XNNPACK, an Edge TPU's) runs part of the graph, not the plain kernels all of it."""
    return any(op["op_name"] == "DELEGATE" for op in operator_details(interpreter))


def operator_details(interpreter: Any) -> list[dict[str, Any]]:
    """Return what the runtime says of each operator: ``op_name``, and the tensors in ``inputs`` and ``outputs``."""
    details: list[dict[str, Any]] = interpreter._get_ops_details()  # noqa: SLF001 - neither runtime has a public way
    return details
