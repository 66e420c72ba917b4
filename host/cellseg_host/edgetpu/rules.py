"""What the Edge TPU compiler supports: the published table of operators, and the versions that it can read.

Sources
-------
- "TensorFlow models on the Edge TPU", coral.ai/docs/edgetpu/models-intro: model requirements, and the table of
  operators with the runtime version each needs and its known limitations.
- Newest versions of operators that can be read: those of TensorFlow Lite's ``lite/kernels/register.cc`` of late 2021,
  which bound what the last compiler (16.0, July 2021) can know; lower where that compiler is reported to reply "Didn't
  find op for builtin opcode" (google-coral/edgetpu issues 631: CONV_2D 6, 845: TRANSPOSE_CONV 4, 879: QUANTIZE 3;
  google-coral/libedgetpu issue 71: EXP 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cellseg_host.edgetpu import limits
from cellseg_host.edgetpu.finding import CPU, Finding
from cellseg_host.edgetpu.graph import Node

# Compiler version to the runtime version whose operators it knows
COMPILERS = {14: 13, 15: 13, 16: 14}
COMPILER = 16


@dataclass(frozen=True)
class Rule:
    """The rule for one kind of operator.

    Attributes
    ----------
    newest : int
        The newest version that the compiler can read; a newer one makes it refuse the whole model.
    since : int
        Runtime version that it needs; 0 for any.
    parameters : tuple of int
        Positions of inputs that must be constant when compiling.
    limits : tuple of callable
        Its known limitations: each takes a node and the compiler's version, and returns a finding or None.
    """

    newest: int
    since: int = 0
    parameters: tuple[int, ...] = ()
    limits: tuple[Callable[[Node, int], Finding | None], ...] = ()


_WEIGHTS = (limits.symmetric_weights, limits.integer_bias)

SUPPORTED = {
    "ADD": Rule(4),
    "AVERAGE_POOL_2D": Rule(3, limits=(limits.no_activation,)),
    "CONCATENATION": Rule(3, limits=(limits.no_activation, limits.only_zeros_joined)),
    "CONV_2D": Rule(5, parameters=(1, 2), limits=(*_WEIGHTS, limits.equal_dilation)),
    "DEPTHWISE_CONV_2D": Rule(6, parameters=(1, 2), limits=(*_WEIGHTS, limits.equal_dilation)),
    "EXPAND_DIMS": Rule(1, 13, parameters=(1,)),
    "FULLY_CONNECTED": Rule(
        9, parameters=(1, 2), limits=(*_WEIGHTS, limits.default_weights_format, limits.one_row_of_outputs)
    ),
    "L2_NORMALIZATION": Rule(2),
    "LOGISTIC": Rule(3),
    "MAXIMUM": Rule(4),
    "MAX_POOL_2D": Rule(3, limits=(limits.no_activation,)),
    "MEAN": Rule(3, parameters=(1,), limits=(limits.batch_kept, limits.depth_by_fours)),
    "MINIMUM": Rule(4),
    "MUL": Rule(5),
    "PACK": Rule(3, 13, limits=(limits.axis_not_batch,)),
    "PAD": Rule(4, parameters=(1,), limits=(limits.batch_not_padded,)),
    "PRELU": Rule(1, 13, parameters=(1,), limits=(limits.flat_alpha,)),
    "QUANTIZE": Rule(2, 13),
    "REDUCE_MAX": Rule(3, 14, parameters=(1,), limits=(limits.batch_kept,)),
    "REDUCE_MIN": Rule(3, 14, parameters=(1,), limits=(limits.batch_kept,)),
    "RELU": Rule(3),
    "RELU6": Rule(3),
    "RELU_N1_TO_1": Rule(1),
    "RESHAPE": Rule(1, parameters=(1,), limits=(limits.moderate_reshape,)),
    "RESIZE_BILINEAR": Rule(4, parameters=(1,), limits=(limits.pixel_centres, limits.moderate_resize)),
    "RESIZE_NEAREST_NEIGHBOR": Rule(4, parameters=(1,), limits=(limits.pixel_centres, limits.moderate_resize)),
    "RSQRT": Rule(2, 14),
    "SLICE": Rule(5, parameters=(1, 2)),
    "SOFTMAX": Rule(3, limits=(limits.flat_softmax,)),
    "SPACE_TO_DEPTH": Rule(2),
    "SPLIT": Rule(4, parameters=(0,), limits=(limits.batch_not_split,)),
    "SQUARED_DIFFERENCE": Rule(2, 14),
    "SQUEEZE": Rule(2),
    "STRIDED_SLICE": Rule(6, parameters=(1, 2, 3), limits=(limits.plain_slice,)),
    "SUB": Rule(5),
    "SUM": Rule(2, 13, parameters=(1,), limits=(limits.batch_kept,)),
    "TANH": Rule(3),
    "TRANSPOSE": Rule(5, 14, parameters=(1,)),
    "TRANSPOSE_CONV": Rule(3, 13, parameters=(0, 1, 3), limits=(*_WEIGHTS, limits.transposed_stride)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Rule(3, 14),
}

# Newest readable versions of operators that are not on the list, and stay on the CPU
_NEWEST_UNSUPPORTED = {"DEQUANTIZE": 5, "ELU": 1, "EXP": 1, "LEAKY_RELU": 2, "SPLIT_V": 2, "TILE": 2}

_ACTIVATION = "use ReLU or ReLU6 as the activation"
_REPLACEMENTS = {
    "BATCH_TO_SPACE_ND": limits.FIXED,
    "SPACE_TO_BATCH_ND": limits.FIXED,
    "DEPTH_TO_SPACE": "end the network before DEPTH_TO_SPACE: the device spreads out block² channels (see edge-unet)",
    "DEQUANTIZE": limits.INT8,
    "ELU": _ACTIVATION,
    "GELU": _ACTIVATION,
    "HARD_SWISH": _ACTIVATION,
    "LEAKY_RELU": "use ReLU, ReLU6 or PReLU (shared_axes=[1, 2]) as the activation",
    "MIRROR_PAD": "pad with zeros (padding='same')",
    "SHAPE": limits.FIXED,
    "SPLIT_V": "split into equal parts (SPLIT)",
    "TILE": "use UpSampling2D of tf_keras, which becomes a resize",
}
_ELSEWHERE = "replace {} by operators of the list, or leave it to the code after the network"

# What to use instead of layers for which the converter writes a version that the compiler cannot read
_NEW_VERSION = {
    "CONV_2D": "use plain or depthwise convolutions in place of grouped ones",
    "FULLY_CONNECTED": "use a 1 × 1 Conv2D in place of a Dense layer whose weights are scaled per channel",
    "TRANSPOSE_CONV": "use UpSampling2D (nearest) and Conv2D in place of Conv2DTranspose",
}


def unreadable(node: Node) -> Finding | None:
    """Return why the compiler cannot read a model with this operator, or None."""
    rule = SUPPORTED.get(node.op)
    newest = rule.newest if rule else _NEWEST_UNSUPPORTED.get(node.op, node.version)
    if node.version <= newest:
        return None
    return Finding(
        CPU,
        f"the compiler cannot read {node.op} version {node.version}, only up to {newest}",
        _NEW_VERSION.get(node.op, f"convert with an older TensorFlow, or avoid {node.op}"),
    )


def findings(node: Node, compiler: int) -> Iterator[Finding]:
    """Yield all findings about an operator by itself: without any of level "cpu" it maps."""
    rule = SUPPORTED.get(node.op)
    if rule is None:
        of_sizes = all(t.dtype in limits.WHOLE_NUMBERS for t in node.activations)
        change = limits.FIXED if of_sizes else _REPLACEMENTS.get(node.op, _ELSEWHERE.format(node.op))
        yield Finding(CPU, "not on the list of supported operators", change)
        return
    if not node.outputs:
        yield Finding(CPU, "has no output")
        return
    if rule.since > COMPILERS[compiler]:
        yield Finding(CPU, f"needs runtime {rule.since}, which compiler {compiler} does not know", "use compiler 16")
    of_tensors = list(limits.of_tensors(node, rule.parameters))
    yield from of_tensors
    if any(f.level == CPU for f in of_tensors):  # the limits assume constant parameters and quantized tensors
        return
    yield from filter(None, (limit(node, compiler) for limit in rule.limits))
