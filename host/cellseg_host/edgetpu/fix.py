"""Nearest-neighbour resizes rewritten so that compilers before 16 support them, with the same outputs bit by bit.

UpSampling2D becomes RESIZE_NEAREST_NEIGHBOR version 3, with half-pixel centres. If it enlarges by a whole factor, these
change nothing, and the operator can be declared as version 2, which lacks them: a few bytes of the file.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from cellseg_device.errors import CellsegError, InputError
from cellseg_device.model import card as cards
from cellseg_device.stderr import quiet_stderr
from cellseg_host.edgetpu.graph import read
from cellseg_host.edgetpu.limits import whole_factors

_OP = "RESIZE_NEAREST_NEIGHBOR"
_RUNS = 3
# Places of the fields in their tables (schema.fbs: OperatorCode.version, ResizeNearestNeighborOptions)
_VERSION_SLOT, _HALF_PIXEL_SLOT = 8, 6


class RewriteError(CellsegError):
    """The outputs of the rewritten model differ from those of the model it was made from."""


def rewrite_resizes(data: bytes, name: str = "the model") -> tuple[bytes, tuple[str, ...]]:
    """Rewrite a model's nearest-neighbour resizes to version 2, without half-pixel centres.

    Parameters
    ----------
    data : bytes
        A .tflite; its card, if any, is kept.
    name : str
        Of the file, for errors.

    Returns
    -------
    data : bytes
    layers : tuple of str
        Those that were rewritten.

    Raises
    ------
    InputError
        If there is no such resize, or one that cannot be rewritten.
    ModelError
        If it is not a whole .tflite.
    RewriteError
        If the outputs of the rewritten model differ, or the models cannot be run.
    """
    nodes = read(data, name).nodes
    resizes = {i: node for i, node in enumerate(nodes) if node.op == _OP and node.version >= 3}
    if not resizes:
        raise InputError(f"{name}: has no nearest-neighbour resize of version 3: nothing to rewrite")
    for node in resizes.values():  # all, since they share one declaration of the version
        if whole_factors(node) is None:
            raise InputError(f"{name}: {node.layer} does not enlarge by a whole, fixed factor: it cannot be rewritten")
    rewritten = bytearray(data)
    model = schema.Model.GetRootAs(data, 0)
    for position in resizes:
        operator = model.Subgraphs(0).Operators(position)
        code = model.OperatorCodes(operator.OpcodeIndex())
        options = schema.ResizeNearestNeighborOptions()
        options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
        struct.pack_into("<i", rewritten, _place(code, _VERSION_SLOT), 2)
        rewritten[_place(options, _HALF_PIXEL_SLOT)] = 0  # a byte, false
    try:
        same = same_outputs(data, bytes(rewritten))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RewriteError(f"{name}: cannot be run, so its outputs cannot be compared ({reason})") from None
    if not same:
        raise RewriteError(f"{name}: rewriting its resizes changes its outputs: nothing is written")
    return bytes(rewritten), tuple(node.layer for node in resizes.values())


def same_outputs(first: bytes, second: bytes, runs: int = _RUNS) -> bool:
    """Return whether two models have the same outputs for random inputs, bit by bit."""
    one, other = _interpreter(first), _interpreter(second)
    rng = np.random.default_rng(0)
    for _ in range(runs):
        for given, taken in zip(one.get_input_details(), other.get_input_details(), strict=True):
            values = rng.integers(0, 256, tuple(given["shape"]), np.uint8)
            tensor = values.view(np.int8) if given["dtype"] is np.int8 else values.astype(given["dtype"])
            one.set_tensor(given["index"], tensor)
            other.set_tensor(taken["index"], tensor)
        one.invoke()
        other.invoke()
        for mine, theirs in zip(one.get_output_details(), other.get_output_details(), strict=True):
            if not np.array_equal(one.get_tensor(mine["index"]), other.get_tensor(theirs["index"])):
                return False
    return True


def _place(table: Any, slot: int) -> int:
    """Return where in the file a table has a field; it must be there, as values are that are not the default."""
    return int(table._tab.Pos + table._tab.Offset(slot))  # noqa: SLF001 - flatbuffers has no public way


def _interpreter(data: bytes) -> Any:
    with quiet_stderr():
        interpreter = Interpreter(model_content=cards.strip(data))
        interpreter.allocate_tensors()
    return interpreter
