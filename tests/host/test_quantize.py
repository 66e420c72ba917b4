import csv
import io
import json
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_device import selftest
from cellseg_device.card import QUANTITIES, Output, read_from
from cellseg_device.errors import InputError
from cellseg_device.image import Image
from cellseg_device.model import Model
from cellseg_device.segment import predict, segment
from cellseg_host import metrics, quantize, train
from cellseg_host.cli import main
from cellseg_host.evaluate import by_modality, evaluate


@pytest.fixture(scope="module")
def int8(tiny_run, tiny_dataset):
    return quantize.quantize(train.open_run(tiny_run), tiny_dataset, "int8")


@pytest.fixture(scope="module")
def int8_path(int8, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "new" / "tiny.tflite"
    quantize.write(int8, path)
    return path


def test_int8_is_int8_from_end_to_end(int8, int8_path):
    model = Model(int8_path)
    details = model.interpreter.get_input_details() + model.interpreter.get_output_details()
    assert {d["dtype"] for d in details} == {np.int8}
    assert not [o for o in int8.operators if any("float" in t for t in o.dtypes)]
    assert "CONV_2D" in {o.name for o in int8.operators}
    assert len(int8.data) < 0.35 * int8.float_size


def test_the_card_says_where_the_model_came_from(int8, int8_path, tiny_dataset):
    card = read_from(int8_path.read_bytes())
    assert card == int8.card
    assert card.provenance["data"]["sha256"] == tiny_dataset.digest()
    assert card.metrics["int8"]["images"] == 3
    assert {o.quantity for o in card.outputs} == set(QUANTITIES)
    with zipfile.ZipFile(io.BytesIO(int8.data)) as archive:
        assert json.loads(archive.read("cellseg.json"))["quantization"] == "int8"


def test_the_known_answer_is_the_device_s_own(int8, int8_path):
    assert selftest.answer(Model(int8_path)) == int8.card.known_answer
    assert selftest.check(Model(int8_path)) is None


def test_int8_follows_the_float_network(int8, tiny_run, tiny_dataset):
    """Not its score, which two epochs leave to chance, but its maps: they are those of the float network."""
    assert abs(int8.summary.mean_iou - int8.float_summary.mean_iou) < 0.05
    assert int8.worst[0].id == int8.worst[1].id


@pytest.mark.parametrize("mode", ["dynamic", "float16", "float32"])
def test_the_other_modes_answer_like_the_float_network(tiny_run, tiny_dataset, mode):
    made = quantize.quantize(train.open_run(tiny_run), tiny_dataset, mode)
    assert made.card.quantization == mode
    assert made.summary.foreground_iou == pytest.approx(made.float_summary.foreground_iou, abs=0.03)
    share = {"dynamic": 0.4, "float16": 0.6, "float32": 1.01}[mode]
    assert len(made.data) < share * made.float_size + 8000  # the card
    assert any("float" in t for o in made.operators for t in o.dtypes)


def test_a_fixed_tile_is_static_and_gives_the_same_maps(tiny_run, tiny_dataset, tmp_path, draw_blobs):
    image = Image(draw_blobs(176, 192))
    maps = []
    for tile in (None, (176, 192)):
        made = quantize.quantize(train.open_run(tiny_run), tiny_dataset, "float32", tile)
        (tmp_path / "model.tflite").write_bytes(made.data)
        model = Model(tmp_path / "model.tflite")
        assert model.tile == tile
        maps.append(predict(image, model))
    for quantity, free in maps[0].items():
        assert np.abs(free.astype(int) - maps[1][quantity]).max() <= 1


def test_a_tile_that_does_not_fit_is_refused(tiny_run, tiny_dataset):
    for tile in ((100, 100), (160, 160)):
        with pytest.raises(InputError, match="--tile must be a multiple of 16 and larger than 160"):
            quantize.quantize(train.open_run(tiny_run), tiny_dataset, tile=tile)


def test_an_int8_model_with_a_float_operator_is_refused(tiny_run, tiny_dataset, monkeypatch):
    """The converter is made to leave the graph in float, as it does with operators it cannot quantize."""
    plain = quantize.convert
    monkeypatch.setattr(quantize, "convert", lambda network, mode, *rest: plain(network, "float32", *rest))
    with pytest.raises(quantize.QuantizationError, match=r"not full int8: .*float32"):
        quantize.quantize(train.open_run(tiny_run), tiny_dataset, "int8")


def test_outputs_are_found_whatever_their_order():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 1, 8, 8, 1))
    outputs = (Output("foreground", 0, "logit"), Output("distance", 1, "logit"))
    noisy = [two + 0.05 * rng.normal(size=two.shape), one + 0.05 * rng.normal(size=one.shape)]
    assert [o.index for o in quantize.match_outputs(outputs, [one, two], noisy)] == [1, 0]
    with pytest.raises(quantize.QuantizationError, match="distance map correlates"):
        quantize.match_outputs(outputs, [one, two], [one, rng.normal(size=two.shape)])


