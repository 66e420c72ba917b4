import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import optuna
import pytest
from click.testing import CliRunner

from cellseg_device.errors import InputError, OutputError
from cellseg_host.commands.sweep import sweep as command
from cellseg_host.sweep import locks, plan, report, study
from cellseg_host.training import history, train
from cellseg_host.training.history import Epoch

GRID = """
method = "grid"
settings = { epochs = 2, steps = 1, batch = 1, side = 32 }
search.loss = ["bce", "dice"]
search.seed = [0, 1, 2]
"""
SEARCH = """
method = "METHOD"
trials = 12
seed = 5
settings.epochs = 4

[search]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
arch = ["edge-unet", { arch = "unet", search.options.batch_norm = [true, false] }]
"""
# The same search as a function
FUNCTION = """
def search(trial):
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    if trial.suggest_categorical("arch", ["edge-unet", "unet"]) == "edge-unet":
        return {"learning-rate": rate}
    return {"learning-rate": rate, "arch": "unet", "options": {"batch_norm": trial.suggest_int("batch_norm", 0, 1) > 0}}
"""


@pytest.fixture
def config(tmp_path):
    def config(text):
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        return path

    return config


@pytest.fixture
def fake_train(monkeypatch):
    """A training that takes no time; its score follows from a function of the settings and the epoch."""

    class Fake:
        score = staticmethod(lambda settings, epoch: settings.seed / 10 + (settings.loss == "dice") + epoch / 100)
        resumed = 0

        def __init__(self):
            self.settings = []

        def train(self, dataset, path, settings, resume, on_step):
            self.settings.append(settings)
            self.resumed += resume
            assert resume or not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            (path / "run.json").write_text("{}")
            past = history.read(path)
            for number in range(len(past) + 1, settings.epochs + 1):
                on_step(1, 1)
                score = self.score(settings, number)
                past.append(Epoch(number, 1, 0.5, 1e-3, True, {"mean_ap": score, "val_loss": -score}))
                history.write(path, past)
                yield past[-1]

    fake = Fake()
    monkeypatch.setattr(train, "train", fake.train)
    return fake


def opened(config, folder, dataset):
    return study.open_sweep(folder, plan.read(config), dataset)


def test_a_grid_trains_every_combination_once(tiny_dataset, tmp_path, config, fake_train):
    sweep = opened(config(GRID), tmp_path / "s", tiny_dataset)
    done = list(study.work(sweep, tiny_dataset, 6))
    assert [t.number for t in done] == list(range(6))
    assert {(s.loss, s.seed) for s in fake_train.settings} == {(a, b) for a in ("bce", "dice") for b in (0, 1, 2)}
    assert all(t.state == "complete" and t.epochs == 2 for t in done)
    assert done[4].parameters == {"loss": "dice", "seed": "1"}
    assert done[4].value == pytest.approx(1.12)
    assert sweep.best().number == 5
    assert list(study.work(sweep, tiny_dataset, 6)) == []


def test_a_grid_may_be_taken_in_pieces(tiny_dataset, tmp_path, config, fake_train):
    first = opened(config(GRID), tmp_path / "s", tiny_dataset)
    assert len(list(study.work(first, tiny_dataset, 2))) == 2
    again = opened(config("trials = 6\n" + GRID), tmp_path / "s", tiny_dataset)
    assert len(list(study.work(again, tiny_dataset, 6))) == 4
    assert len({str(s) for s in fake_train.settings}) == 6


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_search_is_the_same_however_often_it_is_stopped(tiny_dataset, tmp_path, config, fake_train, method):
    file = config(SEARCH.replace("METHOD", method))
    fake_train.score = lambda settings, epoch: -abs(settings.learning_rate - 0.01) + epoch / 1e6
    list(study.work(opened(file, tmp_path / "whole", tiny_dataset), tiny_dataset, 12))
    whole = [(s.learning_rate, s.arch, s.options) for s in fake_train.settings]
    assert len({rate for rate, _, _ in whole}) == 12
    assert {arch for _, arch, _ in whole} == {"edge-unet", "unet"}
    assert all(("batch_norm" in options) == (arch == "unet") for _, arch, options in whole)
    fake_train.settings.clear()
    for wanted in (1, 5, 12):
        list(study.work(opened(file, tmp_path / "parts", tiny_dataset), tiny_dataset, wanted))
    assert [(s.learning_rate, s.arch, s.options) for s in fake_train.settings] == whole


