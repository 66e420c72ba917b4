"""The trials of a sweep: each is a training run in its own folder, and any number of processes share the work.

::

    SWEEP/sweep.json     what is searched, on which data; another configuration is refused
    SWEEP/sweep.toml     the file it was started with; its search function's file in SWEEP/plugins
    SWEEP/journal.log    Optuna's record of all trials
    SWEEP/trials/0007/   the run of trial 7, as `train` makes it

A process that works on a trial holds the lock on the file beside its folder, which the system releases when the
process ends, however it ends. So a trial that is neither finished nor locked was stopped: the next process continues
it, from the run's own checkpoint.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from cellseg_device.errors import InputError, OutputError
from cellseg_device.suggestions import unknown
from cellseg_device.system import files
from cellseg_host import __version__
from cellseg_host.data.dataset import Dataset
from cellseg_host.sweep import explore
from cellseg_host.sweep.locks import JournalLock, locked
from cellseg_host.sweep.plan import Plan
from cellseg_host.training import history as histories
from cellseg_host.training.history import Epoch

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
# No trial is pruned before so many others are complete, nor in this first share of its epochs
PRUNE_AFTER_TRIALS, PRUNE_AFTER_SHARE = 5, 0.2
_NO_ROOM = os.strerror(errno.ENOSPC)


@dataclass(frozen=True)
class Trial:
    """One trial as it is now.

    Attributes
    ----------
    number : int
    state : str
        ``"complete"``, ``"pruned"``, ``"failed"``, or ``"running"`` (or stopped, until a process continues it).
    value : float or None
        The metric of the network that its run keeps; if pruned, of its last epoch.
    epochs : int
    parameters : dict
        Chosen for it, by name.
    reason : str
        Why it failed, or empty.
    run : str
        Folder of its run, relative to the sweep's.
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
        """Return all trials so far, by number."""
        return [self._trial(t) for t in self.study.get_trials(deepcopy=False)]

    def trial(self, number: int) -> Trial:
        """Return the trial with this number."""
        return self._trial(self.study.get_trials(deepcopy=False)[number])

    def best(self) -> Trial | None:
        """Return the complete trial with the best metric, of equals the first."""
        complete = [t for t in self.trials() if t.state == "complete" and t.value is not None]
        sign = 1 if self.minimizes else -1
        return min(complete, key=lambda t: (sign * (t.value or 0.0), t.number), default=None)

    def run_of(self, number: int) -> Path:
        """Return the folder of a trial's run."""
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


def open_sweep(folder: Path, plan: Plan, dataset: Dataset | None) -> Sweep:
    """Start a sweep in an empty folder, or open the one in it.

    Parameters
    ----------
    folder : Path
    plan : Plan
    dataset : Dataset or None
        None to look at a sweep that exists.

    Raises
    ------
    InputError
        If the folder holds something else, or a sweep with another configuration or other data.
    """
    record = folder / "sweep.json"
    # Listed before the check: sweep.json is the first file of a sweep that another process may just be starting
    found = [p for p in folder.iterdir() if not p.name.startswith(".")] if folder.exists() else []
    if found and not record.exists():
        raise InputError(f"{folder}: is not empty and holds no sweep: choose another --out")
    if dataset is None and not record.exists():
        raise InputError(f"{folder}: holds no sweep to report: start one with --data")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock"):
        if record.exists():
            _check_same(record, plan, dataset)
        elif dataset is not None:
            data = {"name": dataset.root.resolve().name, "sha256": dataset.digest()}
            document = {"config": plan.identity, "data": data, "code": {"cellseg_host": __version__}}
            files.write(record, json.dumps(document, indent=2, ensure_ascii=False).encode())
        (folder / "trials").mkdir(exist_ok=True)
        for name, content in plan.files.items():
            copy = folder / name
            if not copy.exists():
                copy.parent.mkdir(exist_ok=True)
                files.write(copy, content)
        journal = (folder / "journal.log").resolve()
        lock: Any = JournalLock(journal)  # Optuna's base class of locks is private
        backend = JournalFileBackend(str(journal), lock)
        direction = StudyDirection.MINIMIZE if plan.metric == histories.LOSS else StudyDirection.MAXIMIZE
        study = optuna.create_study(
            storage=JournalStorage(backend), study_name="sweep", direction=direction, load_if_exists=True
        )
    return Sweep(folder, plan, study)


def _check_same(record: Path, plan: Plan, dataset: Dataset | None) -> None:
    try:
        document = json.loads(record.read_text(encoding="utf-8"))
        config, data = document["config"], document["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{record}: is damaged ({error}): choose another --out") from None
    for key in sorted({*config, *plan.identity}):
        if config.get(key) != plan.identity.get(key):
            raise InputError(f"{record.parent}: holds a sweep with another '{key}': choose another --out")
    if dataset is not None and data["sha256"] != dataset.digest():
        raise InputError(f"{record.parent}: was started on other data ({data['name']}): choose another --out")


def check(plan: Plan, dataset: Dataset) -> None:
    """Raise, before any training, for data without the needed splits and for choices that work in no combination.

    Raises
    ------
    InputError
        With what is wrong.
    """
    for split in ("train", "val"):
        dataset.labelled(split)
    choices = explore.choices(plan.search) or [{}]
    for chosen in choices:
        if (first := _error(chosen, plan)) and all(_error({**others, **chosen}, plan) for others in choices):
            raise InputError(f"{' '.join(map(str, chosen.values()))}: {first}".removeprefix(": "))


