"""Parameters and multiply-adds of any .tflite, read from its graph.

Most batch normalisations are folded into convolutions when a network is converted, so that fewer of their parameters
are counted than before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
from cellseg_device.model.graph import operator_details
from cellseg_device.stderr import quiet_stderr

# Position of the weights among an operator's inputs; the bias, where there is one, comes at BIAS.
WEIGHTS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1, "FULLY_CONNECTED": 1}
BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "TRANSPOSE_CONV": 3, "FULLY_CONNECTED": 2}
# Operators whose constants are learnt: normalisations that could not be folded, activations
SCALING = ("ADD", "SUB", "MUL", "DIV", "PRELU")


@dataclass(frozen=True)
class Cost:
    """What a graph costs.

    Attributes
    ----------
    parameters : int
        Weights and biases of convolutions and dense layers, and constants of the operators that scale maps.
    macs_per_px : float
        Multiply-adds of convolutions (plain, depthwise, transposed) and dense layers, per input pixel.
    """

    parameters: int
    macs_per_px: float


def cost(data: bytes) -> Cost:
    """Count the parameters and the multiply-adds of a .tflite.

    Parameters
    ----------
    data : bytes
        A model file with its card; a graph that takes any size is measured at four times its card's stride.

    Raises
    ------
    ModelError
        If the runtime cannot run the graph.
    """
    stride = cards.read_from(data).stride
    try:
        with quiet_stderr():
            # Without delegates, which do not report the shapes inside their part of the graph
            interpreter = Interpreter(
                model_content=cards.strip(data),
                experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            given = interpreter.get_input_details()[0]
            is_free = -1 in given["shape_signature"]
            if is_free:
                interpreter.resize_tensor_input(given["index"], (1, 4 * stride, 4 * stride, 3))
            interpreter.allocate_tensors()
            if is_free:
                interpreter.invoke()  # sizes that the graph itself computes are known only after that
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the runtime refuses the graph: {str(error).splitlines()[0]}") from None
    return _count(interpreter)


def _count(interpreter: Any) -> Cost:
    """Return the sum over the operators of an interpreter whose shapes are known."""
    tensors = {d["index"]: d for d in interpreter.get_tensor_details()}
    shape = {index: tuple(int(n) for n in d["shape"]) for index, d in tensors.items()}
    given = interpreter.get_input_details()[0]["index"]
    computed = {given}  # tensors computed by the operators so far, in their order; the others are constants
    learnt: set[int] = set()  # a set, since a tensor that two operators share counts once
    macs = 0
    for operator in operator_details(interpreter):
        name, inputs = operator["op_name"], [int(i) for i in operator["inputs"]]
        if name in WEIGHTS:
            weights = shape[inputs[WEIGHTS[name]]]
            learnt.update(i for i in (inputs[WEIGHTS[name]], *inputs[BIAS[name] :]) if i >= 0)
            macs += math.prod(weights) * _positions(name, inputs, int(operator["outputs"][0]), shape)
        elif name in SCALING:
            constant = [i for i in inputs if i not in computed and not _is_size(tensors[i])]
            learnt.update(i for i in constant if math.prod(shape[i]) > 1)
        if name != "DEQUANTIZE" or computed & set(inputs):  # a dequantized constant (float16) is still a constant
            computed.update(int(i) for i in operator["outputs"])
    _, height, width, _ = shape[given]
    return Cost(sum(math.prod(shape[i]) for i in learnt), macs / (height * width))


def _positions(name: str, inputs: list[int], output: int, shape: dict[int, tuple[int, ...]]) -> int:
    """Return how often an operator's weights are applied."""
    if name == "TRANSPOSE_CONV":
        return math.prod(shape[inputs[2]][1:3])
    if name == "FULLY_CONNECTED":
        return math.prod(shape[inputs[0]]) // shape[inputs[1]][1]
    return math.prod(shape[output][1:3])


def _is_size(tensor: dict[str, Any]) -> bool:
    """Return whether it holds integers of 32 or 64 bits: sizes, which a graph for any image size computes."""
    return tensor["dtype"].__name__ in ("int32", "int64")
