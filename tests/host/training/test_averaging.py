import hashlib
import json
import shutil

import numpy as np
import pytest
import tf_keras as keras
from click.testing import CliRunner

from cellseg_device.errors import InputError
from cellseg_host.cli import main
from cellseg_host.training import runs
from cellseg_host.training.averaging import Average, MovingAverage, mean_run, restate_statistics
from cellseg_host.training.runs import open_run


def network() -> keras.Model:
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(image)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(image, keras.layers.Conv2D(1, 1)(x))


def test_the_average_is_the_mean_of_what_was_added():
    net, rng = network(), np.random.default_rng(0)
    average, seen = Average(net), []
    for count in range(3):
        net.set_weights([rng.normal(size=w.shape) for w in net.get_weights()])
        seen.append(net.get_weights())
        average.add(count)
    for variable, *values in zip(average.variables, *seen, strict=True):
        assert np.allclose(variable, np.mean(values, axis=0), atol=1e-6)


def test_it_is_applied_for_a_while_only():
    net = network()
    average = Average(net)
    average.add(0)
    net.set_weights([w + 1 for w in net.get_weights()])
    before = net.get_weights()
    with average.applied([np.zeros((1, 8, 8, 3), np.float32)]):
        assert np.allclose(net.get_weights()[0], before[0] - 1, atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True))


def test_the_moving_average_forgets_the_start_and_follows_the_weights():
    net = network()
    moving = MovingAverage(net, 0.9)
    start = [w.copy() for w in net.get_weights()]
    for _ in range(300):
        net.set_weights([w + 1 for w in net.get_weights()])
        moving.add()
    with moving.applied():
        lag = [a - b for a, b in zip(net.get_weights(), start, strict=True)]
    # The mean of 300, 299, 298 … with shares of 0.1, 0.09, 0.081 … is 9 behind the last
    assert all(np.allclose(values, 291, atol=0.1) for values in lag)
    assert all(np.allclose(a, b + 300, atol=1e-3) for a, b in zip(net.get_weights(), start, strict=True))


def test_the_moving_average_starts_anew_from_other_weights():
    net = network()
    moving = MovingAverage(net, 0.9)
    for _ in range(50):
        moving.add()
    net.set_weights([w + 100 for w in net.get_weights()])
    other = net.get_weights()
    moving.restart()
    with moving.applied():
        assert all(np.array_equal(a, b) for a, b in zip(net.get_weights(), other, strict=True))


def test_statistics_are_the_plain_mean_over_the_batches():
    net, rng = network(), np.random.default_rng(1)
    batches = [rng.normal(3, 2, (2, 16, 16, 3)).astype(np.float32) for _ in range(4)]
    restate_statistics(net, batches)
    norm = net.layers[2]
    convolved = [net.layers[1](b).numpy().reshape(-1, 4) for b in batches]
    assert np.allclose(norm.moving_mean, np.mean([c.mean(0) for c in convolved], axis=0), atol=1e-4)
    assert norm.momentum == 0.99


def test_frozen_statistics_stay():
    net = network()
    net.layers[2].trainable = False
    restate_statistics(net, [np.ones((1, 8, 8, 3), np.float32)])
    assert (net.layers[2].moving_mean.numpy() == 0).all()


@pytest.fixture
def sister(tiny_run, tmp_path):
    """A run of the tiny run's network with other weights."""
    path = tmp_path / "sister"
    shutil.copytree(tiny_run, path)
    net = open_run(path).network
    rng = np.random.default_rng(4)
    net.set_weights([w + rng.normal(0, 0.01, w.shape) for w in net.get_weights()])
    runs.save_weights(net, path / runs.NETWORK)
    return path


def test_a_run_of_the_mean_weights_is_made(tiny_run, sister, tmp_path, tiny_dataset):
    out = tmp_path / "mean"
    result = CliRunner().invoke(main, ["average", str(tiny_run), str(sister), str(sister), "--out", str(out)])
    assert (result.exit_code, result.output) == (0, f"{out}: the mean of 3 runs\n")
    mean, one, two = (open_run(path) for path in (out, tiny_run, sister))
    weights = [run.network.get_weights() for run in (mean, one, two)]
    for found, first, second in zip(*weights, strict=True):
        assert np.allclose(found, (first + 2 * second) / 3, atol=1e-6)
    assert mean.settings == one.settings
    named = {"run": "sister", "sha256": hashlib.sha256((sister / runs.NETWORK).read_bytes()).hexdigest()}
    assert mean.card().provenance["average"][1:] == [named, named]
    assert "average" not in one.card().provenance
    json.dumps(mean.card().provenance)
    with pytest.raises(InputError, match=r"mean of other runs.*--init"):
        runs.started(out, tiny_dataset)


def test_runs_count_as_much_as_is_said(tiny_run, sister, tmp_path):
    one, two = open_run(tiny_run), open_run(sister)
    mean_run([one, two], tmp_path / "mean", shares=(0.9, 0.1))
    weights = [run.network.get_weights() for run in (open_run(tmp_path / "mean"), one, two)]
    for found, first, second in zip(*weights, strict=True):
        assert np.allclose(found, 0.9 * first + 0.1 * second, atol=1e-6)


def test_runs_of_other_networks_and_folders_in_use_are_refused(tiny_run, sister, tmp_path):
    with pytest.raises(InputError, match="is not empty"):
        mean_run([open_run(tiny_run), open_run(sister)], sister)
    info = json.loads((sister / "run.json").read_text())
    info["settings"]["options"] = {"decoder": [32, 32, 16]}
    (sister / "run.json").write_text(json.dumps(info))
    other = open_run(sister)
    runs.save_weights(other.untrained(), sister / runs.NETWORK)
    with pytest.raises(InputError, match=r"sister: is of another network than .*tiny"):
        mean_run([open_run(tiny_run), other], tmp_path / "none")
    assert not (tmp_path / "none").exists()