def work(
    sweep: Sweep,
    dataset: Dataset,
    trials: int,
    *,
    prune: bool = False,
    on_epoch: Callable[[int, Epoch], None] = lambda *_: None,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Trial]:
    """Train trial after trial, yielding each when it is finished, until there are as many as wanted.

    Any number of processes may do so at once. If one is stopped, the next continues its trial.

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
            trial = _claim(sweep, trials, held)
            if trial is None:
                return
            state, value = _train(sweep, dataset, trial, prune=prune, on_epoch=on_epoch, on_step=on_step)
            sweep.study.tell(trial, value, state)
        yield sweep.trial(trial.number)


def _claim(sweep: Sweep, wanted: int, held: ExitStack) -> optuna.Trial | None:
    """Return a trial to work on, with all its parameters: a stopped one, else a new one. Its lock goes into `held`."""
    study = sweep.study
    # No other process looks for a trial meanwhile
    with locked(sweep.folder / ".lock"):
        known = study.get_trials(deepcopy=False)
        taken = next((t for t in known if t.state is TrialState.RUNNING and _take(sweep, t.number, held)), None)
        number = taken.number if taken else len(known)
        if number >= wanted and not taken:
            return None
        study.sampler = _sampler(sweep.plan, number)
        if taken:
            trial = optuna.Trial(study, taken._trial_id)  # noqa: SLF001 - Optuna has no public way to go on with a trial
        else:
            trial = study.ask()
            held.enter_context(locked(_lock_of(sweep, trial.number)))
        with suppress(InputError):  # a search that fails is recorded as this trial's failure when it is trained
            sweep.plan.search(trial)
        return trial


def _train(
    sweep: Sweep,
    dataset: Dataset,
    trial: optuna.Trial,
    *,
    prune: bool,
    on_epoch: Callable[[int, Epoch], None],
    on_step: Callable[[int, int], None],
) -> tuple[TrialState, float | None]:
    """Train a trial to its end, and return its state and value."""
    import tensorflow as tf
    import tf_keras as keras

    from cellseg_host.training.train import train

    path, metric = sweep.run_of(trial.number), sweep.plan.metric
    resume = (path / "run.json").is_file()
    if not resume:
        shutil.rmtree(path, ignore_errors=True)  # left by a stop before the run began
    keras.backend.clear_session()  # frees the network of the trial before
    try:
        settings = sweep.plan.settings_of(trial)
        if prune:
            sweep.study.pruner = _pruner(settings.epochs)
        with closing(train(dataset, path, settings, resume=resume, on_step=on_step)) as epochs:
            for epoch in epochs:
                on_epoch(trial.number, epoch)
                trial.report(epoch.scores[metric], epoch.epoch)
                if prune and trial.should_prune():
                    return TrialState.PRUNED, None
        kept = histories.best(histories.read(path))
        if kept is None or not math.isfinite(kept.scores[metric]):
            raise InputError(f"its {metric} is not a number")
    except (InputError, MemoryError, tf.errors.ResourceExhaustedError) as error:
        if _NO_ROOM in str(error):  # TensorFlow's, of a checkpoint: the next start continues this trial
            raise OutputError(f"{path}: cannot be written (no space is left): make room, then start again") from None
        text = error.message if isinstance(error, InputError) else "there is not enough memory for it"
        trial.set_user_attr("reason", text)
        # Not FAIL: from failed trials Optuna learns nothing, and would try their parameters again and again
        return TrialState.PRUNED, None
    return TrialState.COMPLETE, kept.scores[metric]


def _sampler(plan: Plan, number: int) -> optuna.samplers.BaseSampler:
    """Return what chooses a trial's parameters: from the seed, its number and the results so far, in any process."""
    seed = int(np.random.SeedSequence((plan.seed, number)).generate_state(1)[0])
    if plan.method == "grid":
        return explore.Chosen(lambda name, _: plan.points[number][name])
    return optuna.samplers.TPESampler(seed=seed) if plan.method == "tpe" else optuna.samplers.RandomSampler(seed=seed)


def _pruner(epochs: int) -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(PRUNE_AFTER_TRIALS, round(PRUNE_AFTER_SHARE * epochs) + 1)


def _take(sweep: Sweep, number: int, held: ExitStack) -> bool:
    """Lock a stopped trial and return True; False if another process works on it, or has just finished it."""
    free = held.enter_context(locked(_lock_of(sweep, number), wait=False))
    return free and sweep.study.get_trials(deepcopy=False)[number].state is TrialState.RUNNING


def _lock_of(sweep: Sweep, number: int) -> Path:
    return sweep.run_of(number).with_suffix(".lock")


def _error(chosen: explore.Parameters, plan: Plan) -> str:
    """Return what is wrong with a trial of these parameters, the rest being the first there is, or nothing."""
    from cellseg_host.architectures import option_defaults
    from cellseg_host.plugins.networks import find_architecture
    from cellseg_host.training.train import check as check_settings

    try:
        settings = plan.settings_of(explore.first_trial(chosen))
        arch = find_architecture(settings.arch, settings.heads, settings.options)
        for option in settings.options:
            if option not in (known := list(option_defaults(arch.build))):
                raise InputError(f"{arch.name} has {unknown('option', option, known)}")
        check_settings(settings, arch)
    except InputError as error:
        return error.message
    return ""
