import math
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from cellseg_device.errors import InputError, ModelError
from cellseg_device.image.pixels import Image
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Output
from cellseg_host.augment import Sample
from cellseg_host.evaluation import roc
from cellseg_host.training import presence

CARD = Card("spot", "float32", (Output("presence", 0, "logit"),), 1, 0, 0.0, 100.0, 10.0)


def bright_spot_network(scale=40.0):
    """Says yes where the brightest pixel is above one half: knows the images below without any training."""
    image = keras.Input((None, None, 3), name="image")
    brightest = keras.layers.GlobalMaxPooling2D(keepdims=True)(image)
    weights = [np.full((1, 1, 3, 1), scale / 3), np.array([-scale / 2])]
    return keras.Model(image, keras.layers.Conv2D(1, 1, weights=weights, name="presence")(brightest))


def spotted(height=70, width=100, cells=((5, 5), (60, 80)), level=200):
    labels = np.zeros((height, width), np.uint16)
    for number, (row, column) in enumerate(cells, 1):
        labels[row, column] = number
    return Sample(np.where(labels > 0, level, 20).astype(np.uint8), labels)


def classifier(predict=None, **provenance):
    network = bright_spot_network()
    return presence.Classifier("spot", CARD, predict or (lambda levels: presence._predict(network, levels)))


class FakeDataset:
    """Images whose pixels are levels from 0 to 255, so that normalisation leaves them alone."""

    def __init__(self, *samples):
        self.samples = samples

    def labelled(self, split):
        return [SimpleNamespace(id=f"image{i}", number=i) for i in range(len(self.samples))]

    def image(self, entry):
        pixels = self.samples[entry.number].levels.copy()
        pixels[0, :2] = 0, 255
        return Image(pixels)

    def labels(self, entry):
        return self.samples[entry.number].labels


def test_an_image_is_cut_into_squares_around_its_middle():
    sample = spotted()
    places, views, truth = presence._views(sample.levels, sample.labels, 32)
    assert places == [(3, 2), (3, 34), (3, 66), (35, 2), (35, 34), (35, 66)]
    assert views.shape == (6, 32, 32, 3)
    assert truth.tolist() == [True, False, False, False, False, True]
    for (row, column), view in zip(places, views, strict=True):
        assert (view == sample.levels[row : row + 32, column : column + 32, None]).all()


def test_a_small_image_is_continued_by_its_mirror_image():
    sample = spotted(20, 40, [(10, 20)])
    places, views, truth = presence._views(sample.levels, sample.labels, 32)
    assert places == [(-6, 4)]
    assert (views[0, 6:26] == sample.levels[:, 4:36, None]).all()
    assert (views[0, 5] == sample.levels[1, 4:36, None]).all()
    assert truth.tolist() == [True]


def test_colour_is_kept():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (32, 32, 3), np.uint8)
    _, views, truth = presence._views(levels, np.zeros((32, 32), np.uint16), 32)
    assert (views[0] == levels).all()
    assert not truth.any()


def test_scores_tell_views_and_images_apart():
    dataset = FakeDataset(spotted(), spotted(64, 32, [(40, 10)], level=90))
    scores = presence.score(classifier(lambda levels: levels.max(axis=(1, 2, 3)) / 255), dataset, "test", 32)
    assert scores.id[:2] == ("image0:3,2", "image0:3,34")
    assert scores.image == ("image0",) * 6 + ("image1",) * 2
    assert scores.truth.tolist() == [True, False, False, False, False, True, False, True]
    assert scores.probability.tolist()[-1] == pytest.approx(90 / 255)


def test_without_a_side_it_is_the_one_of_the_training():
    from dataclasses import replace

    trained = presence.Classifier("c", replace(CARD, provenance={"settings": {"side": 64}}), lambda v: np.zeros(len(v)))
    assert len(presence.score(trained, FakeDataset(spotted(128, 128)), "test").truth) == 4


