import dataclasses
import io
import json
import shutil
import zipfile

import numpy as np
import pytest
import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import Output, Separation, read_from
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import selftest
from cellseg_device.pipeline.predict import predict_maps
from cellseg_device.pipeline.segment import segment
from cellseg_host import quantize
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import by_group, evaluate
from cellseg_host.quantize import pipeline
from cellseg_host.training import runs, train
from cellseg_host.training.settings import TrainSettings


@pytest.fixture(scope="module")
def int8(tiny_run, tiny_dataset):
    return quantize.quantize(runs.open_run(tiny_run), tiny_dataset, "int8")


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
    assert card.metrics["int8"]["cells_predicted"] == int8.summary.cells_counted
    assert {o.quantity for o in card.outputs} == {"foreground", "distance"}
    with zipfile.ZipFile(io.BytesIO(int8.data)) as archive:
        assert json.loads(archive.read("cellseg.json"))["quantization"] == "int8"


def test_the_known_answer_is_the_device_s_own(int8, int8_path):
    assert selftest.answer(Model(int8_path)) == int8.card.known_answer
    assert selftest.check(Model(int8_path)) is None


def test_int8_follows_the_float_network(int8, tiny_run, tiny_dataset):
    """Not its score, which two epochs leave to chance, but its maps: they are those of the float network."""
    assert abs(int8.summary.mean_iou - int8.float_summary.mean_iou) < 0.05
    assert int8.worst[0].id == int8.worst[1].id


@pytest.mark.parametrize("mode", ["dynamic", *(pytest.param(f"float{n}", marks=pytest.mark.slow) for n in (16, 32))])
def test_the_other_modes_answer_like_the_float_network(tiny_run, tiny_dataset, mode):
    made = quantize.quantize(runs.open_run(tiny_run), tiny_dataset, mode)
    assert made.card.quantization == mode
    assert made.summary.foreground_iou == pytest.approx(made.float_summary.foreground_iou, abs=0.03)
    share = {"dynamic": 0.4, "float16": 0.6, "float32": 1.01}[mode]
    assert len(made.data) < share * made.float_size + 8000  # the card
    assert any("float" in t for o in made.operators for t in o.dtypes)


@pytest.mark.slow
def test_a_fixed_tile_is_static_and_gives_the_same_maps(tiny_run, tiny_dataset, tmp_path, draw_blobs):
    image = Image(draw_blobs(176, 192))
    maps = []
    for tile in (None, (176, 192)):
        made = quantize.quantize(runs.open_run(tiny_run), tiny_dataset, "float32", tile)
        (tmp_path / "model.tflite").write_bytes(made.data)
        model = Model(tmp_path / "model.tflite")
        assert model.tile == tile
        maps.append(predict_maps(image, model))
    for quantity, free in maps[0].items():
        assert np.abs(free.astype(int) - maps[1][quantity]).max() <= 1


@pytest.mark.slow
def test_cells_are_told_apart_like_another_model_does(tiny_run, tiny_dataset):
    run = runs.open_run(tiny_run)
    like = dataclasses.replace(run.card(), separation=Separation(0.37, 0.9, 11), outputs=run.outputs)
    made = quantize.quantize(run, tiny_dataset, "float32", like=like)
    assert read_from(made.data).separation == like.separation
    with pytest.raises(InputError, match=r"--like: .* predicts other maps"):
        quantize.quantize(run, tiny_dataset, "float32", like=dataclasses.replace(like, outputs=run.outputs[:1]))


def test_a_tile_that_does_not_fit_is_refused(tiny_run, tiny_dataset):
    for tile in ((100, 100), (160, 160)):
        with pytest.raises(InputError, match="--tile must be a multiple of 16 and larger than 160"):
            quantize.quantize(runs.open_run(tiny_run), tiny_dataset, tile=tile)


def test_an_int8_model_with_a_float_operator_is_refused(tiny_run, tiny_dataset, monkeypatch):
    """The converter is made to leave the graph in float, as it does with operators it cannot quantize."""
    plain = quantize.convert
    monkeypatch.setattr(pipeline, "convert", lambda network, mode, *rest: plain(network, "float32", *rest))
    with pytest.raises(quantize.QuantizationError, match=r"not full int8: .*float32"):
        quantize.quantize(runs.open_run(tiny_run), tiny_dataset, "int8")


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
    assert score.cells_counted == labels.max()
    assert score.cells_matched == np.count_nonzero(metrics.pairwise_iou(true, labels) > 0.5)
    assert score.dice == metrics.dice(true > 0, labels > 0)


def test_the_summary_is_the_mean_over_images(int8):
    scores = int8.scores
    summary = by_group(scores)["all"]
    assert summary.ap50 == pytest.approx(np.mean([s.ap50 for s in scores]))
    counted, true = sum(s.cells_counted for s in scores), sum(s.cells_true for s in scores)
    assert summary.total_count_error == pytest.approx(abs(counted - true) / true)
    assert summary.image_count_error >= summary.total_count_error
    assert set(by_group(scores)) == {"all", "fluorescence", "histology"}


def test_kernels_have_a_scale_for_each_filter(int8, int8_path):
    details = Model(int8_path).interpreter.get_tensor_details()
    kernels = [d for d in details if d["dtype"] is np.int8 and len(d["shape"]) == 4 and d["quantization_parameters"]]
    filters = [len(d["quantization_parameters"]["scales"]) for d in kernels]
    convolutions = sum(o.name == "CONV_2D" for o in int8.operators)
    # The map of distances has one filter
    assert sum(n > 1 for n in filters) == convolutions - 1


