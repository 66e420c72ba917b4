"""The limitations of single operators and their tensors: small functions, each one line of the published table.

Where the table only says "depending on size", the bounds here are the largest sizes that public compiler logs show as
mapped; beyond them it is in doubt, not certain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from cellseg_host.edgetpu.finding import CPU, DOUBT, NOTE, Finding
from cellseg_host.edgetpu.graph import UNKNOWN, Node

_EIGHT_BIT = ("int8", "uint8")
WHOLE_NUMBERS = ("int32", "int64")
_NONE = 0  # of the schema's ActivationFunctionType and FullyConnectedOptionsWeightsFormat

# 128 × 128 × 32: mapped, while 512 × 512 × 32 was not (google-coral/edgetpu issue 31)
_RESIZE_SEEN = 128 * 128 * 32
# A pooling of 512 × 512 × 32 to 256 × 256 × 32 was mapped (same issue); beyond an unpublished size the compiler fails
# "due to large activation tensors" (issue 439)
_ACTIVATIONS_SEEN = 10 * 2**20
_SOFTMAX_MOST = 16_000

INT8 = "quantize all of it with --int8"
FIXED = "quantize with --tile 256, which fixes the input's size"
_SMALLER = "use a smaller tile, or fewer channels"


def of_tensors(node: Node, parameters: Collection[int]) -> Iterator[Finding]:
    """The requirements on every tensor: eight bits, quantized, at most three dimensions, constant parameters.

    Parameters
    ----------
    node : Node
    parameters : collection of int
        Positions of the inputs that must be constant.
    """
    loose = [t for i in parameters if (t := node.input(i)) is not None and t.constant is None]
    if loose:
        sizes = all(t.dtype in WHOLE_NUMBERS for t in loose)
        yield Finding(
            CPU,
            f"its {'sizes are' if sizes else 'weights are'} computed, not constant",
            FIXED if sizes else INT8 if loose[0].dtype not in _EIGHT_BIT else "use layers with weights of their own",
        )
    activations = [t for t in node.activations if t not in loose]
    if wrong := sorted({t.dtype for t in activations if t.dtype not in _EIGHT_BIT}):
        yield Finding(CPU, f"works on {' and '.join(wrong)}", FIXED if wrong[0] in WHOLE_NUMBERS else INT8)
        return
    if any(len(t.scales) != 1 for t in activations):
        yield Finding(CPU, "has a tensor without one scale for all its values", INT8)
    deep = [t for t in activations if any(n > 1 for n in t.shape[:-3]) and UNKNOWN not in t.shape]
    if deep:
        yield Finding(
            CPU,
            f"has a tensor of {size_text(deep[0].shape)}: only the innermost three dimensions may be larger than 1",
            "convert for a batch of one" if len(deep[0].shape) == 4 else "use tensors of height, width, channels",
        )
    at_once = sum(t.elements for t in activations)
    if at_once > _ACTIVATIONS_SEEN:
        yield Finding(
            DOUBT, f"holds {at_once / 2**20:.0f} MiB at once, more than public reports show as mapped", _SMALLER
        )


def symmetric_weights(node: Node, compiler: int) -> Finding | None:
    """Weights are int8 around zero, with one scale for all or one for each channel; or uint8 with one scale."""
    weights = node.input(1)
    if weights is None or weights.dtype not in _EIGHT_BIT or not weights.scales:
        return Finding(CPU, f"has weights of {weights.dtype if weights else 'no kind'}, not int8", INT8)
    if weights.dtype == "uint8" and len(weights.scales) > 1:
        return Finding(CPU, "has uint8 weights of several scales", INT8)
    if weights.dtype == "int8" and any(weights.zero_points):
        return Finding(CPU, "has int8 weights whose zero point is not 0", INT8)
    return None


def integer_bias(node: Node, compiler: int) -> Finding | None:
    """The bias, where there is one, is int32."""
    bias = node.input(3 if node.op == "TRANSPOSE_CONV" else 2)
    if bias is None or bias.dtype == "int32":
        return None
    return Finding(CPU, f"has a bias of {bias.dtype}, not int32", INT8)


def no_activation(node: Node, compiler: int) -> Finding | None:
    """No fused activation function."""
    if node.options.get("fusedActivationFunction", _NONE) == _NONE:
        return None
    return Finding(CPU, "has an activation fused into it", f"put a convolution between {node.op} and the activation")


def equal_dilation(node: Node, compiler: int) -> Finding | None:
    """The same dilation in x and y."""
    if node.options.get("dilationWFactor", 1) == node.options.get("dilationHFactor", 1):
        return None
    return Finding(CPU, "has a dilation that differs in x and y", "use the same dilation_rate in both directions")


def only_zeros_joined(node: Node, compiler: int) -> Finding | None:
    """A constant part of a concatenation must be all zeros, and one of two."""
    zeros = all(
        t.constant is not None and (t.constant.view(t.dtype) == t.zero_points[0]).all()
        for t in node.constants
        if t.dtype in _EIGHT_BIT and t.zero_points
    )
    if not node.constants or (len(node.inputs) == 2 and zeros):
        return None
    return Finding(
        CPU, "joins a constant that is not all zeros, or more than two parts", "concatenate computed tensors only"
    )


def default_weights_format(node: Node, compiler: int) -> Finding | None:
    """Only the default format of fully-connected weights."""
    if node.options.get("weightsFormat", _NONE) == _NONE:
        return None
    return Finding(CPU, "has its weights in a shuffled format", INT8)


def one_row_of_outputs(node: Node, compiler: int) -> Finding | None:
    """The output of a fully-connected layer has one dimension."""
    if all(n == 1 for n in node.outputs[0].shape[:-1]):
        return None
    return Finding(CPU, "has an output of more than one dimension", "use a 1 × 1 Conv2D in place of the Dense layer")


def flat_softmax(node: Node, compiler: int) -> Finding | None:
    """Softmax takes one dimension of at most 16,000 elements."""
    shape = node.outputs[0].shape
    if all(n == 1 for n in shape[:-1]) and node.outputs[0].elements <= _SOFTMAX_MOST:
        return None
    return Finding(
        CPU,
        f"takes one dimension of at most {_SOFTMAX_MOST:,} elements",
        "end the network with logits: the largest is the same without softmax",
    )


def batch_kept(node: Node, compiler: int) -> Finding | None:
    """No reduction over the batch dimension."""
    if 0 not in _axes(node):
        return None
    return Finding(CPU, "reduces the batch dimension", f"let {node.op} reduce height, width or channels only")


def depth_by_fours(node: Node, compiler: int) -> Finding | None:
    """A mean over channels takes a multiple of four of them."""
    shape = node.activations[0].shape
    if len(shape) - 1 not in _axes(node) or shape[-1] % 4 == 0:
        return None
    return Finding(CPU, f"is a mean over {shape[-1]} channels, not a multiple of 4", "use a multiple of 4 channels")


def axis_not_batch(node: Node, compiler: int) -> Finding | None:
    """No packing along the batch dimension."""
    if node.options.get("axis", 0) % max(len(node.outputs[0].shape), 1) != 0:
        return None
    return Finding(CPU, "packs along the batch dimension", "stack along another axis than the batch")


def batch_not_padded(node: Node, compiler: int) -> Finding | None:
    """No padding of the batch dimension."""
    paddings = node.input(1)
    if paddings is None or not any(paddings.integers()[:2]):
        return None
    return Finding(CPU, "pads the batch dimension", "pad height, width or channels only")


def batch_not_split(node: Node, compiler: int) -> Finding | None:
    """No splitting of the batch dimension."""
    axis = node.input(0)
    if axis is None or any(i % max(len(node.outputs[0].shape), 1) for i in axis.integers()):
        return None
    return Finding(CPU, "splits the batch dimension", "split along another axis than the batch")


def flat_alpha(node: Node, compiler: int) -> Finding | None:
    """PReLU has one parameter for each channel."""
    alpha = node.input(1)
    if alpha is not None and all(n == 1 for n in alpha.shape[:-1]):
        return None
    return Finding(CPU, "has a PReLU parameter for each pixel", "use PReLU(shared_axes=[1, 2])")


def plain_slice(node: Node, compiler: int) -> Finding | None:
    """Strides of one, without ellipsis or new axes."""
    strides = node.input(3)
    masks = node.options.get("ellipsisMask", 0) or node.options.get("newAxisMask", 0)
    if not masks and (strides is None or all(n == 1 for n in strides.integers())):
        return None
    return Finding(CPU, "takes every nth element, or adds an axis", "slice with steps of 1")


def moderate_reshape(node: Node, compiler: int) -> Finding | None:
    """Certain reshapes of large tensors may not be mapped."""
    if node.outputs[0].elements <= _RESIZE_SEEN:
        return None
    return Finding(DOUBT, f"reshapes {node.outputs[0].elements:,} values; large ones may not map", _SMALLER)


def moderate_resize(node: Node, compiler: int) -> Finding | None:
    """Depending on its size a resize may not be mapped, to avoid a loss of precision."""
    if node.outputs[0].elements <= _RESIZE_SEEN:
        return None
    return Finding(DOUBT, f"resizes to {size_text(node.outputs[0].shape[1:])}; large ones may not map", _SMALLER)


def pixel_centres(node: Node, compiler: int) -> Finding | None:
    """Version 3 of the resizes, with half-pixel centres or aligned corners: not for compilers before 16.

    Compiler 16 is seen to map the nearest-neighbour one (logs of networks with ``tf.image.resize`` of TensorFlow 2.5
    to 2.19, to which compilers 14 and 15 replied "Operation version not supported"); of the bilinear one there is no
    such log.
    """
    if node.version < 3:
        return None
    reason = f"version {node.version} ({'half-pixel centres' if node.options.get('halfPixelCenters') else 'corners'})"
    if node.op == "RESIZE_BILINEAR":
        change = "use nearest-neighbour upsampling (interpolation='nearest')"
        if compiler < 16:
            return Finding(CPU, f"{reason} is not known to compiler {compiler}", change)
        return Finding(DOUBT, f"{reason}: no public report of it being mapped", change)
    change = (
        "--fix OUT.tflite rewrites it to version 2, with the same outputs"
        if whole_factors(node)
        else "upsample by a whole factor"
    )
    if compiler < 16:
        return Finding(CPU, f"{reason} is not known to compiler {compiler}", change)
    return Finding(NOTE, f"{reason}: compiler 16 maps it, 14 and 15 do not", change)


def whole_factors(node: Node) -> tuple[int, int] | None:
    """Return by how much a nearest-neighbour resize with half-pixel centres enlarges, if by whole numbers, else None.

    Output pixel i is then input pixel floor((i + 1/2) / f) = floor(i / f), so that half-pixel centres change nothing.
    """
    if not node.options.get("halfPixelCenters") or node.options.get("alignCorners"):
        return None
    before, after = node.activations[0].shape, node.outputs[0].shape
    if len(before) != 4 or min(before[1:3]) < 1 or any(b % a for a, b in zip(before[1:3], after[1:3], strict=True)):
        return None
    return after[1] // before[1], after[2] // before[2]


def transposed_stride(node: Node, compiler: int) -> Finding | None:
    """Transposed convolutions have no published limit, but those that enlarge are reported not to map, by size.

    See google-coral/edgetpu issues 509, 684, 686.
    """
    if max(node.options.get("strideW", 1), node.options.get("strideH", 1)) == 1:
        return None
    return Finding(
        DOUBT,
        "is a transposed convolution with a stride; public reports have some of them on the CPU",
        "use UpSampling2D (nearest) and Conv2D in place of Conv2DTranspose",
    )


def size_text(shape: Collection[int]) -> str:
    """Return a shape as ``1 × any × any × 3``."""
    return " × ".join("any" if n == UNKNOWN else str(n) for n in shape)


def _axes(node: Node) -> list[int]:
    axes, rank = node.input(1), len(node.activations[0].shape)
    return [n % rank for n in axes.integers()] if axes is not None and rank else []
