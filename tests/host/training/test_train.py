import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from click.testing import CliRunner

from cellseg_device.errors import InputError
from cellseg_host import quantize
from cellseg_host.augment import Augmentation
from cellseg_host.cli import main
from cellseg_host.data import dataset as datasets
from cellseg_host.data.dataset import Dataset
from cellseg_host.quantize import separation
from cellseg_host.training import feed, keras_maps, losses, runs, train
from cellseg_host.training.sampling import sampling_weights
from cellseg_host.training.settings import TrainSettings, from_mapping


@pytest.fixture(scope="module")
def small():
    """Settings of a network that is traced in a moment, for what does not depend on the network."""
    return TrainSettings(arch="unet", options={"filters": (4, 8)}, epochs=2, steps=12, batch=4, side=32, seed=3)


@pytest.fixture(scope="module")
def small_run(tiny_dataset, small, tmp_path_factory):
    """A finished run of it."""
    path = tmp_path_factory.mktemp("runs") / "small"
    assert len(list(train.train(tiny_dataset, path, small))) == 2
    return path


def epochs_of(path):
    with (path / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_all_that_is_needed_later(tiny_run, tiny_dataset, tiny_settings):
    info = json.loads((tiny_run / "run.json").read_text())
    assert info["data"]["sha256"] == tiny_dataset.digest()
    run = runs.open_run(tiny_run)
    assert run.settings == tiny_settings
    assert len(epochs_of(tiny_run)) == 2
    assert list((tiny_run / "tensorboard").iterdir())
    assert run.network.count_params() == run.untrained().count_params()
    assert runs.open_run(tiny_run / "model.keras").path == tiny_run


def test_training_learns(tiny_run):
    first, last = epochs_of(tiny_run)
    assert float(last["loss"]) < 0.8 * float(first["loss"])


def test_a_stopped_run_goes_on_where_it_was(tiny_dataset, small_run, small, tmp_path):
    """Stopped after its first epoch and resumed, it has the history of the run that was never stopped."""
    path = tmp_path / "run"
    stopped = train.train(tiny_dataset, path, small)
    next(stopped)
    stopped.close()
    rest = list(train.train(tiny_dataset, path, TrainSettings(), resume=True))
    assert [e.epoch for e in rest] == [2]
    for whole, resumed in zip(epochs_of(small_run), epochs_of(path), strict=True):
        for name in ("loss", "val_loss", "learning_rate"):
            assert float(resumed[name]) == pytest.approx(float(whole[name]), rel=1e-2)
    assert list(train.train(tiny_dataset, path, TrainSettings(), resume=True)) == []


def test_images_without_labels_take_no_part_in_segmentation(tiny_dataset, small, tmp_path):
    """Those of them here cannot even be decoded."""
    root = shutil.copytree(tiny_dataset.root, tmp_path / "data")
    without = [tiny_dataset.split(split)[0].id for split in ("train", "val")]
    for name in without:
        (root / "labels" / f"{name}.png").unlink()
        (root / "images" / f"{name}.png").write_bytes(b"no image")
    entries = [dataclasses.replace(e, cells=None) if e.id in without else e for e in tiny_dataset.entries]
    datasets.write_manifest(root, entries)
    dataset = datasets.load(root)
    list(train.train(dataset, tmp_path / "run", dataclasses.replace(small, epochs=1)))
    run = runs.open_run(tmp_path / "run")
    assert run.info["data"]["train_images"] == 5
    made = quantize.quantize(run, dataset)
    assert [score.id for score in made.scores] == [entry.id for entry in dataset.labelled("val")]
    assert len(made.scores) == 2


def test_it_stops_when_nothing_improves(tiny_dataset, small, tmp_path):
    settings = dataclasses.replace(small, steps=1, batch=1, epochs=9, patience=2, learning_rate=1e-9)
    epochs = list(train.train(tiny_dataset, tmp_path / "run", settings))
    assert len(epochs) < 9
    assert not any(e.best for e in epochs[-2:])


def test_a_loss_that_runs_away_stops_the_run(tiny_dataset, small, tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "total_loss", lambda *rest, **options: rest[1][0][0, 0, 0, 0] * float("nan"))
    with pytest.raises(InputError, match="lower --learning-rate"):
        next(train.train(tiny_dataset, tmp_path / "run", dataclasses.replace(small, steps=1, batch=1)))
    assert not (tmp_path / "run" / "model.keras").exists()


def test_a_network_that_has_diverged_stops_the_run(tiny_dataset, small, tmp_path):
    """After a step that is too large; its predictions would be no numbers."""
    settings = dataclasses.replace(small, steps=1, batch=1, learning_rate=1e30)
    with pytest.raises(InputError, match="predictions are not finite: start again with a lower --learning-rate"):
        next(train.train(tiny_dataset, tmp_path / "run", settings))
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.slow
def test_the_baseline_trains_too(tiny_dataset, tmp_path):
    settings = TrainSettings(arch="unet", epochs=1, steps=2, batch=2, side=32)
    (epoch,) = train.train(tiny_dataset, tmp_path / "run", settings)
    assert np.isfinite(epoch.loss)


@pytest.mark.parametrize(
    ("arch", "options"), [pytest.param("edge-unet", {}, marks=pytest.mark.slow), ("unet", {"filters": (4, 8)})]
)
def test_training_in_bfloat16_leaves_a_float32_network(tiny_dataset, small, tmp_path, arch, options):
    settings = dataclasses.replace(small, arch=arch, options=options, precision="bfloat16", epochs=1, steps=2, heads=())
    (epoch,) = train.train(tiny_dataset, tmp_path / "run", settings)
    assert np.isfinite(epoch.loss)
    assert keras.mixed_precision.global_policy().name == "float32"
    network = runs.open_run(tmp_path / "run").network
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert {w.dtype for w in network.weights} == {tf.float32}


def test_the_digest_of_the_source_covers_both_packages(tmp_path, monkeypatch):
    before = runs.source_digest()
    for package in (runs.cellseg_host, runs.cellseg_device):
        copy = shutil.copytree(Path(package.__file__).parent, tmp_path / package.__name__)
        (copy / "cli.py").write_text("# another state of the code\n")
        with monkeypatch.context() as patch:
            patch.setattr(package, "__file__", str(copy / "__init__.py"))
            assert runs.source_digest() != before


@pytest.mark.slow
def test_kill_and_resume_on_the_command_line(tiny_dataset, tmp_path, environment):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "cellseg_host", "train", str(tiny_dataset.root), "--out", str(run)]
    options = ["--epochs", "3", "--steps", "3", "--batch", "2", "--side", "32"]
    quiet = environment | {"PYTHONWARNINGS": "default"}
    process = subprocess.Popen([*command, *options], env=quiet, stdout=subprocess.PIPE, text=True)
    assert any(line.startswith("epoch 1/3 ") for line in process.stdout)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = subprocess.run([*command, "--resume"], env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [int(e["epoch"]) for e in epochs_of(run)] == [1, 2, 3]
    assert "best: epoch" in done.stdout
    assert done.stderr == ""
    assert (run / "history.png").stat().st_size > 5000


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tiny_dataset, tmp_path, environment):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "cellseg_host", "train", str(tiny_dataset.root), "--out", str(run)]
    options = ["--epochs", "500", "--steps", "3", "--batch", "2", "--side", "32"]
    quiet = environment | {"PYTHONWARNINGS": "default"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*command, *options], env=quiet, **pipes)
    assert any(line.startswith("epoch 1/500 ") for line in process.stdout)
    time.sleep(0.2)
    for _ in range(6):  # one that comes while a destructor runs is lost: Python can only print it
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            _, errors = process.communicate(timeout=10)
            break
    assert process.returncode != 0
    assert f"--out {run} --resume" in errors
    assert (run / "history.png").exists()
    assert "Traceback" not in errors