def test_a_loss_is_best_when_it_is_smallest(tiny_dataset, tmp_path, config, fake_train):
    sweep = opened(config("metric = 'val_loss'\n" + GRID), tmp_path / "s", tiny_dataset)
    list(study.work(sweep, tiny_dataset, 6))
    assert all(s.monitor == "val_loss" for s in fake_train.settings)
    assert sweep.best().number == 5
    assert [t.number for t in report.ranked(sweep)] == [5, 4, 3, 2, 1, 0]


def test_a_stopped_trial_is_gone_on_with_and_not_started_anew(tiny_dataset, tmp_path, config, fake_train):
    def stop(number, epoch):
        if (number, epoch.epoch) == (1, 1):
            raise KeyboardInterrupt

    sweep = opened(config(GRID), tmp_path / "s", tiny_dataset)
    with pytest.raises(KeyboardInterrupt):
        list(study.work(sweep, tiny_dataset, 6, on_epoch=stop))
    assert [t.state for t in sweep.trials()] == ["complete", "running"]
    seen = []
    again = opened(config(GRID), tmp_path / "s", tiny_dataset)
    done = list(study.work(again, tiny_dataset, 6, on_epoch=lambda n, e: seen.append((n, e.epoch))))
    assert [t.number for t in done] == [1, 2, 3, 4, 5]
    assert seen[:3] == [(1, 2), (2, 1), (2, 2)]
    assert fake_train.resumed == 1


def test_a_trial_stopped_before_its_run_began_is_begun(tiny_dataset, tmp_path, config, fake_train):
    """Killed between the claim and the run's first file, with half of its parameters in the journal."""
    sweep = opened(config(SEARCH.replace("METHOD", "tpe")), tmp_path / "s", tiny_dataset)
    sweep.study.ask().suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    (sweep.run_of(0) / "plugins").mkdir(parents=True)
    rate = sweep.trial(0).parameters["learning_rate"]
    (done,) = study.work(sweep, tiny_dataset, 1)
    assert done.state == "complete"
    assert done.parameters["learning_rate"] == rate == fake_train.settings[0].learning_rate
    assert "arch" in done.parameters


def test_a_grid_point_that_was_only_begun_is_not_lost(tiny_dataset, tmp_path, config, fake_train):
    """Killed before the trial had any of its parameters."""
    sweep = opened(config(GRID), tmp_path / "s", tiny_dataset)
    sweep.study.ask()
    assert (sweep.trial(0).state, sweep.trial(0).parameters) == ("running", {})
    assert len(list(study.work(sweep, tiny_dataset, 6))) == 6
    assert len({str(s) for s in fake_train.settings}) == 6


def test_a_trial_that_another_works_on_is_left_alone(tiny_dataset, tmp_path, config, fake_train):
    sweep = opened(config(GRID), tmp_path / "s", tiny_dataset)
    sweep.study.ask()
    with locks.locked(tmp_path / "s" / "trials" / "0000.lock"):
        assert [t.number for t in study.work(sweep, tiny_dataset, 6)] == [1, 2, 3, 4, 5]
    assert [t.number for t in study.work(sweep, tiny_dataset, 6)] == [0]


def test_a_trial_that_ends_while_it_is_looked_at_is_not_taken(tiny_dataset, tmp_path, config, fake_train, monkeypatch):
    sweep = opened(config(GRID), tmp_path / "s", tiny_dataset)
    sweep.study.ask()
    lock_of = study._lock_of

    def ends(sweep, number):
        if number == 0 and sweep.trial(0).state == "running":
            sweep.study.tell(0, 0.5)
        return lock_of(sweep, number)

    monkeypatch.setattr(study, "_lock_of", ends)
    assert [t.number for t in study.work(sweep, tiny_dataset, 3)] == [1, 2]


