"""Quantization-aware training: the network that is trained is the one that the device computes."""

import json

import numpy as np
import pytest
import tf_keras as keras
from click.testing import CliRunner

from cellseg_device.errors import InputError
from cellseg_device.model.interpreter import Model
from cellseg_host import architectures, quantize
from cellseg_host.architectures import FACTS, as_list
from cellseg_host.commands.quantize import quantize as command
from cellseg_host.quantize import calibrate, finetune, qat
from cellseg_host.quantize.fold import folded
from cellseg_host.quantize.with_card import open_graph, real, run_graph
from cellseg_host.training import runs
from cellseg_host.training.settings import TrainSettings

SMALL = {
    "edge-unet": {},
    "unet": {"filters": (4, 8, 8)},
    "unet-200": {"filters": (4, 8, 8)},
    "unetpp": {"filters": (4, 8, 8)},
    "hrnet-w18-small": {"width": 4},
}


def shaken(name: str) -> keras.Model:
    """A network for inference with batch statistics of its own, so that folding has something to fold."""
    keras.utils.set_random_seed(1)
    heads = ("foreground", "distance")
    network = architectures.for_inference(architectures.get(name).network(heads, **SMALL[name]), heads)
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return network


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(2).random((1, 64, 96, 3)).astype(np.float32)


@pytest.mark.parametrize("name", SMALL)
def test_folding_changes_no_answer(name, image):
    network = shaken(name)
    plain = folded(network)
    assert not [la for la in plain.layers if isinstance(la, keras.layers.BatchNormalization)]
    assert plain.output_names == network.output_names
    for found, expected in zip(as_list(plain(image)), as_list(network(image)), strict=True):
        assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "edge-unet" else pytest.mark.slow) for n in SMALL])
def test_the_int8_graph_answers_as_the_network_that_is_trained(name, image):
    """Full int8 inside, and off by no more than the last rounding here and there."""
    plain = folded(shaken(name))
    found = calibrate.ranges(plain, qat.ranged(plain), lambda: iter([image]))
    network = qat.annotated(plain, found)
    graph = open_graph(quantize.convert(network, "int8", (64, 96)))
    types = {d["dtype"] for d in graph.get_tensor_details()}
    assert not types & {np.float32, np.float16}
    answers = [real(d, t) for d, t in zip(graph.get_output_details(), run_graph(graph, image), strict=True)]
    levels = np.rint(image * 255) / 255
    for expected in as_list(network(levels.astype(np.float32), training=False)):
        same = [a for a in answers if a.shape == expected.shape]
        assert max(np.corrcoef(a.ravel(), expected.numpy().ravel())[0, 1] for a in same) > 0.97


def test_architectures_that_it_does_not_work_for_are_refused_before_any_training():
    for name in ("unet-128", "densenet121"):
        arch = architectures.get(name)
        assert "qat" not in FACTS[name].quantizations
        with pytest.raises(quantize.QuantizationError, match="has no quantization-aware version"):
            qat.accepted(arch.network())


@pytest.mark.slow
def test_fine_tuning_goes_on_where_it_was_stopped(tiny_run, tiny_dataset, tmp_path):
    import shutil

    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    run, tuning = runs.open_run(path), quantize.Tuning(epochs=2, steps=3, batch=2, side=32)
    stopped = finetune.finetune(run, tiny_dataset, tuning)
    next(stopped)
    stopped.close()
    assert [e.epoch for e in finetune.finetune(run, tiny_dataset, tuning)] == [1, 2]
    with pytest.raises(InputError, match="was started with other epochs"):
        next(finetune.finetune(run, tiny_dataset, quantize.Tuning(epochs=3, steps=3, batch=2, side=32)))
    made = quantize.quantize(run, tiny_dataset, "int8", tuned=True)
    assert made.card.provenance["quantization"]["qat"]["epochs"] == 2
    assert abs(made.summary.mean_iou - made.float_summary.mean_iou) < 0.1


@pytest.mark.slow
def test_the_command_fine_tunes_and_converts(tiny_run, tiny_dataset, tmp_path):
    import shutil

    path, out = tmp_path / "run", tmp_path / "made.tflite"
    shutil.copytree(tiny_run, path)
    flags = ["--epochs", "1", "--steps", "2", "--batch", "2", "--side", "32", "--json", "--out", str(out)]
    done = CliRunner().invoke(command, [str(path), "--qat", "--data", str(tiny_dataset.root), *flags])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout[done.stdout.index("{") :])["model"] == str(out)
    assert Model(out).input_dtype is np.int8
    assert (path / "qat" / "history.csv").is_file()
    assert (path / "qat" / "model.keras").is_file()


def test_fine_tuning_averages_no_weights():
    settings = quantize.Tuning().settings(TrainSettings(swa=2, moving_average=0.99))
    assert (settings.swa, settings.moving_average) == (0, 0)