def test_the_float_model_is_the_one_that_is_compared_with(int8, tiny_run, tiny_dataset, tmp_path):
    path = tmp_path / "float.tflite"
    path.write_bytes(quantize.float_model(runs.open_run(tiny_run), tiny_dataset, name="mine"))
    model = Model(path)
    assert (model.card.name, model.card.quantization) == ("mine", "float32")
    assert tuple(evaluate(model, tiny_dataset, tiny_dataset.split("val"))) == int8.float_scores


NINE = """
import tf_keras as keras
from tf_keras import layers
STRIDE, MARGIN, HEADS = 2, 8, {heads}
def build(heads, *, deep=True):
    x = image = keras.Input((None, None, 3), name="image")
    outputs = []
    for depth in range(2):
        x = layers.Conv2D(4, 3, padding="same", activation="relu", name=f"conv{{depth}}")(x)
        y = {end}
        outputs += [layers.Conv2D(1, 1, name=f"{{head}}_{{depth + 1}}")(y) for head in heads]
    return keras.Model(image, outputs[{slice}])
"""


def small_run(dataset, path, heads, end="x", part=":"):
    """A run of a network of two convolutions, trained for a moment."""
    (path / "small.py").write_text(NINE.format(heads=heads, end=end, slice=part))
    settings = TrainSettings(arch=f"{path}/small.py:build", epochs=1, steps=4, batch=2, side=32)
    list(train.train(dataset, path / "run", settings))
    return runs.open_run(path / "run")


def test_a_shallower_depth_is_a_model_of_its_own(tiny_dataset, tmp_path):
    run = small_run(tiny_dataset, tmp_path, ("foreground",))
    made = [quantize.float_model(run, tiny_dataset, depth=depth) for depth in (1, 2, None)]
    assert len(made[0]) < len(made[1]) == len(made[2])
    with pytest.raises(InputError, match=r"--depth: .* has 2 supervised depths"):
        quantize.quantize(run, tiny_dataset, depth=3)


@pytest.mark.slow
def test_a_classifier_is_scored_by_its_accuracy(tiny_dataset, tmp_path):
    pooled = "layers.GlobalMaxPooling2D(keepdims=True)(x)"
    run = small_run(tiny_dataset, tmp_path, ("presence",), pooled, "1:")
    for mode in quantize.MODES:
        made = quantize.quantize(run, tiny_dataset, mode)
        assert [o.quantity for o in made.card.outputs] == ["presence"]
        assert made.scores == ()
        assert made.card.known_answer == made.after.known_answer
        assert made.after.metrics["views"] == made.before.metrics["views"] > 10
        assert made.card.metrics[mode]["accuracy"] == pytest.approx(made.before.metrics["accuracy"], abs=0.1)


def test_there_must_be_something_to_calibrate_and_to_compare_with(tiny_run, tiny_dataset):
    run = runs.open_run(tiny_run)
    for split, words in (("train", "no image is in the split 'train'"), ("val", "no image is in the split 'val'")):
        without = dataclasses.replace(tiny_dataset, entries=tuple(e for e in tiny_dataset.entries if e.split != split))
        with pytest.raises(InputError, match=words):
            quantize.quantize(run, without)
    with pytest.raises(InputError, match="calibration needs at least one image"):
        quantize.quantize(run, tiny_dataset, calibration=quantize.Calibration(images=0))


def test_an_image_that_is_gone_is_not_called_a_fault_of_the_conversion(tiny_run, tiny_dataset, tmp_path):
    root = shutil.copytree(tiny_dataset.root, tmp_path / "data")
    lost = root / "images" / f"{tiny_dataset.split('train')[0].id}.png"
    lost.unlink()
    with pytest.raises(InputError, match=rf"^{lost}: no such file"):
        quantize.quantize(runs.open_run(tiny_run), dataclasses.replace(tiny_dataset, root=root))


def test_a_network_of_other_channels_is_refused(tiny_run, tiny_dataset, monkeypatch):
    image = keras.Input((None, None, 1))
    grey = keras.Model(image, keras.layers.Conv2D(1, 1, name="foreground")(image))
    monkeypatch.setattr(runs.Run, "network", grey)
    monkeypatch.setattr(runs.Run, "heads", ("foreground",))
    with pytest.raises(quantize.QuantizationError, match="not one image of 3 channels"):
        quantize.quantize(runs.open_run(tiny_run), tiny_dataset)


def test_after_a_start_from_a_model_its_join_is_kept_where_there_are_few_contacts(tiny_dataset, model_path, tmp_path):
    """Whichever way it came: from the model's file, or from a run that started from it."""
    settings = TrainSettings(epochs=1, steps=1, batch=2, side=64, init=str(model_path))
    list(train.train(tiny_dataset, tmp_path / "run", settings))
    again = dataclasses.replace(settings, init=str(tmp_path / "run"))
    list(train.train(tiny_dataset, tmp_path / "again", again))
    join = read_from(model_path.read_bytes()).separation.join
    assert join is not None
    for run in ("run", "again"):
        assert runs.open_run(tmp_path / run).start_join == join
    made = quantize.int8_model(
        runs.open_run(tmp_path / "again"), tiny_dataset, tiny_dataset, name="mine", diameter_px=31.5
    )
    card = read_from(made)
    assert (card.name, card.cell_diameter_px, card.separation.join) == ("mine", 31.5, join)