def test_a_failed_trial_has_its_reason_and_the_sweep_goes_on(tiny_dataset, tmp_path, config, fake_train):
    def score(settings, epoch):
        if settings.loss == "bce":
            raise {0: InputError("the loss is not finite"), 1: MemoryError()}.get(settings.seed, InputError("no"))
        return float("nan") if settings.seed == 2 else 0.5

    fake_train.score = score
    sweep = opened(config(GRID), tmp_path / "s", tiny_dataset)
    done = list(study.work(sweep, tiny_dataset, 6))
    assert [t.state for t in done] == ["failed"] * 3 + ["complete"] * 2 + ["failed"]
    reasons = [t.reason for t in done]
    assert reasons == [
        "the loss is not finite",
        "there is not enough memory for it",
        "no",
        "",
        "",
        "its mean_ap is not a number",
    ]
    assert sweep.best().number == 3
    written = report.write(sweep, tiny_dataset.root)
    assert [t["reason"] for t in written["trials"]] == reasons


def test_a_search_stays_away_from_what_fails(tiny_dataset, tmp_path, config, fake_train):
    """Where failures tell the search nothing, it spends two thirds of its trials on them here."""

    def score(settings, epoch):
        if settings.loss == "focal" and settings.learning_rate > 1e-3:
            raise InputError("the loss is not finite")
        return 1 if settings.loss == "focal" else -abs(math.log10(settings.learning_rate) + 2)

    fake_train.score = score
    search = 'search.loss = ["bce", "dice", "focal"]\nsearch.learning_rate = { low = 1e-4, high = 1, log = true }'
    sweep = opened(config(f"trials = 40\nsettings.epochs = 1\n{search}"), tmp_path / "s", tiny_dataset)
    states = [t.state for t in study.work(sweep, tiny_dataset, 40)]
    assert states[:10].count("failed") >= 1
    assert states[10:].count("failed") <= 10


def test_settings_that_do_not_fit_together_fail_their_trial_alone(tiny_dataset, tmp_path, config, fake_train):
    text = "method = 'grid'\nsearch.seed = [0, 1]\nsettings.epochs = 1"
    sweep = opened(config(text), tmp_path / "s", tiny_dataset)
    settings_of, calls = plan.Plan.settings_of, []

    def refused_once(plan, trial):
        calls.append(1)
        if len(calls) == 1:
            raise InputError("these do not go together")
        return settings_of(plan, trial)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan.Plan, "settings_of", refused_once)
        done = list(study.work(sweep, tiny_dataset, 2))
    assert [(t.state, t.reason) for t in done] == [("failed", "these do not go together"), ("complete", "")]


def test_a_bad_trial_is_pruned_where_asked(tiny_dataset, tmp_path, config, fake_train):
    text = "method = 'grid'\nsettings.epochs = 10\nsearch.seed = [9, 8, 7, 6, 5, 1, 10]"
    sweep = opened(config(text), tmp_path / "s", tiny_dataset)
    done = list(study.work(sweep, tiny_dataset, 7, prune=True))
    assert [t.state for t in done] == ["complete"] * 5 + ["pruned", "complete"]
    assert done[5].epochs == 3  # a fifth of the ten epochs is free, the next is judged
    assert sweep.best().number == 6
    assert [t.number for t in report.ranked(sweep)] == [6, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("seed = [0, 1, 2]", "seed = [0, 1]"), "holds a sweep with another 'search'"),
        (('"grid"', '"random"\ntrials = 1'), "holds a sweep with another 'method'"),
        (('"grid"', '"grid"\nmetric = "ap50"'), "holds a sweep with another 'metric'"),
    ],
)
def test_another_configuration_is_refused(tiny_dataset, tmp_path, config, change, words):
    opened(config(GRID), tmp_path / "s", tiny_dataset)
    before = sorted(p.name for p in (tmp_path / "s").iterdir())
    with pytest.raises(InputError, match=words):
        opened(config(GRID.replace(*change)), tmp_path / "s", tiny_dataset)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == before
    assert (tmp_path / "s" / "sweep.toml").read_text() == GRID


