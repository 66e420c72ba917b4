import json

import numpy as np
import pytest
import tf_keras as keras

from cellseg_device.errors import CellsegError, InputError
from cellseg_host import architectures, quantize
from cellseg_host.augment import NONE
from cellseg_host.training import feed, initialise, loop, runs, train
from cellseg_host.training.settings import TrainSettings


@pytest.fixture(scope="module")
def images(tiny_dataset, tiny_run):
    """Batches of views of the tiny dataset, as training sees them."""
    run = runs.open_run(tiny_run)
    samples = feed.load_samples(tiny_dataset, tiny_dataset.split("train"), run.card(), ("foreground",))
    even = np.full(len(samples), 1 / len(samples))
    return [
        image
        for image, _, _ in feed.views(samples, even, ("foreground",), NONE, side=64, batch=4, count=4, seed=(0, 0))
    ]


@pytest.fixture(scope="module")
def float_file(tiny_run, tiny_dataset, tmp_path_factory):
    """The tiny run's float network as a model file."""
    path = tmp_path_factory.mktemp("init") / "tiny.tflite"
    path.write_bytes(quantize.float_model(runs.open_run(tiny_run), tiny_dataset))
    return path


def start(source, images, heads=("foreground", "distance"), **options):
    network = architectures.get("edge-unet").network(heads, **options)
    initialise.initialise(network, source, heads, lambda: iter(images))
    return network


def test_a_run_s_weights_are_taken_over(tiny_run, images):
    network = start(tiny_run, images)
    for a, b in zip(network.get_weights(), runs.open_run(tiny_run).network.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_a_model_file_gives_the_network_that_it_was_made_from(tiny_run, float_file, images):
    """Although batch normalisation is folded in it, and the order of its outputs is not the network's."""
    network, original = start(float_file, images), runs.open_run(tiny_run).network
    for found, expected in zip(network(images[0]), original(images[0]), strict=True):
        assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_its_batch_statistics_are_those_of_the_images(float_file, images):
    """So that the first step of training, which normalises by its batch, does not throw the network off."""
    network = start(float_file, images)
    norm = next(la for la in network.layers if isinstance(la, keras.layers.BatchNormalization))
    values = np.concatenate([keras.Model(network.inputs, norm.input)(i) for i in images])
    assert np.allclose(norm.moving_mean, values.mean((0, 1, 2)), atol=1e-3)
    assert np.allclose(norm.moving_variance, values.var((0, 1, 2)), rtol=1e-2, atol=1e-4)


def test_the_released_model_can_be_gone_on_with(model_path, images, draw_blobs, model):
    """Its int8 weights as floats answer as the model does."""
    from cellseg_device.image.pixels import Image
    from cellseg_device.pipeline.predict import predict_maps
    from cellseg_host.training import keras_maps

    network = start(model_path, images, **initialise.options_of(model_path, "edge-unet"))
    image = Image(draw_blobs(96, 128))
    outputs = architectures.outputs_of(network, ("foreground", "distance"))
    maps = keras_maps.predict(network, outputs, 16, keras_maps.levels(image, model.card))
    for quantity, found in predict_maps(image, model).items():
        assert np.corrcoef(found.ravel(), maps[quantity].ravel())[0, 1] > 0.9


def test_a_head_that_the_source_lacks_keeps_its_random_weights(tiny_run, float_file, images):
    for source in (tiny_run, float_file):
        network = start(source, images, ("foreground", "centre"))
        assert network.get_layer("centre").get_weights()[0].any()


@pytest.mark.parametrize("kind", ["run", "file"])
def test_weights_of_another_network_are_refused(tiny_run, float_file, images, kind):
    source = tiny_run if kind == "run" else float_file
    with pytest.raises(InputError, match="its weights do not fit"):
        start(source, images, encoder=(16, 32, 64, 96))
    with pytest.raises(InputError, match=r"an extra layer|more layers"):
        start(source, images, convs=(0, 0, 0, 0))


@pytest.mark.parametrize(
    ("what", "learns"),
    [pytest.param("encoder", ("decoder", "fore", "dist"), marks=pytest.mark.slow), ("all-but-head", ("fore", "dist"))],
)
def test_what_is_frozen_keeps_its_weights_and_statistics(tiny_run, tiny_dataset, tmp_path, what, learns):
    run = runs.open_run(tiny_run)
    settings = TrainSettings(epochs=1, steps=2, batch=2, side=32)
    before, network = run.network, run.network
    initialise.freeze(network, what)
    list(loop.fit(train.prepare(run, network, tiny_dataset, settings, trained=False), tmp_path, settings))
    changed = {la.name for la in network.layers if la.weights and differ(la, before.get_layer(la.name))}
    assert changed
    assert all(name.startswith(learns) for name in changed)


@pytest.mark.slow
def test_the_user_with_nine_images_gets_nothing_worse_than_what_was_there(tiny_run, tiny_dataset, tmp_path):
    """Epoch 0 is the network that the training starts from, and is kept where a step too large spoils it."""
    settings = TrainSettings(
        epochs=1, steps=2, batch=2, side=32, init=str(tiny_run), freeze="encoder", learning_rate=9.0
    )
    first, spoilt = train.train(tiny_dataset, tmp_path / "run", settings)
    assert (first.epoch, first.best, spoilt.epoch, spoilt.best) == (0, True, 1, False)
    kept, given = runs.open_run(tmp_path / "run").network, runs.open_run(tiny_run).network
    assert not any(differ(la, given.get_layer(la.name)) for la in kept.layers if la.weights)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["init"] == str(tiny_run)


def differ(a, b) -> bool:
    return any(not np.array_equal(v, w) for v, w in zip(a.get_weights(), b.get_weights(), strict=True))


def test_a_source_that_is_none_is_refused_before_the_run_is_made(tiny_dataset, tmp_path):
    (tmp_path / "bad.tflite").write_bytes(b"hello")
    for source, words in ((tmp_path / "bad.tflite", "is not a .tflite"), (tmp_path, "is not a finished training run")):
        settings = TrainSettings(epochs=1, steps=1, batch=1, side=32, init=str(source))
        with pytest.raises(CellsegError, match=words):
            next(train.train(tiny_dataset, tmp_path / "run", settings))
        assert not (tmp_path / "run").exists()


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_from_the_model_again(
    tiny_dataset, model_path, tmp_path, monkeypatch
):
    """Not from random weights, although the folder for its checkpoint is there."""
    settings = TrainSettings(epochs=1, steps=1, batch=2, side=64, init=str(model_path))
    (whole, *_) = train.train(tiny_dataset, tmp_path / "whole", settings)

    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(loop.tf.train.CheckpointManager, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            next(train.train(tiny_dataset, tmp_path / "run", settings))
    (tmp_path / "run" / "checkpoint").mkdir(exist_ok=True)
    (resumed, *_) = train.train(tiny_dataset, tmp_path / "run", settings, resume=True)
    assert resumed.scores == whole.scores