def test_scores_are_those_of_the_labels(int8_path, tiny_dataset):
    model = Model(int8_path)
    entry = tiny_dataset.split("test")[0]
    (score,) = evaluate(model, tiny_dataset, [entry])
    labels, true = segment(tiny_dataset.image_bytes(entry), model).labels, tiny_dataset.labels(entry)
    assert score.ap == tuple(metrics.average_precision(true, labels))
    assert score.cells_predicted == labels.max()
    assert score.dice == metrics.dice(true > 0, labels > 0)


def test_the_summary_is_the_mean_over_images(int8):
    scores = int8.scores
    summary = by_modality(scores)["all"]
    assert summary.ap50 == pytest.approx(np.mean([s.ap50 for s in scores]))
    predicted, true = sum(s.cells_predicted for s in scores), sum(s.cells_true for s in scores)
    assert summary.total_count_error == pytest.approx(abs(predicted - true) / true)
    assert summary.image_count_error >= summary.total_count_error
    assert set(by_modality(scores)) == {"all", "fluorescence", "histology"}


def test_quantize_and_evaluate_on_the_command_line(tiny_run, tiny_dataset, tmp_path):
    out, scores = tmp_path / "made.tflite", tmp_path / "scores"
    command = ["quantize", str(tiny_run), "--int8", "--calibration", str(tiny_dataset.root), "--out", str(out)]
    made = CliRunner().invoke(main, command)
    assert made.exit_code == 0, made.output
    for word in ("AP@0.5", "operators", "worst image", "kB", "CONV_2D"):
        assert word in made.output
    assert read_from(out.read_bytes()).name == "made"
    command = ["evaluate", str(out), str(tiny_dataset.root), "--split", "test", "--out", str(scores), "--json"]
    judged = CliRunner().invoke(main, command)
    assert judged.exit_code == 0, judged.output
    document = json.loads(judged.stdout)
    assert document == json.loads((scores / "summary.json").read_text())
    with (scores / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == document["summary"]["all"]["images"] == 3
    assert np.mean([float(r["ap50"]) for r in rows]) == pytest.approx(document["summary"]["all"]["ap50"], abs=1e-4)
    assert (scores / "gallery.jpg").stat().st_size > 10_000
    table = CliRunner().invoke(main, command[:-1])
    assert "histology" in table.output


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["quantize", "NONE", "--calibration", "DATA"], "no finished training run"),
        (["quantize", "RUN", "--calibration", "NONE"], "is no dataset"),
        (["evaluate", "NONE", "DATA"], "cannot be read"),
        (["evaluate", "MODEL", "DATA", "--split", "best"], "splits there: test, train, val"),
        (["evaluate", "DATA/manifest.csv", "DATA"], "is not a .tflite model"),
    ],
)
def test_mistakes_are_one_clear_line(tiny_run, tiny_dataset, int8_path, tmp_path, command, words):
    places = {"NONE": tmp_path / "none", "RUN": tiny_run, "DATA": tiny_dataset.root, "MODEL": int8_path}
    for name, place in places.items():
        command = [c.replace(name, str(place)) for c in command]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
