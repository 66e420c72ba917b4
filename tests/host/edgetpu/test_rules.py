"""The rules by themselves, on operators made by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg_host.edgetpu import check, partition, rules, text
from cellseg_host.edgetpu.finding import CPU, DOUBT, NOTE
from cellseg_host.edgetpu.graph import UNKNOWN, Graph, Node, Tensor


def activation(index, *shape, dtype="int8", scales=(0.1,)):
    return Tensor(index, f"net/layer{index}/Op", shape, dtype, scales, (0,) * len(scales))


def constant(index, values, dtype="int8", scales=(), zero_points=()):
    values = np.asarray(values, dtype)
    return Tensor(index, "", values.shape, dtype, scales, zero_points, np.frombuffer(values.tobytes(), np.uint8))


def sizes(*values):
    return constant(90, values, "int32")


def weights(shape=(8, 3, 3, 4), dtype="int8", zero=0):
    return constant(91, np.ones(shape), dtype, (0.1,) * shape[0], (zero,) * shape[0])


def bias(dtype="int32"):
    return constant(92, np.ones(8), dtype, (0.1,) * 8, (0,) * 8)


SMALL = activation(0, 1, 16, 16, 4)


def node(op="RELU", inputs=(SMALL,), output=(1, 16, 16, 4), version=1, **options):
    return Node(op, version, tuple(inputs), (activation(1, *output),), options)


def convolution(weight=None, bias_=None, image=SMALL, **options):
    return node("CONV_2D", (image, weight or weights(), bias_ or bias()), (1, 16, 16, 8), version=3, **options)


def resize(op="RESIZE_NEAREST_NEIGHBOR", side=32, version=3, half=True, corners=False, channels=4):
    image = activation(0, 1, 16, 16, channels)
    options = {"halfPixelCenters": half, "alignCorners": corners}
    return node(op, (image, sizes(side, side)), (1, side, side, channels), version, **options)


def reduced(op, axes, channels=8):
    return node(op, (activation(0, 1, 8, 8, channels), sizes(*axes)), (1, 1, 1, channels))


def levels(made, compiler=16):
    return [f.level for f in rules.findings(made, compiler)]


MAPS = {
    "activation": node(),
    "convolution": convolution(),
    "uint8 weights of one scale": convolution(constant(91, np.ones((8, 3, 3, 4)), "uint8", (0.1,), (128,))),
    "uint8": node(inputs=[activation(0, 1, 8, 8, 4, dtype="uint8")]),
    "no bias": node("CONV_2D", (SMALL, weights(), None), (1, 16, 16, 8)),
    "zeros joined": node(
        "CONCATENATION", (SMALL, constant(5, np.zeros((1, 16, 16, 4)), "int8", (0.1,), (0,))), (1, 16, 16, 8)
    ),
    "nearest version 2": resize(version=2, half=False),
    "mean over pixels": reduced("MEAN", (1, 2)),
    "mean over 8 channels": reduced("MEAN", (-1,)),
    "padding": node("PAD", (SMALL, sizes(0, 0, 1, 1, 1, 1, 0, 0)), (1, 18, 18, 4)),
    "a row of classes": node("SOFTMAX", (activation(0, 1, 10),), (1, 10)),
    "dense": node("FULLY_CONNECTED", (activation(0, 1, 4), weights((8, 4)), bias()), (1, 8), weightsFormat=0),
    "split by channels": node("SPLIT", (sizes(3), SMALL), (1, 16, 16, 2)),
    "PReLU": node("PRELU", (SMALL, constant(5, np.ones((1, 1, 4)), "int8", (0.1,), (0,)))),
    "slice": node("STRIDED_SLICE", (SMALL, sizes(0, 0), sizes(1, 1), sizes(1, 1)), ellipsisMask=0, newAxisMask=0),
    "stride of one": node(
        "TRANSPOSE_CONV", (sizes(1, 16, 16, 8), weights(), SMALL, bias()), (1, 16, 16, 8), strideW=1, strideH=1
    ),
}
STAYS = {
    "ELU": (node("ELU"), "not on the list", "ReLU"),
    "DEPTH_TO_SPACE": (node("DEPTH_TO_SPACE"), "not on the list", "block² channels"),
    "unheard of": (node("HYPER_OP"), "not on the list", "replace HYPER_OP"),
    "sizes at run time": (
        Node("FLOOR_MOD", 1, (activation(0, 4, dtype="int32"),), (activation(1, 4, dtype="int32"),)),
        "not on the list",
        "--tile 256",
    ),
    "float32": (node(inputs=[activation(0, 1, 8, 8, 4, dtype="float32", scales=())]), "works on float32", "--int8"),
    "int16": (node(inputs=[activation(0, 1, 8, 8, 4, dtype="int16")]), "works on int16", "--int8"),
    "int32": (node("ADD", inputs=[activation(0, 2, dtype="int32")]), "works on int32", "--tile 256"),
    "no scale": (node(inputs=[activation(0, 1, 8, 8, 4, scales=())]), "without one scale", "--int8"),
    "two scales": (node(inputs=[activation(0, 1, 8, 8, 2, scales=(0.1, 0.2))]), "without one scale", "--int8"),
    "batch of two": (node(inputs=[activation(0, 2, 8, 8, 4)]), "innermost three", "batch of one"),
    "volume": (node(inputs=[activation(0, 1, 5, 8, 8, 4)]), "innermost three", "height, width"),
    "shifted weights": (convolution(weights(zero=3)), "zero point", "--int8"),
    "float weights": (convolution(weights(dtype="float32")), "float32, not int8", "--int8"),
    "int16 bias": (convolution(bias_=bias("int16")), "bias of int16", "--int8"),
    "computed weights": (convolution(activation(5, 8, 3, 3, 4)), "computed", "weights of their own"),
    "uneven dilation": (convolution(dilationWFactor=2, dilationHFactor=1), "differs", "dilation_rate"),
    "fused pooling": (node("MAX_POOL_2D", fusedActivationFunction=1), "activation fused", "MAX_POOL_2D"),
    "constant joined": (
        node("CONCATENATION", (SMALL, constant(5, np.ones((1, 16, 16, 4)), "int8", (0.1,), (0,)))),
        "constant that is not all zeros",
        "computed",
    ),
    "computed size": (
        node("RESIZE_BILINEAR", (SMALL, activation(5, 2, dtype="int32")), version=2),
        "sizes are computed",
        "--tile 256",
    ),
    "softmax of a map": (node("SOFTMAX"), "one dimension", "logits"),
    "softmax too long": (node("SOFTMAX", (activation(0, 1, 16001),), (1, 16001)), "16,000", "logits"),
    "dense on a map": (
        node("FULLY_CONNECTED", (SMALL, weights((8, 4)), bias()), (1, 16, 16, 8)),
        "more than one dimension",
        "1 × 1 Conv2D",
    ),
    "shuffled weights": (
        node("FULLY_CONNECTED", (activation(0, 1, 4), weights((8, 4)), bias()), (1, 8), weightsFormat=1),
        "shuffled",
        "--int8",
    ),
    "mean over the batch": (reduced("MEAN", (0,)), "batch", "MEAN"),
    "sum over the batch": (reduced("SUM", (-4,)), "batch", "SUM"),
    "mean over 6 channels": (reduced("MEAN", (3,), 6), "multiple of 4", "multiple of 4"),
    "batch packed": (node("PACK", axis=0), "packs", "axis"),
    "batch padded": (node("PAD", (SMALL, sizes(1, 0, 0, 0, 0, 0, 0, 0))), "pads", "height"),
    "batch split": (node("SPLIT", (sizes(0), SMALL)), "splits", "axis"),
    "PReLU of pixels": (
        node("PRELU", (SMALL, constant(5, np.ones((16, 16, 4)), "int8", (0.1,), (0,)))),
        "each pixel",
        "shared_axes",
    ),
    "every second": (
        node("STRIDED_SLICE", (SMALL, sizes(0, 0), sizes(8, 8), sizes(2, 2))),
        "every nth",
        "steps of 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("made", MAPS.values(), ids=MAPS)
def test_what_the_list_allows_maps(made):
    assert levels(made) == []


@pytest.mark.parametrize(("made", "reason", "change"), STAYS.values(), ids=STAYS)
def test_what_it_does_not_allow_stays_on_the_cpu_with_a_reason_and_a_change(made, reason, change):
    found = [f for f in rules.findings(made, 16) if f.level == CPU]
    assert len(found) == 1
    assert reason in found[0].reason
    assert change in found[0].change


def test_limits_without_published_bounds_are_doubts():
    large = activation(0, 1, 1024, 1024, 8)
    assert levels(node(inputs=[large], output=(1, 1024, 1024, 8))) == [DOUBT]
    assert levels(node("RESHAPE", (SMALL, sizes(1, 2**20)), (1, 2**20))) == [DOUBT]
    assert levels(resize(version=2, half=False, side=512)) == [DOUBT]
    enlarging = node(
        "TRANSPOSE_CONV", (sizes(1, 32, 32, 8), weights(), SMALL), (1, 32, 32, 8), version=2, strideW=2, strideH=2
    )
    assert levels(enlarging) == [DOUBT]
    assert levels(resize("RESIZE_BILINEAR")) == [DOUBT]


def test_half_pixel_centres_are_for_compiler_16():
    (note,) = rules.findings(resize(), 16)
    assert note.level == NOTE
    assert "--fix" in note.change
    for compiler in (14, 15):
        (found,) = rules.findings(resize(), compiler)
        assert found.level == CPU
        assert "--fix" in found.change
        assert "nearest" in next(rules.findings(resize("RESIZE_BILINEAR"), compiler)).change
    for made in (resize(side=24), resize(half=False, corners=True), resize(corners=True)):
        assert "whole factor" in next(rules.findings(made, 15)).change


def test_operators_of_runtime_14_need_compiler_16():
    made = node("TRANSPOSE", (SMALL, sizes(0, 2, 1, 3)))
    assert levels(made) == []
    assert levels(made, 15) == [CPU]


@pytest.mark.parametrize("op", rules.SUPPORTED)
def test_every_rule_takes_an_operator_with_nothing_to_it(op):
    """Odd graphs, with inputs and options missing, are checked and do not raise."""
    list(rules.findings(Node(op, 1, (), (activation(1, 1),)), 16))
    list(rules.findings(Node(op, 1, (None, None, None, None), (activation(1),)), 16))
    assert levels(Node(op, 1, (SMALL,), ())) == [CPU]
    list(rules.findings(Node(op, 1, (SMALL, None, None, None), (activation(1, 1, 4),)), 14))


@pytest.mark.parametrize(
    ("op", "version"), [("CONV_2D", 6), ("TRANSPOSE_CONV", 4), ("FULLY_CONNECTED", 12), ("EXP", 2)]
)
def test_operators_newer_than_the_compiler_refuse_the_model(op, version):
    new = node(op, version=version)
    verdict = check.check_graph(Graph((node(), new), (SMALL,), new.outputs))
    assert verdict.mapping == check.NOT_AT_ALL
    assert [f"{op} version {version}" in f.reason for f in verdict.refusals] == [True]
    assert not verdict.on_tpu
    assert verdict.partitions == 0
    assert rules.unreadable(node(op)) is None


def chain(*ops):
    return tuple(Node(op, 1, (activation(i, 1, 4),), (activation(i + 1, 1, 4),)) for i, op in enumerate(ops))


def test_only_the_first_part_maps():
    nodes = chain("RELU", "ELU", "TANH", "RELU", "ELU", "RELU")
    verdict = check.check_graph(Graph(nodes, (activation(0, 1, 4),), nodes[-1].outputs))
    assert verdict.mapping == check.PARTLY
    assert verdict.partitions == 3
    assert [layer.on_tpu for layer in verdict.layers] == [True] + [False] * 5
    assert [layer.follows for layer in verdict.layers] == [False, False, True, True, False, True]
    shown = text.verdict_text(verdict, "chain")
    assert "3, of which the compiler maps the first" in shown
    assert "3 more operators" in shown
    assert "2 ELU (layer2, layer5)" in shown


def test_a_branch_that_does_not_wait_for_the_cpu_maps():
    """As in the compiler's log of tiny-yolo-v3: the head before the refused resize is on the TPU."""
    trunk = Node("RELU", 1, (SMALL,), (activation(1, 1, 4),))
    refused = Node("ELU", 1, (activation(1, 1, 4),), (activation(2, 1, 4),))
    after = Node("RELU", 1, (activation(2, 1, 4),), (activation(3, 1, 4),))
    branch = Node("TANH", 1, (activation(1, 1, 4),), (activation(4, 1, 4),))
    verdict = check.check_graph(Graph((trunk, refused, after, branch), (SMALL,), branch.outputs))
    assert [layer.on_tpu for layer in verdict.layers] == [True, False, False, True]