def test_validation_in_training():
    scores = presence.validation(bright_spot_network(), [spotted(), spotted(cells=())], 32)
    assert list(scores) == ["val_loss", "auc", "accuracy"]
    assert scores["auc"] == scores["accuracy"] == 1
    assert scores["val_loss"] < 0.01
    worse = presence.validation(bright_spot_network(-40.0), [spotted()], 32)
    assert worse["auc"] == worse["accuracy"] == 0
    assert worse["val_loss"] > 5


def test_validation_without_negatives_has_no_auc():
    scores = presence.validation(bright_spot_network(), [spotted(32, 32, [(3, 3)])], 32)
    assert math.isnan(scores["auc"])
    assert scores["accuracy"] == 1


def test_the_interval_of_the_area_resamples_whole_images():
    rng = np.random.default_rng(1)
    truth = rng.random(200) < 0.5
    probability = np.clip(truth * 0.3 + rng.random(200) * 0.7, 0, 1)
    alone = presence.PresenceScores((), tuple(map(str, range(200))), truth, probability)
    low, high = presence.auc_interval(alone, 300)
    assert low < roc.roc(truth, probability).auc < high
    # Views that say the same in groups of ten are fewer than they look
    ten = presence.PresenceScores(
        (), tuple(str(i // 10) for i in range(2000)), truth.repeat(10), probability.repeat(10)
    )
    wide = presence.auc_interval(ten, 300)
    assert wide == pytest.approx((low, high), abs=0.02)
    one_kind = presence.PresenceScores((), ("a", "b"), np.array([True, True]), np.array([0.5, 0.6]))
    assert presence.auc_interval(one_kind, 20) is None


def converted(tmp_path, network, mode, side):
    """A .tflite of a network, with a card."""
    function = tf.function(lambda image: network(image, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, side, side, 3), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], network)
    if mode == "int8":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        rng = np.random.default_rng(0)
        ramp = [np.full((1, side or 32, side or 32, 3), v, np.float32) for v in (0, 0.2, 0.5, 0.8, 1)]
        converter.representative_dataset = lambda: ([r * rng.uniform(0.9, 1, r.shape).astype(np.float32)] for r in ramp)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    path = tmp_path / f"{mode}.tflite"
    path.write_bytes(cards.attach(converter.convert(), CARD))
    return path


def test_a_model_file_says_what_the_network_says(tmp_path):
    sample = spotted()
    _, views, truth = presence._views(sample.levels, sample.labels, 32)
    network = bright_spot_network(8.0)
    expected = presence._predict(network, views)
    assert expected[truth].min() > 0.8 > 0.2 > expected[~truth].max()
    found = presence.open_classifier(converted(tmp_path, network, "float", None))
    assert found.name == "float"
    assert found.predict(views) == pytest.approx(expected, abs=1e-6)
    with_other_side = found.predict(views[:, :16, :16])
    assert with_other_side.shape == (6,)
    int8 = presence.open_classifier(converted(tmp_path, network, "int8", 32))
    assert int8.predict(views) == pytest.approx(expected, abs=0.02)
    with pytest.raises(InputError, match="views of 32×32, not 16×16"):
        int8.predict(views[:, :16, :16])


def test_what_predicts_maps_is_no_classifier(model_path):
    with pytest.raises(InputError, match="predicts maps"):
        presence.open_classifier(model_path)


def test_a_damaged_model_is_refused_by_name(model_path, tmp_path):
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(cards.strip(model_path.read_bytes()))
    with pytest.raises(ModelError, match=r"bad\.tflite: .*no card"):
        presence.open_classifier(bad)
    bad.write_bytes(cards.attach(b"\x1c\0\0\0TFL3" + bytes(100), CARD))
    with pytest.raises(ModelError, match=r"bad\.tflite: the runtime refuses"):
        presence.open_classifier(bad)


def test_a_run_is_opened_as_it_was_trained(monkeypatch, tmp_path):
    run = SimpleNamespace(heads=("presence",), network=bright_spot_network(), path=tmp_path, card=lambda: CARD)
    monkeypatch.setattr(presence.runs, "open_run", lambda path: run)
    found = presence.open_classifier(tmp_path)
    scores = presence.score(found, FakeDataset(spotted()), "test", 32)
    assert roc.roc(scores.truth, scores.probability).auc == 1
