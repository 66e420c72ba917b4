"""The parts of a graph for the TPU and for the CPU, and what each operator costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cellseg_host.edgetpu.graph import Node


@dataclass(frozen=True)
class Part:
    """Operators that run together.

    Attributes
    ----------
    on_tpu : bool
    nodes : tuple of int
        Their positions in the graph.
    """

    on_tpu: bool
    nodes: tuple[int, ...]


def parts(nodes: Sequence[Node], maps: Sequence[bool]) -> list[Part]:
    """Return the parts of a graph that each run on one processor, in the order they run.

    Each part takes all operators of its kind whose inputs are available, as TFLite partitions a graph for its
    delegates: an operator after one on the CPU still belongs to the first part if it does not need its output.

    Parameters
    ----------
    nodes : sequence of Node
    maps : sequence of bool
        Whether each can run on the TPU.
    """
    waiting = list(range(len(nodes)))
    missing = {t.index for node in nodes for t in node.outputs}
    found = []
    while waiting:
        kind, taken = None, []
        for position in waiting:
            node = nodes[position]
            ready = not any(t is not None and t.index in missing for t in node.inputs)
            if ready and maps[position] == (maps[position] if kind is None else kind):
                kind = maps[position]
                taken.append(position)
                missing.difference_update(t.index for t in node.outputs)
        if kind is None:  # operators that wait for each other: not a graph, but this must end
            kind, taken = False, list(waiting)
        found.append(Part(kind, tuple(taken)))
        waiting = [position for position in waiting if position not in set(taken)]
    return found


def multiply_adds(node: Node) -> int:
    """Return the multiply-adds of a convolution or fully-connected layer, by its tensors' shapes; 0 for all else."""
    weights = node.input(1)
    if node.op not in _WEIGHTED or weights is None or not weights.shape or not node.outputs:
        return 0
    output, channels = node.outputs[0], max(weights.shape[-1], 1)
    if node.op == "CONV_2D":
        return output.elements * weights.elements // max(weights.shape[0], 1)
    if node.op == "DEPTHWISE_CONV_2D":
        return output.elements * weights.elements // channels
    if node.op == "TRANSPOSE_CONV":
        given = node.input(2)
        return given.elements // channels * weights.elements if given else 0
    return weights.elements * output.elements // max(weights.shape[0], 1)


_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def parameter_bytes(nodes: Sequence[Node]) -> int:
    """Return the bytes of the weights and biases of operators, each tensor once, without sizes and axes."""
    tensors = {t.index: t for node in nodes for t in node.constants if t.scales}
    return sum(len(t.constant) for t in tensors.values() if t.constant is not None)
