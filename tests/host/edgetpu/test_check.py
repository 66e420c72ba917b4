"""The check on real models: converted networks, damaged files, the rewriting of resizes, and the command."""

import contextlib
import json

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_device.errors import InputError, ModelError
from cellseg_device.model.card import attach, read_from, strip
from cellseg_host import architectures
from cellseg_host.commands.edgetpu import edgetpu
from cellseg_host.edgetpu import check, fix
from cellseg_host.edgetpu.graph import read
from cellseg_host.edgetpu.untrained import check_architecture, untrained_model

TILE = (32, 32)


@pytest.fixture(scope="session")
def edge_unet(model_path):
    """edge-unet untrained, int8, of a fixed size, with a card."""
    return attach(untrained_model(architectures.get("edge-unet"), None, TILE), read_from(model_path.read_bytes()))


@pytest.fixture(scope="module")
def islands():
    """A network whose bilinear resize, ELU and pixel shuffle cut it into parts."""
    import tensorflow as tf
    import tf_keras as keras
    from tf_keras import layers

    def build(heads, **options):
        image = x = keras.Input((None, None, 3), name="image")
        x = layers.Conv2D(8, 3, 2, padding="same", activation="relu", name="first")(x)
        x = layers.UpSampling2D(2, interpolation="bilinear", name="smooth")(x)
        x = layers.Conv2D(8, 3, 2, padding="same", activation="elu", name="curved")(x)
        x = layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(x)
        x = layers.Conv2D(4, 1, name=heads[0])(x)
        return keras.Model(image, tf.nn.depth_to_space(x, 2), name="islands")

    arch = architectures.Architecture("islands", build, 16, 16, "none")
    return check_architecture(arch, tile=TILE)


def run(*arguments):
    return CliRunner().invoke(edgetpu, list(map(str, arguments)))


