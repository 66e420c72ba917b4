"""The trials of a sweep: each is a training run in a folder of its own, shared out among all that work on the sweep.

::

    SWEEP/sweep.json     what is searched, on which data; another configuration is refused
    SWEEP/config.yaml    the file it was started with
    SWEEP/journal.log    Optuna's record of all trials
    SWEEP/trials/0007/   the run of trial 7, as `train` makes it

Whoever works on a trial holds the lock of its file beside the folder, which the system frees when the process ends,
however it ends. So a trial that is not finished and not locked was stopped: the next to look goes on with it, from the
run's own checkpoint.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from cellseg_device import files
from cellseg_device.errors import InputError, OutputError
from cellseg_host import __version__
from cellseg_host import history as histories
from cellseg_host.data.dataset import Dataset
from cellseg_host.history import Epoch
from cellseg_host.nearest import unknown
from cellseg_host.settings import TrainSettings
from cellseg_host.sweep.locks import JournalLock, locked
from cellseg_host.sweep.space import Choices, Plan, Range

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
# Trials before any is pruned, and the share of its epochs that each may have
PRUNE_AFTER_TRIALS, PRUNE_AFTER_SHARE = 5, 0.2
_NO_ROOM = os.strerror(errno.ENOSPC)


@dataclass(frozen=True)
class Trial:
    """One trial as it stands.

    Attributes
    ----------
    number : int
    state : str
        ``"complete"``, ``"pruned"``, ``"failed"``, ``"running"`` (or stopped, until a worker goes on with it) or
        ``"waiting"``.
    value : float or None
        The metric of the network that its run keeps; of a pruned trial, of the last epoch.
    epochs : int
    parameters : dict
        What was chosen for it.
    reason : str
        Why it failed, or nothing.
    run : str
        Folder of its run, from the sweep's.
    """

    number: int
    state: str
    value: float | None
    epochs: int
    parameters: dict[str, Any]
    reason: str
    run: str


@dataclass(frozen=True)
class Sweep:
    """An open sweep."""

    folder: Path
    plan: Plan
    study: optuna.Study

    @property
    def minimizes(self) -> bool:
        """Whether a smaller metric is better."""
        return self.study.direction is StudyDirection.MINIMIZE

    def trials(self) -> list[Trial]:
        """All trials so far, by number."""
        return [self._trial(t) for t in self.study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> Trial:
        """One of them."""
        return self._trial(self.study.get_trials(deepcopy=False)[number])

    def best(self) -> Trial | None:
        """The complete trial with the best metric, the first of equals."""
        complete = [t for t in self.trials() if t.state == "complete" and t.value is not None]
        sign = 1 if self.minimizes else -1
        return min(complete, key=lambda t: (sign * (t.value or 0.0), t.number), default=None)

    def run_of(self, number: int) -> Path:
        """Folder of a trial's run."""
        return self.folder / "trials" / f"{number:04d}"

    def _trial(self, found: optuna.trial.FrozenTrial) -> Trial:
        path = self.run_of(found.number)
        reason = found.user_attrs.get("reason", "") if found.state is TrialState.PRUNED else ""
        return Trial(
            found.number,
            "failed" if reason else STATES[found.state],
            None if reason else found.value,
            len(histories.read(path)),
            dict(found.params),
            reason,
            str(path.relative_to(self.folder)),
        )


