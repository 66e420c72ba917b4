"""The models that ship: as large and as costly as promised, int8 throughout, and the same with a fixed size."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg_device.model.card import read_from
from cellseg_device.model.graph import operators
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import gate as gates
from cellseg_device.pipeline import predict, segment
from cellseg_device.pipeline.selftest import answer, gate_answer, known_image
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_host.edgetpu import check
from cellseg_host.evaluation.metrics import foreground_iou
from cellseg_host.report.cost import cost

MODELS = Path(__file__).resolve().parents[2] / "models"
# bytes, multiply-adds per input pixel
LARGEST = {"nuclei": (300_000, 2_700), "chamber": (300_000, 2_700), "nuclei-nano": (150_000, 1_200)}
TILES = (256, 512)
FILES = [MODELS / f"{name}.tflite" for name in LARGEST]
KIND = MODELS / "kind.tflite"
FIXED = [MODELS / "static" / f"{name}-{tile}.tflite" for name in LARGEST for tile in TILES]


def test_nothing_else_ships():
    assert sorted(MODELS.rglob("*.tflite")) == sorted([*FILES, *FIXED, KIND])


@pytest.mark.parametrize("path", FILES + FIXED, ids=lambda path: path.stem)
def test_size_cost_and_arithmetic(path):
    data = path.read_bytes()
    name = path.stem.removesuffix("-256").removesuffix("-512")
    size, macs = LARGEST[name]
    assert len(data) <= size
    assert cost(data).macs_per_px <= macs
    card = read_from(data)
    assert (card.name, card.quantization) == (name, "int8")
    dtypes = {dtype for operator in operators(Model(path).interpreter) for dtype in operator.dtypes}
    assert dtypes <= {"int8", "int32"}  # int32: biases and sizes


@pytest.mark.parametrize("path", FILES + FIXED, ids=lambda path: path.stem)
def test_the_known_answer_is_given(path):
    model = Model(path)
    assert answer(model) == model.card.known_answer


def test_the_gate_is_tiny_and_a_glance_costs_next_to_nothing():
    data = KIND.read_bytes()
    gate = gates.open_gate(KIND)
    assert len(data) <= 60_000
    assert (gate.card.name, gate.card.quantization) == ("kind", "int8")
    assert {dtype for operator in operators(gate.interpreter) for dtype in operator.dtypes} <= {"int8", "int32"}
    (view,) = gates.views(np.zeros((1200, 1600), np.uint8), gates.of(gate), gate.card.stride)
    glance = cost(data).macs_per_px * view.shape[0] * view.shape[1]
    field = cost(FILES[0].read_bytes()).macs_per_px * 1200 * 1600
    assert glance <= 0.01 * field


def test_the_gate_names_what_follows_and_gives_its_known_answer():
    gate = gates.open_gate(KIND)
    assert {c.name: (c.follows, c.model) for c in gates.of(gate).classes} == {
        "chamber": ("segment", "chamber"),
        "fluorescence": ("segment", "nuclei"),
        "other": ("flag", "nuclei"),
        "smear": ("flag", "nuclei"),
        "tissue": ("segment", "nuclei"),
    }
    assert gate_answer(gate) == gate.card.known_answer
    assert gates.classify(known_image(), gate).found.name == "fluorescence"


@pytest.mark.parametrize("path", FIXED, ids=lambda path: path.stem)
def test_a_fixed_size_is_for_an_edge_tpu(path):
    tile = int(path.stem.rpartition("-")[2])
    model = Model(path)
    assert model.tile == (tile, tile)
    verdict = check.check(path.read_bytes(), path.name)
    assert verdict.maps
    assert not verdict.on_cpu


@pytest.mark.parametrize("path", FIXED, ids=lambda path: path.stem)
def test_a_fixed_size_sees_the_same(path, samples):
    """To the bit where both were calibrated with views of one size."""
    image = segment.decode((samples / "tissue.png").read_bytes(), Stopwatch())
    name, _, tile = path.stem.rpartition("-")
    whole, tiled = (predict.predict(image, Model(p), Stopwatch()) for p in (MODELS / f"{name}.tflite", path))
    labels, others = segment.labels_of(whole), segment.labels_of(tiled)
    if tile == "256":
        assert all(np.array_equal(tiled.maps[quantity], values) for quantity, values in whole.maps.items())
        assert np.array_equal(labels, others)
    # Tissue is nothing that chamber has seen, so its maps are vague there
    assert foreground_iou(labels > 0, others > 0) > (0.9 if name == "chamber" else 0.95)
    assert int(others.max()) == pytest.approx(int(labels.max()), rel=0.05)


@pytest.mark.parametrize("path", [f for f in FILES if f.stem != "chamber"], ids=lambda path: path.stem)
def test_the_samples_are_counted_nearly_right(path, samples):
    model = Model(path)
    for truth in sorted((samples / "truth").glob("*.png")):
        true = int(cv2.imread(str(truth), cv2.IMREAD_UNCHANGED).max())
        image = next(samples.glob(f"{truth.name.partition('.')[0]}.png"))
        found = segment.segment(image.read_bytes(), model).counts.count
        assert abs(found - true) <= 0.15 * true