def test_other_data_and_other_folders_are_refused(tiny_dataset, tmp_path, config):
    from cellseg_host.data.dataset import Dataset

    opened(config(GRID), tmp_path / "s", tiny_dataset)
    with pytest.raises(InputError, match="was started on other data"):
        opened(config(GRID), tmp_path / "s", Dataset(tiny_dataset.root, tiny_dataset.entries[1:]))
    with pytest.raises(InputError, match="is not empty and holds no sweep"):
        opened(config(GRID), tmp_path, tiny_dataset)
    assert not (tmp_path / ".lock").exists()
    with pytest.raises(InputError, match="holds no sweep to report"):
        opened(config(GRID), tmp_path / "none", None)
    assert not (tmp_path / "none").exists()
    (tmp_path / "s" / "sweep.json").write_text("{")
    with pytest.raises(InputError, match=r"sweep\.json: is damaged"):
        opened(config(GRID), tmp_path / "s", tiny_dataset)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("arch = ['edge-unet', 'unte']", "no architecture 'unte': did you mean 'unet'"),
        ("loss = ['bce', 'dicee']", "dicee: "),
        ("options.batchnorm = [true]", "no option 'batchnorm': did you mean 'batch_norm'"),
        ("side = [32, 33]", "33: --side 33 is not a multiple of 16"),
        ("arch = [{ arch = 'unet', search.options.filter = [[8, 16]] }]", "no option 'filter': did you mean 'filters'"),
    ],
)
def test_what_no_trial_could_use_is_refused_before_any(tiny_dataset, config, search, words):
    text = f"method = 'grid'\nsettings = {{ arch = 'unet', side = 64 }}\nsearch.{search}"
    with pytest.raises(InputError) as raised:
        study.check(plan.read(config(text)), tiny_dataset)
    assert words in raised.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metric = 'mean_app'", "no score 'mean_app': did you mean 'mean_ap'"),
        ("settings.metric = 3", "no setting 'metric'"),
        ("settings.monitor = 'ap50'", "'monitor' is what the sweep's 'metric' says"),
    ],
)
def test_a_metric_that_no_run_has_is_refused_before_any(tiny_dataset, config, text, words):
    with pytest.raises(InputError, match=words):
        study.check(plan.read(config(f"method = 'grid'\n{text}\nsearch.loss = ['bce']")), tiny_dataset)


def test_a_full_disk_stops_the_sweep_and_the_trial_goes_on_later(tiny_dataset, tmp_path, config, monkeypatch):
    import tensorflow as tf

    def full(*arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "checkpoint/x.tmp; No space left on device")
        yield

    monkeypatch.setattr(train, "train", full)
    sweep = opened(config(GRID), tmp_path / "s", tiny_dataset)
    with pytest.raises(OutputError, match="no space is left"):
        next(study.work(sweep, tiny_dataset, 1))
    assert [trial.state for trial in sweep.trials()] == ["running"]  # until a process continues it


def test_what_goes_with_another_choice_is_not_refused(tiny_dataset, config):
    """Of the four combinations only unet at 40 px does not work, and that is the first."""
    text = "method = 'grid'\nsearch.side = [40, 64]\nsearch.arch = ['unet', 'unet-200']"
    study.check(plan.read(config(text)), tiny_dataset)


def test_a_dataset_without_validation_is_refused(tiny_dataset, config):
    from cellseg_host.data.dataset import Dataset

    with pytest.raises(InputError, match="split 'val'"):
        study.check(plan.read(config(GRID)), Dataset(tiny_dataset.root, tiny_dataset.split("train")))