@pytest.fixture
def model_file(edge_unet, tmp_path, monkeypatch):
    """edge-unet in a file, where no compiler is on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "model.tflite"
    path.write_bytes(edge_unet)
    return path


def test_edge_unet_maps_wholly_and_its_resizes_are_reported(edge_unet):
    verdict = check.check(edge_unet)
    assert verdict.mapping == check.WHOLLY
    assert verdict.share == 1
    assert verdict.partitions == 1
    assert not verdict.changes
    assert ["version 3 (half-pixel centres)" in note.reason for note in verdict.notes] == [True]
    resizes = [layer for layer in verdict.layers if layer.op == "RESIZE_NEAREST_NEIGHBOR"]
    assert [layer.name for layer in resizes] == ["decoder0_up", "decoder1_up", "decoder2_up"]
    assert {"foreground", "distance", "encoder0_conv0_relu"} <= {layer.name for layer in verdict.layers}


def test_older_compilers_take_its_encoder_only(edge_unet):
    verdict = check.check(edge_unet, compiler=15)
    assert verdict.mapping == check.PARTLY
    assert verdict.partitions == 4
    assert {layer.op for layer in verdict.on_cpu if not layer.follows} == {"RESIZE_NEAREST_NEIGHBOR"}
    assert 0 < verdict.share < 1
    assert "--fix" in verdict.changes[0]


def test_multiply_adds_and_parameters_are_those_of_the_network(edge_unet):
    network = architectures.get("edge-unet").network()
    verdict = check.check(edge_unet)
    pixels = TILE[0] * TILE[1]
    assert sum(layer.multiply_adds for layer in verdict.layers) == architectures.macs_per_px(network, TILE[0]) * pixels
    # Weights of a byte; what batch normalisation had folds into biases of four
    kernels = sum(int(np.prod(w.shape)) for w in network.weights if "kernel" in w.name)
    channels = sum(w.shape[-1] for w in network.weights if "kernel" in w.name)
    assert verdict.on_chip_bytes == kernels + 4 * channels
    assert verdict.off_chip_bytes == 0


def test_transposed_convolutions_are_a_doubt():
    verdict = check_architecture(architectures.get("unet"), {"filters": (8, 16)}, TILE)
    assert verdict.mapping == check.DOUBTFUL
    assert verdict.maps
    assert verdict.share == 1
    assert [layer.name for layer in verdict.layers if layer.findings] == ["decoder0_up"]
    assert "UpSampling2D" in verdict.changes[0]


def test_operators_off_the_list_cut_the_graph(islands):
    assert islands.mapping == check.PARTLY
    assert islands.partitions == 2
    by_op = {layer.op: layer for layer in islands.layers}
    assert {layer.name for layer in islands.on_tpu} == {"first", "smooth", "curved"}
    assert by_op["ELU"].findings[0].change.startswith("use ReLU")
    assert "block²" in by_op["DEPTH_TO_SPACE"].findings[0].change
    assert by_op["RESIZE_BILINEAR"].findings[0].level == "doubt"
    assert by_op["QUANTIZE"].findings[0].reason == "works on float32"
    assert [layer.name for layer in islands.layers if layer.follows] == ["second", "foreground"]
    assert islands.changes[0].startswith("use ReLU")


def test_the_released_model_is_of_any_size_and_refused(model_path):
    verdict = check.check(model_path.read_bytes())
    assert verdict.mapping == check.NOT_AT_ALL
    assert ["1 × any × any × 3" in refusal.reason for refusal in verdict.refusals] == [True]
    assert verdict.changes == ("quantize with --tile 256, which fixes the input's size",)
    assert verdict.on_chip_bytes == 0


def test_a_float_model_is_refused():
    from cellseg_host.quantize import convert

    network = architectures.get("unet").network(filters=(4, 8))
    verdict = check.check(convert(network, "float32", TILE))
    assert verdict.mapping == check.NOT_AT_ALL
    assert "float32" in verdict.refusals[0].reason
    assert verdict.changes[0] == "quantize all of it with --int8"


def test_a_tile_or_option_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="multiple of 16"):
        check_architecture(architectures.get("edge-unet"), tile=(40, 32))
    with pytest.raises(InputError, match="no option 'filter'"):
        check_architecture(architectures.get("unet"), {"filter": 8}, TILE)


def _packed(change) -> bytes:
    """A model of no operators, changed before it is packed."""
    import flatbuffers

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    change(model, graph)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_model_without_operators_is_refused():
    with pytest.raises(ModelError, match="no operators"):
        check.check(_packed(lambda model, graph: None))


def test_a_compiled_model_is_told_apart():
    def compiled(model, graph):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode, code.customCode = schema.BuiltinOperator.CUSTOM, "edgetpu-custom-op"
        code.deprecatedBuiltinCode, code.version = schema.BuiltinOperator.CUSTOM, 1
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [], []
        model.operatorCodes, graph.operators = [code], [operator]

    with pytest.raises(InputError, match="compiled for the Edge TPU already"):
        check.check(_packed(compiled))


@pytest.mark.parametrize("data", [b"", b"PNG", b"\x1c\0\0\0TFL2" + bytes(100), b"\x89PNG\r\n\x1a\n" * 20])
def test_what_is_not_a_tflite_is_refused(data):
    with pytest.raises(ModelError, match="not a TFLite model"):
        read(data)


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0.0001, 0.999))
def test_a_file_that_is_cut_off_is_refused(model_path, cut):
    whole = strip(model_path.read_bytes())
    with pytest.raises(ModelError):
        read(whole[: int(len(whole) * cut)])


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(1, 255)), min_size=1, max_size=30))
def test_damaged_bytes_are_checked_or_refused(model_path, flips):
    data = bytearray(strip(model_path.read_bytes()))
    for place, flip in flips:
        # Half of them where the tables lie, which begin and end the file
        spot = int(place * len(data)) if flip % 2 else int(place * 30_000)
        data[spot] ^= flip
    with contextlib.suppress(ModelError, InputError):
        check.check(bytes(data))


def test_rewritten_resizes_answer_the_same_and_keep_the_card(edge_unet):
    rewritten, layers = fix.rewrite_resizes(edge_unet)
    assert layers == ("decoder0_up", "decoder1_up", "decoder2_up")
    assert read_from(rewritten) == read_from(edge_unet)
    assert fix.same_outputs(edge_unet, rewritten)
    assert sum(a != b for a, b in zip(edge_unet, rewritten, strict=True)) == 4  # a version and three flags
    for compiler in (14, 15, 16):
        verdict = check.check(rewritten, compiler=compiler)
        assert verdict.mapping == check.WHOLLY
        assert not verdict.notes
    with pytest.raises(InputError, match="nothing to rewrite"):
        fix.rewrite_resizes(rewritten)


def test_a_change_of_outputs_is_noticed(edge_unet, monkeypatch):
    model = schema.Model.GetRootAs(edge_unet, 0)
    weights = next(t for node in read(edge_unet).nodes[:1] for t in node.constants if t.dtype == "int8")
    start = edge_unet.index(weights.constant.tobytes())
    other = bytearray(edge_unet)
    other[start : start + 100] = bytes(100)
    assert model.SubgraphsLength() == 1
    assert not fix.same_outputs(edge_unet, bytes(other))
    monkeypatch.setattr(fix, "same_outputs", lambda first, second: False)
    with pytest.raises(fix.RewriteError, match="nothing is written"):
        fix.rewrite_resizes(edge_unet)


def test_resizes_of_any_size_cannot_be_rewritten(model_path):
    import tf_keras as keras

    from cellseg_host.quantize.convert import convert

    image = keras.Input((None, None, 3))
    resizing = convert(keras.Model(image, keras.layers.UpSampling2D(2)(image)), "float32")
    with pytest.raises(InputError, match="whole, fixed factor"):
        fix.rewrite_resizes(resizing)
    with pytest.raises(InputError, match="nothing to rewrite"):
        fix.rewrite_resizes(model_path.read_bytes())


def test_command_says_what_maps(model_file):
    result = run(model_file)
    assert result.exit_code == 0
    assert "would map wholly" in result.stdout
    assert "22 of 22 operators, 100.0%" in result.stdout
    result = run(model_file, "--compiler", 14)
    assert result.exit_code == 1
    assert "would map partly" in result.stdout
    assert "10 more operators, which need the outputs of these" in result.stdout


def test_command_as_json(model_file):
    document = json.loads(run(model_file, "--compiler", 15, "--json").stdout)
    assert document["mapping"] == "partly"
    assert document["operators"] == len(document["layers"]) == 22
    assert document["operators_on_tpu"] == 9
    assert document["compilation"] is None
    assert document["layers"][9]["findings"][0]["level"] == "cpu"


def test_command_rewrites_and_goes_on_with_that(model_file, edge_unet, tmp_path):
    out = tmp_path / "fixed.tflite"
    result = run(model_file, "--compiler", 15, "--fix", out)
    assert result.exit_code == 0
    assert result.stdout.startswith("fixed.tflite: would map wholly")
    assert out.read_bytes() == fix.rewrite_resizes(edge_unet)[0]
    assert model_file.read_bytes() == edge_unet


def test_command_checks_before_training(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("--arch", "unet", "--option", "filters=4,8", "--tile", 32)
    assert result.exit_code == 0
    assert result.stdout.startswith("unet: would map wholly onto the Edge TPU, unless the doubts")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either MODEL or --arch"),
        (["MODEL", "--arch", "unet"], "either MODEL or --arch"),
        (["MODEL", "--tile", "64"], "work only with --arch"),
        (["--arch", "unet", "--fix", "x.tflite"], "works only with MODEL"),
        (["MODEL", "--out", "x.tflite"], "not on the PATH"),
        (["MODEL", "--out", "x.tflite", "--no-compile"], "leave out --no-compile"),
        (["nothing.tflite"], "cannot be read"),
        (["MODEL", "--compiler", "17"], "'17'"),
        (["--arch", "unnet"], "did you mean 'unet'"),
        (["--arch", "unet", "--option", "filters"], "KEY=VALUE"),
        (["MODEL", "--fix", "no/such/folder/x.tflite"], "make it first"),
    ],
)
def test_command_refuses_in_one_line(model_file, arguments, message):
    result = run(*[str(model_file) if a == "MODEL" else a for a in arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
