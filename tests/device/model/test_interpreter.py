"""A model and its card have to fit each other; thresholds and tables are arithmetic that must be exact."""

import dataclasses
import math

import numpy as np
import pytest

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
from cellseg_device.model import interpreter as models
from cellseg_device.model.card import Card, Output
from cellseg_device.model.interpreter import MapSpec, Model, float_to_int8, map_spec

FOREGROUND = Output("foreground", 0, "logit")
DISTANCE = Output("distance", 1, "probability")


class Graph:
    """An interpreter of a network that does nothing, of any shape."""

    def __init__(self, inputs, outputs):
        self.inputs = [self._detail(0, *i) for i in inputs]
        self.outputs = [self._detail(n + 1, *o) for n, o in enumerate(outputs)]

    @staticmethod
    def _detail(index, shape, dtype, quantization):
        return {
            "index": index,
            "shape": np.array(shape),
            "shape_signature": np.array(shape),
            "dtype": dtype,
            "quantization": quantization,
        }

    def get_input_details(self):
        return self.inputs

    def get_output_details(self):
        return self.outputs


INT8_INPUT = ((1, 256, 256, 3), np.int8, (1 / 255, -128))
FLOAT_INPUT = ((1, 256, 256, 3), np.float32, (0.0, 0))
INT8_MAPS = [((1, 128, 128, 4), np.int8, (0.1, -20)), ((1, 128, 128, 1), np.int8, (1 / 256, -128))]
CARD = Card("fake", "int8", (FOREGROUND, DISTANCE), 16, 80, 1.0, 99.9, 18.0)


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Load a model file with this card; its graph is a `Graph`."""

    def load(card=CARD, inputs=(INT8_INPUT,), outputs=tuple(INT8_MAPS)):
        monkeypatch.setattr(models, "_interpreter", lambda flatbuffer, threads, delegate: Graph(inputs, outputs))
        return Model(tmp_path / "fake.tflite", data=cards.attach(b"\x1c\0\0\0TFL3" + bytes(100), card))

    return load


@pytest.fixture
def with_card(tmp_path, model_path):
    """The bundled graph with another card, in a file."""

    def write(**fields):
        data = model_path.read_bytes()
        path = tmp_path / "other.tflite"
        path.write_bytes(cards.attach(data, dataclasses.replace(cards.read_from(data), **fields)))
        return path

    return write


def test_the_bundled_model_is_int8_and_fits_its_card(model):
    assert model.input_dtype is np.int8
    assert model.card.quantization == "int8"
    assert model.maps["foreground"].reduction == 1
    assert set(model.maps) == {"foreground", "distance"}
    assert model.card.margin % model.card.stride == 0


def describe(tensor):
    """Of a tensor that must not be kept: the interpreter refuses to run while it is."""
    return tensor.dtype, tensor.shape


def test_outputs_have_the_size_their_maps_say(model):
    for size in ((64, 96), (16, 16), (160, 32)):
        model.resize(*size)
        assert model.input_view().shape == (*size, 3)
        model.input_view()[...] = 0
        model.invoke()
        for spec in model.maps.values():
            cell = spec.block * spec.reduction
            expected = np.dtype(np.int8), (size[0] // cell, size[1] // cell, spec.block**2)
            assert describe(model.output_tensor(spec)) == expected


def test_outputs_that_are_swapped_in_the_card_are_noticed(with_card, model):
    swapped = tuple(dataclasses.replace(o, index=1 - o.index) for o in model.card.outputs)
    with pytest.raises(ModelError, match=r"other\.tflite: the foreground map is smaller than the input"):
        Model(with_card(outputs=swapped))


@pytest.mark.parametrize("index", [2, 99])
def test_an_output_that_is_not_there_is_noticed(with_card, index):
    with pytest.raises(ModelError, match=f"the card names output {index}, but the graph has 2"):
        Model(with_card(outputs=(Output("foreground", index, "logit"),)))


def test_a_model_without_card_and_one_that_is_cut_off_are_refused(tmp_path, model_path, capfd):
    data = model_path.read_bytes()
    graph = cards.strip(data)
    path = tmp_path / "a.tflite"
    for content, reason in {
        graph: "has no card",
        data[: len(data) // 2]: "has no card",
        cards.attach(graph[: len(graph) // 2], CARD): r"the runtime \(.+\) refuses the graph",
        cards.attach(b"\x1c\0\0\0TFL3" + np.random.default_rng(0).bytes(5000), CARD): "refuses the graph",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ModelError, match=rf"a\.tflite: .*{reason}") as caught:
            Model(path)
        assert "\n" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_a_fixed_graph_loads(load):
    model = load()
    assert model.tile == (256, 256)
    assert model.maps["foreground"] == MapSpec(FOREGROUND, 2, 1, 0.1, -20)
    assert model.maps["distance"] == MapSpec(DISTANCE, 1, 2, 1 / 256, -128)


@pytest.mark.parametrize(
    ("card", "graph", "reason"),
    [
        ({"margin": 128}, {}, "tiles of 256×256 do not fit the card's margin 128"),
        ({"stride": 96, "margin": 96}, {}, "do not fit the card's margin 96 and stride 96"),
        ({}, {"inputs": (INT8_INPUT, INT8_INPUT)}, "input is not one"),
        ({}, {"inputs": (((1, 256, 256, 1), *INT8_INPUT[1:]),)}, "input is not one"),
        ({}, {"inputs": (((1, 196_608), *INT8_INPUT[1:]),)}, "input is not one"),
        ({}, {"inputs": (((4, 256, 256, 3), *INT8_INPUT[1:]),)}, "input is not one"),
        ({}, {"inputs": ((INT8_INPUT[0], np.int8, (math.nan, -128)),)}, "int8 input is scaled by"),
        ({}, {"inputs": ((INT8_INPUT[0], np.uint8, (1 / 255, 0)),)}, "input is uint8, not int8 or float32"),
        ({}, {"inputs": ((INT8_INPUT[0], np.int8, (1 / 127, 0)),)}, "int8 input is scaled by"),
        ({}, {"inputs": ((INT8_INPUT[0], np.int8, (1 / 255, 0)),)}, "int8 input is scaled by"),
        ({}, {"outputs": (((1, 128, 128, 4), np.uint8, (0.1, 0)), INT8_MAPS[1])}, "output 0 is uint8"),
        ({}, {"outputs": (((1, 128, 128, 3), *INT8_MAPS[0][1:]), INT8_MAPS[1])}, "not a foreground map of a 256×256"),
        ({}, {"outputs": (((1, 100, 100, 4), *INT8_MAPS[0][1:]), INT8_MAPS[1])}, "not a foreground map of a 256×256"),
        ({}, {"outputs": (((1, 512, 512, 1), *INT8_MAPS[0][1:]), INT8_MAPS[1])}, "not a foreground map of a 256×256"),
        (
            {},
            {"outputs": (((1, 2), *INT8_MAPS[0][1:]), INT8_MAPS[1])},
            r"has the shape \(1×2\) and so is not a foreground map",
        ),
        ({}, {"outputs": (((0, 128, 128, 4), *INT8_MAPS[0][1:]), INT8_MAPS[1])}, r"has the shape \(0×128×128×4\)"),
        ({}, {"outputs": ((INT8_MAPS[0][0], np.int8, (0.0, 0)), INT8_MAPS[1])}, "output 0 is scaled by 0, 0"),
        ({}, {"outputs": ((INT8_MAPS[0][0], np.int8, (math.nan, 0)), INT8_MAPS[1])}, "output 0 is scaled by nan, 0"),
        ({}, {"outputs": ((INT8_MAPS[0][0], np.int8, (1e-300, 0)), INT8_MAPS[1])}, "output 0 is scaled by 1e-300, 0"),
        ({}, {"outputs": ((INT8_MAPS[0][0], np.int8, (0.1, 2**40)), INT8_MAPS[1])}, "output 0 is scaled by 0.1, 10995"),
        ({}, {"outputs": (INT8_MAPS[1], INT8_MAPS[1])}, "the foreground map is smaller than the input"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_graph_that_does_not_fit_is_refused(load, card, graph, reason):
    with pytest.raises(ModelError, match=reason):
        load(dataclasses.replace(CARD, **card), **graph)


SPECS = [
    MapSpec(FOREGROUND, 1, 1, 0.0977, -21),
    MapSpec(FOREGROUND, 1, 1, 1 / 16, 0),
    MapSpec(DISTANCE, 1, 1, 1 / 256, -128),
    MapSpec(DISTANCE, 1, 1, 0.02, 100),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("probability", [1e-6, 0.1, 0.4, 0.5, 0.75, 0.999999])
def test_threshold_is_the_smallest_value_of_at_least_the_probability(spec, probability):
    def reaches(value):
        meant = spec.step * (value - spec.zero)
        return (1 / (1 + math.exp(-meant)) if spec.output.scale == "logit" else meant) >= probability - 1e-12

    reaching = [value for value in range(-128, 128) if reaches(value)]
    assert spec.threshold(probability) == (reaching[0] if reaching else 128)


def test_threshold_of_a_half_is_the_zero_point_of_a_logit():
    assert [MapSpec(FOREGROUND, 1, 1, 0.1, zero).threshold(0.5) for zero in (-128, -7, 0, 127)] == [-128, -7, 0, 127]


def test_float_outputs_become_int8_and_keep_their_meaning():
    values = np.linspace(0, 1, 256).astype(np.float32)
    assert np.array_equal(float_to_int8(values, "probability"), np.arange(-128, 128))
    logits = np.array([-100, -8, -1 / 16, 0, 0.03, 0.04, 7.9375, 100, np.inf, -np.inf], np.float32)
    assert float_to_int8(logits, "logit").tolist() == [-128, -128, -1, 0, 0, 1, 127, 127, 127, -128]


@pytest.mark.parametrize("scale", ["logit", "probability"])
def test_a_float_output_reaches_the_threshold_where_its_probability_does(scale):
    spec = map_spec(Output("foreground", 0, scale), (1, 8, 8, 1), (8, 8), None)
    probability = np.linspace(0.02, 0.98, 500)
    values = np.log(probability / (1 - probability)) if scale == "logit" else probability
    for threshold in (0.3, 0.5, 0.8):
        above = float_to_int8(values.astype(np.float32), scale) >= spec.threshold(threshold)
        assert np.abs(probability[above].min() - threshold) < 0.02  # a step of the scale
        assert (np.diff(above.astype(int)) >= 0).all()


def test_input_table_of_an_int8_model(load):
    levels = np.arange(256, dtype=np.uint8)
    table = load().input_table(levels)
    assert table.dtype == np.int8
    assert np.array_equal(table, levels.astype(int) - 128)


def test_input_table_of_a_float_model(load):
    levels = np.arange(256, dtype=np.uint8)
    float_maps = tuple((shape, np.float32, (0.0, 0)) for shape, *_ in INT8_MAPS)
    table = load(inputs=(FLOAT_INPUT,), outputs=float_maps).input_table(levels)
    assert table.dtype == np.float32
    assert np.array_equal(table, levels.astype(np.float32) / np.float32(255))


def test_an_input_too_large_to_run_is_a_model_error(model, monkeypatch):
    class Full:
        def resize_tensor_input(self, index, shape, strict):
            pass

        def allocate_tensors(self):
            raise MemoryError("no room")

    monkeypatch.setattr(model, "interpreter", Full())
    with pytest.raises(ModelError, match=r"cannot run at 20000×10000 pixels \(no room\)"):
        model.resize(10_000, 20_000)