def test_a_sweep_that_is_being_started_is_no_other_folder(tiny_dataset, tmp_path, config, monkeypatch):
    """Whatever another process has written of a new sweep so far, this one finds a sweep or an empty folder."""
    write, seen = study.files.write, []

    def write_and_look(path, data):
        for _ in range(2):
            names = [p for p in path.parent.iterdir() if not p.name.startswith(".")]
            seen.append(not names or (path.parent / "sweep.json").exists())
            if len(seen) % 2:
                write(path, data)

    monkeypatch.setattr(study.files, "write", write_and_look)
    opened(config(GRID), tmp_path / "s", tiny_dataset)
    assert seen == [True] * 4
    (tmp_path / "s" / "sweep.toml").unlink()  # killed after sweep.json
    opened(config(GRID), tmp_path / "s", tiny_dataset)
    assert (tmp_path / "s" / "sweep.toml").read_text() == GRID


def test_a_half_written_record_is_cut_off(tiny_dataset, tmp_path, config, fake_train):
    sweep = opened(config(GRID), tmp_path / "s", tiny_dataset)
    list(study.work(sweep, tiny_dataset, 2))
    journal = tmp_path / "s" / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"wor')
    again = opened(config(GRID), tmp_path / "s", tiny_dataset)
    assert journal.read_bytes().startswith(whole)
    assert len(list(study.work(again, tiny_dataset, 6))) == 4
    assert [t.state for t in opened(config(GRID), tmp_path / "s", tiny_dataset).trials()] == ["complete"] * 6


@pytest.fixture
def function(tmp_path, config):
    """A sweep whose search is a function in a file beside it."""

    def function(text, head="trials = 12\nseed = 5\nsettings.epochs = 4"):
        (tmp_path / "mine.py").write_text(text)
        return config(f"{head}\nsearch = 'mine.py:search'\n")

    return function


def test_a_search_may_be_a_function(tiny_dataset, tmp_path, function, fake_train):
    fake_train.score = lambda settings, epoch: -abs(settings.learning_rate - 0.01) + epoch / 1e6
    sweep = opened(function(FUNCTION), tmp_path / "s", tiny_dataset)
    study.check(sweep.plan, tiny_dataset)
    done = list(study.work(sweep, tiny_dataset, 12))
    assert all(t.state == "complete" for t in done)
    found = fake_train.settings
    assert [s.learning_rate for s in found] == [t.parameters["learning_rate"] for t in done]
    assert {(s.arch, s.options.get("batch_norm")) for s in found} == {
        ("edge-unet", None),
        ("unet", True),
        ("unet", False),
    }
    assert {s.epochs for s in found} == {4}
    document = report.write(sweep, tiny_dataset.root)
    assert max(document["importance"], key=document["importance"].get) == "learning_rate"
    assert (tmp_path / "s" / "parameters.png").exists()


def test_a_sweep_keeps_its_search_function_and_goes_on_with_no_other(tiny_dataset, tmp_path, function, fake_train):
    file = function(FUNCTION)
    list(study.work(opened(file, tmp_path / "s", tiny_dataset), tiny_dataset, 1))
    assert (tmp_path / "s" / "plugins" / "mine.py").read_text() == FUNCTION
    again = opened(tmp_path / "s" / "sweep.toml", tmp_path / "s", tiny_dataset)
    assert len(list(study.work(again, tiny_dataset, 2))) == 1
    with pytest.raises(InputError, match="holds a sweep with another 'search'"):
        opened(function(FUNCTION.replace("1e-4", "1e-5")), tmp_path / "s", tiny_dataset)


def test_a_grid_of_a_function_is_every_combination(function):
    text = FUNCTION.replace("1e-4, 1e-1, log=True", "0.1, 0.3, step=0.1")
    found = plan.read(function(text, "method = 'grid'"))
    assert [tuple(point.values()) for point in found.points] == [
        (rate, *arch) for rate in (0.1, 0.2, 0.3) for arch in (("edge-unet",), ("unet", 0), ("unet", 1))
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 3", "search = {path}:search: must return a dict of settings, not int 3"),
        ("return {}[3]", "search = {path}:search: raises KeyError: 3 (line 2)"),
        ("return {'heads': trial.suggest_categorical('a', [['x'], ['y']])}", "raises UserWarning: Choices for a cat"),
        ("return {'los': trial.suggest_int('a', 1, 3)}", "there is no setting 'los': did you mean 'loss'?"),
        ("return {'loss': trial.suggest_categorical('a', ['bce', 'x'])}", "x: --loss: there is no loss 'x'"),
    ],
)
def test_a_function_that_cannot_work_is_refused_before_any_trial(tiny_dataset, tmp_path, function, body, words):
    found = plan.read(function(f"def search(trial):\n    {body}\n"))
    with pytest.raises(InputError) as raised:
        study.check(found, tiny_dataset)
    assert words.format(path=tmp_path / "mine.py") in raised.value.message