def test_nothing_maps_where_the_first_operator_is_the_only_one():
    nodes = chain("ELU")
    verdict = check.check_graph(Graph(nodes, (activation(0, 1, 4),), nodes[-1].outputs))
    assert verdict.mapping == check.NOT_AT_ALL
    assert not verdict.maps
    assert verdict.share == 0


def test_operators_that_wait_for_each_other_end():
    knot = (
        Node("RELU", 1, (activation(2, 1, 4),), (activation(1, 1, 4),)),
        Node("RELU", 1, (activation(1, 1, 4),), (activation(2, 1, 4),)),
    )
    assert partition.parts(knot, [True, True]) == [partition.Part(False, (0, 1))]


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 30), max_size=3)), min_size=1, max_size=25))
def test_parts_are_of_one_kind_alternate_and_find_their_inputs(drawn):
    nodes = [
        Node("RELU", 1, tuple(activation(i % (n + 1), 1) for i in inputs), (activation(n + 1, 1),))
        for n, (_, inputs) in enumerate(drawn)
    ]
    maps = [kind for kind, _ in drawn]
    parts = partition.parts(nodes, maps)
    assert sorted(n for part in parts for n in part.nodes) == list(range(len(nodes)))
    assert all(a.on_tpu != b.on_tpu for a, b in itertools.pairwise(parts))
    ready = {0}
    for part in parts:
        for n in part.nodes:
            assert maps[n] == part.on_tpu
            assert {t.index for t in nodes[n].inputs} <= ready
            ready |= {n + 1}