def open_sweep(folder: Path, plan: Plan, config: bytes, dataset: Dataset | None) -> Sweep:
    """Start a sweep in an empty folder, or open the one in it.

    Parameters
    ----------
    folder : Path
    plan : Plan
    config : bytes
        The file that the plan was read from, of which a new sweep keeps a copy.
    dataset : Dataset or None
        None to look at a sweep that is there.

    Raises
    ------
    InputError
        If the folder holds something else, or a sweep of another configuration or other data.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    told = folder / "sweep.json"
    # In this order: of a sweep that another starts at this moment, sweep.json is the first file
    found = [p for p in folder.iterdir() if not p.name.startswith(".")] if folder.exists() else []
    if found and not told.exists():
        raise InputError(f"{folder}: is not empty and holds no sweep: choose another --out")
    if dataset is None and not told.exists():
        raise InputError(f"{folder}: holds no sweep to report: start one with --data")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        if told.exists():
            _check_same(told, plan, dataset)
        elif dataset is not None:
            data = {"name": dataset.root.resolve().name, "sha256": dataset.digest()}
            document = {"config": plan.told, "data": data, "code": {"cellseg_host": __version__}}
            files.write(told, json.dumps(document, indent=2, ensure_ascii=False).encode())
        (folder / "trials").mkdir(exist_ok=True)
        if not (folder / "config.yaml").exists():
            files.write(folder / "config.yaml", config)
        journal = (folder / "journal.log").resolve()
        backend = JournalFileBackend(str(journal), JournalLock(journal))
        direction = StudyDirection.MINIMIZE if plan.metric == histories.LOSS else StudyDirection.MAXIMIZE
        study = optuna.create_study(
            storage=JournalStorage(backend), study_name="sweep", direction=direction, load_if_exists=True
        )
    return Sweep(folder, plan, study)


def _check_same(told: Path, plan: Plan, dataset: Dataset | None) -> None:
    try:
        document = json.loads(told.read_text(encoding="utf-8"))
        config, data = document["config"], document["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{told}: is damaged ({error}): choose another --out") from None
    for key in sorted({*config, *plan.told}):
        if config.get(key) != plan.told.get(key):
            raise InputError(f"{told.parent}: holds a sweep with another '{key}': choose another --out")
    if dataset is not None and data["sha256"] != dataset.digest():
        raise InputError(f"{told.parent}: was started on other data ({data['name']}): choose another --out")


def check(plan: Plan, dataset: Dataset) -> None:
    """Refuse, before any training, data without the splits it needs, and choices that work with no other choice.

    Raises
    ------
    InputError
        With what is wrong.
    """
    for split in ("train", "val"):
        dataset.split(split)
    choices = [labels for labels, _ in plan.choices()] or [{}]
    for labels in choices:
        if (first := _error(labels, plan)) and all(_error({**others, **labels}, plan) for others in choices):
            raise InputError(f"{' '.join(labels.values())}: {first}".removeprefix(": "))


def work(
    sweep: Sweep,
    dataset: Dataset,
    trials: int,
    prune: bool = False,
    on_epoch: Callable[[int, Epoch], None] = lambda number, epoch: None,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Iterator[Trial]:
    """Train trial after trial, yielding each when it is finished, until there are as many as wanted.

    Any number of processes may do so at once. One that is stopped leaves its trial to the next that comes.

    Parameters
    ----------
    sweep : Sweep
    dataset : Dataset
    trials : int
        In all.
    prune : bool
        Stop a trial that is worse, at the same epoch, than the median of those before it.
    on_epoch : callable
        Called with (trial's number, epoch) as each ends.
    on_step : callable
        As in `train`.
    """
    while True:
        with ExitStack() as held:
            trial = _claim(sweep, trials, prune, held)
            if trial is None:
                return
            state, value = _train(sweep, dataset, trial, prune, on_epoch, on_step)
            sweep.study.tell(trial, value, state)
        yield sweep.trial(trial.number)


def _claim(sweep: Sweep, wanted: int, prune: bool, held: ExitStack) -> optuna.Trial | None:
    """A trial to work on, with all its parameters: a stopped one, else a new one; its lock goes into `held`."""
    study = sweep.study

    def suggest(name: str, item: Range | Choices) -> Any:
        if not isinstance(item, Range):
            return trial.suggest_categorical(name, list(item))
        if item.whole:
            step = None if item.step is None else int(item.step)
            return trial.suggest_int(name, int(item.low), int(item.high), step=step or 1, log=item.log)
        return trial.suggest_float(name, item.low, item.high, step=item.step, log=item.log)

    # Nobody else looks for a trial meanwhile
    with locked(sweep.folder / ".lock"):
        known = study.get_trials(deepcopy=False)
        taken = next((t for t in known if t.state is TrialState.RUNNING and _take(sweep, t.number, held)), None)
        queued = [t.number for t in known if t.state is TrialState.WAITING]
        number = taken.number if taken else min(queued, default=len(known))
        if number >= wanted and not (taken or queued):
            return None
        study.sampler = _sampler(sweep.plan, number)
        if prune:
            free = round(PRUNE_AFTER_SHARE * int(sweep.plan.base.get("epochs", TrainSettings.epochs)))
            study.pruner = optuna.pruners.MedianPruner(PRUNE_AFTER_TRIALS, free + 1)
        if taken:
            trial = optuna.Trial(study, taken._trial_id)
        else:
            if sweep.plan.method == "grid" and not queued:
                study.enqueue_trial(sweep.plan.points()[number])
            trial = study.ask()
            held.enter_context(locked(_lock_of(sweep, trial.number)))
        sweep.plan.walk(suggest)
        return trial


def _train(
    sweep: Sweep,
    dataset: Dataset,
    trial: optuna.Trial,
    prune: bool,
    on_epoch: Callable[[int, Epoch], None],
    on_step: Callable[[int, int], None],
) -> tuple[TrialState, float | None]:
    """Train a trial to its end: its state and value."""
    import tensorflow as tf
    import tf_keras as keras

    from cellseg_host.train import train

    path, metric = sweep.run_of(trial.number), sweep.plan.metric
    resume = (path / "run.json").is_file()
    if not resume:
        shutil.rmtree(path, ignore_errors=True)  # of a stop before the run began
    keras.backend.clear_session()  # lets go of the network before
    try:
        settings = sweep.plan.settings(lambda name, item: trial.params[name])
        with closing(train(dataset, path, settings, resume, on_step)) as epochs:  # type: ignore[type-var]
            for epoch in epochs:
                on_epoch(trial.number, epoch)
                trial.report(epoch.scores[metric], epoch.epoch)
                if prune and trial.should_prune():
                    return TrialState.PRUNED, None
        kept = histories.best(histories.read(path))
        if kept is None or not math.isfinite(kept.scores[metric]):
            raise InputError(f"its {metric} is no number")
    except (InputError, MemoryError, tf.errors.ResourceExhaustedError) as error:
        if _NO_ROOM in str(error):  # TensorFlow's, of a checkpoint: the next start goes on with this trial
            raise OutputError(f"{path}: cannot be written (no space is left): make room, then start again") from None
        text = error.message if isinstance(error, InputError) else "there is not enough memory for it"
        trial.set_user_attr("reason", text)
        # A search learns nothing from what Optuna calls failed, and would come back to it again and again
        return TrialState.PRUNED, None
    return TrialState.COMPLETE, kept.scores[metric]


def _sampler(plan: Plan, number: int) -> optuna.samplers.BaseSampler:
    """What chooses a trial's parameters: by the seed, its number and the results so far, whoever starts it."""
    seed = int(np.random.SeedSequence((plan.seed, number)).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed) if plan.method == "tpe" else optuna.samplers.RandomSampler(seed=seed)


def _take(sweep: Sweep, number: int, held: ExitStack) -> bool:
    """Lock a trial that was stopped; not one that another works on, or finishes at this moment."""
    free = held.enter_context(locked(_lock_of(sweep, number), wait=False))
    return free and sweep.study.get_trials(deepcopy=False)[number].state is TrialState.RUNNING


def _lock_of(sweep: Sweep, number: int) -> Path:
    return sweep.run_of(number).with_suffix(".lock")


def _error(labels: dict[str, str], plan: Plan) -> str:
    """What is wrong with these choices, the rest being the first there is."""
    from cellseg_host import plugins
    from cellseg_host.architectures import option_defaults
    from cellseg_host.train import check as check_settings

    def pick(name: str, item: Range | Choices) -> Any:
        return item.low if isinstance(item, Range) else labels.get(name, next(iter(item)))

    try:
        settings = plan.settings(pick)
        arch = plugins.find_architecture(settings.arch, settings.heads, settings.options)
        for option in settings.options:
            if option not in (known := list(option_defaults(arch.build))):
                raise InputError(f"{arch.name} has {unknown('option', option, known)}")
        check_settings(settings, arch)
    except InputError as error:
        return error.message
    return ""