def test_a_function_that_fails_later_fails_its_trial_alone(tiny_dataset, tmp_path, function, fake_train):
    text = "def search(trial):\n    return {'seed': {0: 1, 2: 3}[trial.number]}\n"
    sweep = opened(function(text), tmp_path / "s", tiny_dataset)
    done = list(study.work(sweep, tiny_dataset, 3))
    assert [t.state for t in done] == ["complete", "failed", "complete"]
    assert done[1].reason.endswith("mine.py:search: raises KeyError: 1 (line 2)")


def test_a_function_may_choose_nothing(tiny_dataset, tmp_path, function, fake_train):
    sweep = opened(function("def search(trial):\n    return {'loss': 'dice'}\n"), tmp_path / "s", tiny_dataset)
    assert len(list(study.work(sweep, tiny_dataset, report.IMPORTANCE_TRIALS))) == report.IMPORTANCE_TRIALS
    document = report.write(sweep, tiny_dataset.root)
    assert document["importance"] == {}
    assert document["best"]["number"] == 0
    assert (tmp_path / "s" / "history.png").exists()
    assert not (tmp_path / "s" / "parameters.png").exists()


def test_tables_and_plots(tiny_dataset, tmp_path, config, fake_train):
    fake_train.score = lambda settings, epoch: -abs(settings.learning_rate - 0.01) + epoch / 1e6
    sweep = opened(config(SEARCH.replace("METHOD", "random")), tmp_path / "s", tiny_dataset)
    assert report.write(sweep, tiny_dataset.root)["best"] is None
    assert not (tmp_path / "s" / "history.png").exists()
    list(study.work(sweep, tiny_dataset, 12))
    document = report.write(sweep, tiny_dataset.root)
    assert document == json.loads((tmp_path / "s" / "trials.json").read_text())
    with (tmp_path / "s" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    best = sweep.best()
    assert len(rows) == 12
    assert float(rows[best.number]["value"]) == best.value == document["best"]["value"]
    assert float(rows[best.number]["learning_rate"]) == best.parameters["learning_rate"]
    unet = [r for r in rows if r["arch"] == "unet"]
    assert all(r["unet/options.batch_norm"] in ("true", "false") for r in unet)
    assert all(r["unet/options.batch_norm"] == "" for r in rows if r not in unet)
    assert sum(document["importance"].values()) == pytest.approx(1, abs=0.01)
    assert max(document["importance"], key=document["importance"].get) == "learning_rate"
    assert document["repeat"].endswith(
        f"--config {tmp_path}/s/trials/{best.number:04d}/config.toml --out runs/s-{best.number}"
    )
    for name in ("history.png", "parameters.png"):
        picture = cv2.imread(str(tmp_path / "s" / name))
        assert picture.std() > 5


def test_the_command(tiny_dataset, tmp_path, config, fake_train):
    file, out = config(GRID), tmp_path / "s"
    arguments = [str(file), "--data", str(tiny_dataset.root), "--out", str(out)]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert "trial 0 complete mean_ap 0.020 in 2 epochs (best 0.020, trial 0)  loss=bce  seed=0" in result.stdout
    assert f"best: trial 5, {out}/trials/0005" in result.stdout
    first, *_, last = result.stdout.splitlines()
    assert first == f"6 trials in all, grid by mean_ap; images: 6 of train, 3 of val ({tiny_dataset.root})"
    run, data = f"{out}/trials/0005", tiny_dataset.root
    assert last == f"next: cellseg-host quantize {run} --int8 --data {data} --out s.tflite"
    document = json.loads(CliRunner().invoke(command, [str(file), "--out", str(out), "--report", "--json"]).stdout)
    assert document["best"]["number"] == 5
    assert len(fake_train.settings) == 6
    fewer = CliRunner().invoke(command, [*arguments, "--trials", "2"])
    assert fewer.exit_code == 0
    assert len(fake_train.settings) == 6


def test_the_example_in_the_help_works(tiny_dataset, config):
    text = command.help.partition("CONFIG is a TOML file:")[2].partition("Or search")[0].replace("\b", "")
    found = plan.read(config(text))
    study.check(found, tiny_dataset)
    assert found.count() == 40


def test_the_command_fails_where_every_trial_does(tiny_dataset, tmp_path, config, fake_train):
    def score(settings, epoch):
        raise InputError("the loss is not finite")

    fake_train.score = score
    arguments = [str(config(GRID)), "--data", str(tiny_dataset.root), "--out", str(tmp_path / "s")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "trial 0, 1, 2, 3, 4, 5 failed: the loss is not finite" in result.stderr
    assert "all trials failed" in result.stderr


def test_the_command_needs_data(tmp_path, config):
    result = CliRunner().invoke(command, [str(config(GRID)), "--out", str(tmp_path / "s")])
    assert result.exit_code == 2
    assert "--data is missing" in result.output


def test_optuna_keeps_quiet(tiny_dataset, tmp_path, config, fake_train, capfd):
    list(study.work(opened(config(GRID), tmp_path / "s", tiny_dataset), tiny_dataset, 6))
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR


def start(file, data, out, environment):
    quiet = environment | {"PYTHONWARNINGS": "default"}
    program = "import sys; from cellseg_host.commands.sweep import sweep; sweep(sys.argv[1:])"
    arguments = [str(file), "--data", str(data), "--out", str(out)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], env=quiet, **pipes)


@pytest.mark.slow
def test_killed_and_gone_on_with(tiny_dataset, tmp_path, config, environment):
    """Killed within its second trial, whose first epoch is done: no epoch is trained twice, none is missing."""
    file, out = (
        config(GRID.replace("seed = [0, 1, 2]", "seed = [0]").replace("epochs = 2", "epochs = 4")),
        tmp_path / "s",
    )
    process = start(file, tiny_dataset.root, out, environment)
    second = out / "trials" / "0001" / "history.csv"
    while not second.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = second.read_text()
    process = start(file, tiny_dataset.root, out, environment)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert stderr == ""
    assert "trial 0 " not in stdout.split("trial 1 complete")[0]
    assert second.read_text().startswith(before.rsplit("\n", 2)[0])
    assert [e.epoch for e in history.read(second.parent)] == [1, 2, 3, 4]
    document = json.loads((out / "trials.json").read_text())
    assert [t["state"] for t in document["trials"]] == ["complete", "complete"]
    assert (out / "trials" / "0000" / "config.toml").exists()
    assert document["best"]["value"] == max(t["value"] for t in document["trials"])


@pytest.mark.slow
def test_two_share_one_sweep(tiny_dataset, tmp_path, config, environment):
    file, out = config(GRID.replace("[0, 1, 2]", "[0, 1]").replace("epochs = 2", "epochs = 1")), tmp_path / "s"
    processes = [start(file, tiny_dataset.root, out, environment) for _ in range(2)]
    outputs = [p.communicate(timeout=300) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    mine, yours = (set(map(int, re.findall(r"^trial (\d+) complete", stdout, re.MULTILINE))) for stdout, _ in outputs)
    assert mine | yours == set(range(4))
    assert not mine & yours
    assert mine
    assert yours
    document = json.loads(CliRunner().invoke(command, [str(file), "--out", str(out), "--report", "--json"]).stdout)
    assert [t["state"] for t in document["trials"]] == ["complete"] * 4
    assert len({tuple(t["parameters"].values()) for t in document["trials"]}) == 4