def test_unknown_sizes_refuse_the_model_and_name_the_remedy():
    free = activation(0, 1, UNKNOWN, UNKNOWN, 3)
    made = node(inputs=[free])
    verdict = check.check_graph(Graph((made,), (free,), made.outputs))
    assert "1 × any × any × 3" in verdict.refusals[0].reason
    assert "--tile 256" in verdict.changes[0]
    inside = Node("RELU", 1, (SMALL,), (activation(1, 1, UNKNOWN, 4),))
    assert "inside" in check.check_graph(Graph((inside,), (SMALL,), inside.outputs)).refusals[0].reason


def test_costs_of_layers():
    assert partition.multiply_adds(convolution()) == 16 * 16 * 8 * 3 * 3 * 4
    depthwise = node("DEPTHWISE_CONV_2D", (SMALL, weights((1, 3, 3, 4))))
    assert partition.multiply_adds(depthwise) == 16 * 16 * 4 * 9
    transposed = node("TRANSPOSE_CONV", (sizes(1, 32, 32, 8), weights((8, 2, 2, 4)), SMALL), (1, 32, 32, 8))
    assert partition.multiply_adds(transposed) == 16 * 16 * 8 * 2 * 2 * 4
    dense = node("FULLY_CONNECTED", (activation(0, 1, 4), weights((8, 4)), bias()), (1, 8))
    assert partition.multiply_adds(dense) == 32
    assert partition.multiply_adds(node()) == 0


def test_parameters_are_counted_once_and_overflow_the_chip(monkeypatch):
    shared = convolution()
    assert partition.parameter_bytes([shared, shared]) == 8 * 3 * 3 * 4 + 4 * 8
    assert partition.parameter_bytes([node("PAD", (SMALL, sizes(0, 0)))]) == 0
    monkeypatch.setattr(check, "ON_CHIP_BYTES", 300)
    verdict = check.check_graph(Graph((shared,), (SMALL,), shared.outputs))
    assert (verdict.on_chip_bytes, verdict.off_chip_bytes) == (300, 20)
    assert verdict.mapping == check.WHOLLY