def test_views_depend_on_seed_and_epoch_only(tiny_dataset, tiny_run):
    card = runs.open_run(tiny_run).card()
    entries = tiny_dataset.split("train")
    heads = ("foreground", "distance")
    samples = feed.load_samples(tiny_dataset, entries, card, heads)
    weights = sampling_weights(entries)

    def first(seed):
        return next(iter(feed.views(samples, weights, heads, Augmentation(), side=32, batch=2, count=1, seed=seed)))[
            0
        ].numpy()

    assert (first((0, 1)) == first((0, 1))).all()
    assert (first((0, 1)) != first((0, 2))).any()


def test_rarer_modalities_are_drawn_more_often(tiny_dataset):
    entries = tiny_dataset.split("train")
    weights = sampling_weights(entries)
    assert weights.sum() == pytest.approx(1)
    rare = [w for w, e in zip(weights, entries, strict=True) if e.modality == "histology"]
    common = [w for w, e in zip(weights, entries, strict=True) if e.modality == "fluorescence"]
    assert min(rare) > max(common)


def test_tuning_finds_the_thresholds_that_were_used(tiny_dataset, tiny_run):
    """Maps made from the truth itself: any seed between the rims and the cores gives the truth back."""
    from cellseg_device.model.interpreter import float_to_int8
    from cellseg_host.evaluation import metrics
    from cellseg_host.training import targets

    run = runs.open_run(tiny_run)
    specs = keras_maps.specs(run.network, run.outputs)
    truth = [tiny_dataset.labels(e) for e in tiny_dataset.split("val")]
    maps = []
    for labels in truth:
        logits = np.where(labels > 0, 4.0, -4.0).astype(np.float32)
        probability = np.clip(targets.distance(labels)[::2, ::2], 0.02, 0.98)
        distance = np.log(probability / (1 - probability)).astype(np.float32)
        maps.append({"foreground": float_to_int8(logits, "logit"), "distance": float_to_int8(distance, "logit")})
    from cellseg_device.pipeline.segment import label

    drawn = list(zip(maps, truth, strict=True))
    best = separation.tune(drawn, drawn, specs)
    scores = [metrics.average_precision(t, label(m, t.shape, specs, best))[0] for m, t in zip(maps, truth, strict=True)]
    assert np.mean(scores) > 0.85


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("not empty", "--resume"),
        ("nothing to resume", "no run to resume"),
        ("side", "not a multiple of 16"),
        ("no val", "split 'val'"),
        ("no cells", "nothing to learn"),
        ("arch", "did you mean 'unet'"),
        ("option", "did you mean 'encoder'"),
        ("value", "cannot be built"),
        ("loss", "did you mean 'dice'"),
        ("heads", "foreground must be among them"),
        ("head", "did you mean 'distance'"),
        ("presence", "edge-unet learns foreground"),
        ("monitor", "did you mean 'mean_iou'"),
        ("metric", "nowhere.py"),
        ("metric twice", "'score' is the name of another score"),
        ("metric of ours", "'mean_ap' is the name of another score"),
        ("metric of the history", "'loss' is the name of another score"),
        ("plateau", "needs the best epochs"),
        ("encoder weights", "has no encoder that takes pretrained weights"),
    ],
)
def test_mistakes_are_refused_before_any_training(tiny_dataset, tiny_run, tiny_settings, tmp_path, fault, words):
    dataset, path, settings = tiny_dataset, tmp_path / "run", tiny_settings
    if fault == "not empty":
        path = tiny_run
    if fault == "side":
        settings = dataclasses.replace(settings, side=40)
    if fault == "no val":
        dataset = Dataset(dataset.root, dataset.split("train"))
    if fault == "no cells":
        dataset = Dataset(dataset.root, tuple(dataclasses.replace(e, cells=0) for e in dataset.entries))
    changes = {
        "arch": {"arch": "unnet"},
        "option": {"options": {"encodr": (8, 8, 8, 8)}},
        "value": {"options": {"convs": (1,)}},
        "loss": {"loss": "dise"},
        "heads": {"heads": ("distance",)},
        "head": {"heads": ("foreground", "distanse")},
        "presence": {"heads": ("presence",)},
        "monitor": {"monitor": "mean_io"},
        "metric": {"metrics": ("nowhere.py:f",)},
        "encoder weights": {"encoder_weights": "vgg.h5"},
        "metric twice": {"metrics": (f"{tmp_path}/a.py:score", f"{tmp_path}/b.py:score")},
        "metric of ours": {"metrics": (f"{tmp_path}/a.py:mean_ap",)},
        "metric of the history": {"metrics": (f"{tmp_path}/a.py:loss",)},
        "plateau": {"schedule": "plateau", "keep": "last"},
    }
    for name in "ab":
        text = "def score(y_true, y_pred):\n    return 1.0\nmean_ap = loss = score\n"
        (tmp_path / f"{name}.py").write_text(text)
    settings = dataclasses.replace(settings, **changes.get(fault, {}))
    resume = fault == "nothing to resume"
    begin = partial(next, train.train(dataset, path, settings, resume=resume))
    with pytest.raises(InputError, match=words):
        begin()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"freeze": "encodr"}, "did you mean 'encoder'"),
        ({"keep": "lst"}, "did you mean 'last'"),
        ({"class_weight": "freq"}, "did you mean 'frequency'|choose one of none, frequency"),
        ({"precision": "float16"}, "did you mean 'bfloat16'"),
        ({"learning_rate": -0.01}, "is not above 0"),
        ({"learning_rate": float("nan")}, "is not above 0"),
        ({"steps": 0}, "is below 1"),
        ({"side": 16}, "is below 32"),
        ({"border_weight": float("nan")}, "is below 0"),
        ({"epochs": True}, "does not fit; its default is 100"),
        ({"epochs": float("inf")}, "'epochs': inf does not fit"),
        ({"heads": "foreground"}, "'heads': 'foreground' does not fit"),
        ({"options": "activation"}, "'options': 'activation' does not fit"),
        ({"learning_rate": True}, "does not fit"),
    ],
)
def test_settings_that_no_flag_would_take_are_refused_from_a_file_too(given, words):
    with pytest.raises(InputError, match=words):
        from_mapping(given)


@pytest.mark.parametrize("name", ["run.json", "model.keras"])
@pytest.mark.parametrize("text", ["", "{", "[]", "hello"])
def test_a_damaged_run_is_refused_by_name(tiny_run, tmp_path, name, text):
    path = tmp_path / "run"
    shutil.copytree(tiny_run, path)
    (path / name).write_text(text)
    with pytest.raises(InputError, match=name):
        _ = runs.open_run(path).network


def test_a_run_of_another_version_is_refused_by_name(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(file.read_text().replace('"border_weight"', '"gap_weight"'))
    with pytest.raises(InputError, match=r"run/run\.json: is of another version \(there is no setting 'gap_weight'"):
        _ = runs.open_run(tmp_path / "run").settings


def test_a_run_is_not_resumed_on_other_data(tiny_dataset, tiny_run):
    other = Dataset(tiny_dataset.root, tiny_dataset.entries[1:])
    with pytest.raises(InputError, match="other data"):
        next(train.train(other, tiny_run, TrainSettings(), resume=True))


def test_the_command_line_refuses_what_is_no_dataset(tmp_path):
    result = CliRunner().invoke(main, ["train", str(tmp_path)])
    assert result.exit_code == 2
    assert "data import" in result.output


@pytest.mark.slow
def test_rounds_and_averaged_weights(tiny_dataset, small, tmp_path):
    """Two rounds of an epoch each, then two whose weights are averaged; a stop between any of them changes nothing."""
    settings = dataclasses.replace(small, epochs=1, steps=6, rounds=2, swa=2, monitor="val_loss")
    whole = list(train.train(tiny_dataset, tmp_path / "whole", settings))
    assert [e.round for e in whole] == [1, 2, 3, 3]
    assert whole[1].learning_rate == pytest.approx(whole[0].learning_rate / 10)
    assert whole[2].learning_rate == whole[3].learning_rate == pytest.approx(2e-5)
    for stop in range(1, 4):
        path = tmp_path / str(stop)
        stopped = train.train(tiny_dataset, path, settings)
        for _ in range(stop):
            next(stopped)
        stopped.close()
        rest = list(train.train(tiny_dataset, path, settings, resume=True))
        assert [e.round for e in rest] == [1, 2, 3, 3][stop:]
        assert rest[-1].scores["val_loss"] == pytest.approx(whole[-1].scores["val_loss"], rel=2e-2)


def test_a_moving_average_goes_on_after_a_stop(tiny_dataset, small, tmp_path):
    settings = dataclasses.replace(small, epochs=3, steps=4, moving_average=0.9, monitor="val_loss")
    whole = list(train.train(tiny_dataset, tmp_path / "whole", settings))
    stopped = train.train(tiny_dataset, tmp_path / "stopped", settings)
    next(stopped)
    stopped.close()
    rest = list(train.train(tiny_dataset, tmp_path / "stopped", settings, resume=True))
    assert rest[-1].scores["val_loss"] == pytest.approx(whole[-1].scores["val_loss"], rel=2e-2)


def test_a_run_is_repeated_from_its_own_settings(tiny_dataset, tmp_path):
    run, again = tmp_path / "run", tmp_path / "again"
    flags = "--epochs 1 --steps 2 --batch 2 --side 32 --arch unet --option filters=4,8 --loss bce --augment blur_px=0"
    first = CliRunner().invoke(main, ["train", str(tiny_dataset.root), "--out", str(run), *flags.split()])
    assert first.exit_code == 0, first.output
    command = ["train", str(tiny_dataset.root), "--out", str(again), "--config", str(run / "config.toml"), "--json"]
    second = CliRunner().invoke(main, command)
    assert second.exit_code == 0, second.output
    assert runs.open_run(run).settings == runs.open_run(again).settings
    assert runs.open_run(run).settings.augmentation.blur_px == 0
    (line,) = second.stdout.splitlines()
    assert json.loads(line)["loss"] == pytest.approx(float(epochs_of(run)[0]["loss"]), rel=1e-3)


def test_a_user_s_own_network_loss_and_metric(tiny_dataset, tmp_path):
    """And the run stands by itself: it is opened by the copies that it keeps."""
    own = tmp_path / "own.py"
    own.write_text(
        "import tensorflow as tf, tf_keras as keras\nSTRIDE, MARGIN = 2, 16\n"
        "def build(heads, *, filters=4):\n"
        "    image = keras.Input((None, None, 3))\n"
        "    x = keras.layers.Conv2D(filters, 3, padding='same', activation='relu')(image)\n"
        "    return keras.Model(image, [keras.layers.Conv2D(1, 1, name=h)(x) for h in heads])\n"
        "def squared(y_true, y_pred):\n    return tf.reduce_mean((y_true - y_pred) ** 2)\n"
        "def counted(y_true, y_pred):\n    return -abs(float(y_true.max()) - float(y_pred.max()))\n"
    )
    command = ["train", str(tiny_dataset.root), "--out", str(tmp_path / "run"), "--arch", f"{own}:build"]
    command += ["--option", "filters=6", "--loss", f"{own}:squared", "--metric", f"{own}:counted"]
    command += ["--monitor", "counted", *["--epochs", "2", "--steps", "2", "--batch", "2", "--side", "32"]]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    own.write_text("raise SystemExit('changed since')")
    again = [
        "train",
        str(tiny_dataset.root),
        "--out",
        str(tmp_path / "again"),
        "--config",
        str(tmp_path / "run/config.toml"),
    ]
    repeated = CliRunner().invoke(main, again)
    assert repeated.exit_code == 0, repeated.output
    losses = [[epoch["loss"] for epoch in epochs_of(tmp_path / name)] for name in ("run", "again")]
    assert list(map(float, losses[0])) == pytest.approx(list(map(float, losses[1])), rel=1e-3)
    own.unlink()
    run = runs.open_run(tmp_path / "run")
    assert run.network.count_params() == 6 * 28 + 7
    assert float(epochs_of(run.path)[-1]["counted"]) <= 0
    resumed = train.train(tiny_dataset, run.path, TrainSettings(), resume=True)
    assert list(resumed) == []


def test_a_classifier_is_trained_and_scored_by_its_auc(tiny_dataset, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "import tf_keras as keras\nSTRIDE, MARGIN, HEADS = 16, 0, ('presence',)\n"
        "def build(heads):\n"
        "    image = keras.Input((None, None, 3))\n"
        "    x = keras.layers.Conv2D(4, 3, activation='relu')(image)\n"
        "    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)\n"
        "    return keras.Model(image, keras.layers.Dense(1, name='presence')(x))\n"
    )
    settings = TrainSettings(arch=f"{own}:build", epochs=1, steps=2, batch=4, side=32)
    (epoch,) = train.train(tiny_dataset, tmp_path / "run", settings)
    assert set(epoch.scores) == {"val_loss", "auc", "accuracy"}
    assert runs.open_run(tmp_path / "run").card().output("presence")


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_network_is_kept_or_the_last_one(tiny_dataset, tiny_run, tiny_settings, tmp_path, keep):
    """From a trained network on with steps that undo what it has learnt."""
    settings = dataclasses.replace(
        tiny_settings, init=str(tiny_run), monitor="val_loss", keep=keep, learning_rate=1.0, epochs=1
    )
    before, after = train.train(tiny_dataset, tmp_path / "run", settings)
    assert after.scores["val_loss"] > before.scores["val_loss"]
    assert after.best == (keep == "last")
    kept, first = (runs.open_run(path).network.get_weights() for path in (tmp_path / "run", tiny_run))
    assert all(np.array_equal(a, b) for a, b in zip(kept, first, strict=True)) == (keep == "best")
