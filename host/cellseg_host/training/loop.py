"""The training loop: rounds of epochs, the best network kept, all of it resumable after a stop at any time.

Not Keras's `Model.fit`: its CSVLogger appends rows that a kill leaves half-written or twice, BackupAndRestore does not
restore what EarlyStopping and ReduceLROnPlateau count, and a resumed run would differ from one that never stopped. Here
all that decides (rate, patience, best) is computed from the history, which is written whole before each checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_host.architectures import as_list
from cellseg_host.training import averaging, runs, schedules
from cellseg_host.training import history as histories
from cellseg_host.training.history import Epoch
from cellseg_host.training.settings import TrainSettings

# Image, targets by head, border weight
Batch = tuple[Any, Mapping[str, Any], Any]
_CHECKPOINT = "checkpoint"
# Takes a step with a batch, at a learning rate, and returns the loss
Step = Callable[[Batch, float], float]


@dataclass(frozen=True)
class Job:
    """A network and all that is needed to train it.

    Attributes
    ----------
    network : keras.Model
        Its layers already frozen where they keep their weights.
    batches : callable
        Returns the batches of an epoch, given its number from 0; the same ones each time.
    loss : callable
        Returns a scalar, given (predictions, targets, border weight).
    validate : callable
        Returns the scores of the network as it is, by name.
    monitor : str
        The score that decides which network is kept.
    trained : bool
        The network is trained already: it is scored before the first step, and kept if training does not improve it.
    keep_last : bool
        Keep the network of the last epoch, whatever its scores.
    """

    network: keras.Model
    batches: Callable[[int], Iterable[Batch]]
    loss: Callable[[Sequence[Any], Mapping[str, Any], Any], Any]
    validate: Callable[[], dict[str, float]]
    monitor: str
    trained: bool = False
    keep_last: bool = False


def fit(
    job: Job,
    path: Path,
    settings: TrainSettings,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Epoch]:
    """Train a network, yielding each epoch as it ends; continues where the run in `path` stopped.

    Parameters
    ----------
    job : Job
    path : Path
        The run's folder; gets model.keras, history.csv, checkpoint/ and tensorboard/.
    settings : TrainSettings
    on_step : callable
        Called with (steps done, steps in an epoch).

    Raises
    ------
    InputError
        If the loss is no longer finite, or the monitored score is not defined.
    """
    network = job.network
    optimizer = keras.optimizers.Adam(settings.learning_rate)
    optimizer.build(network.trainable_variables)  # so that a checkpoint finds all that it restores
    average = averaging.Average(network) if settings.swa else None
    moving = averaging.MovingAverage(network, settings.moving_average) if settings.moving_average else None
    state = _checkpoint(network, optimizer, average=average, moving=moving)
    manager = tf.train.CheckpointManager(state, str(path / _CHECKPOINT), max_to_keep=1)
    if manager.latest_checkpoint:
        state.restore(manager.latest_checkpoint)
    history = histories.read(path)[: int(state.epoch)]
    step = _step(network, optimizer, job.loss, moving)

    with tf.summary.create_file_writer(str(path / "tensorboard")).as_default():

        def end(epoch: Epoch) -> Epoch:
            history.append(epoch)
            histories.write(path, history)
            for name, value in {"loss": epoch.loss, "learning_rate": epoch.learning_rate, **epoch.scores}.items():
                tf.summary.scalar(name, value, step=epoch.epoch)
            state.epoch.assign(len(history))
            manager.save()  # last, so that a stop before it repeats the epoch
            return epoch

        if job.trained and not history:
            epoch = _score(job, path, history, epoch=0, round_number=0, loss=math.nan, rate=0.0)
            yield end(dataclasses.replace(epoch, loss=epoch.scores[histories.LOSS]))
        first = max(history[-1].round, 1) if history else 1
        for number in range(first, settings.rounds + bool(settings.swa) + 1):
            past = [e for e in history if e.round == number]
            if number > 1 and not past:
                runs.load_weights(network, path / runs.NETWORK)
                for variable in optimizer.variables:
                    variable.assign(tf.zeros_like(variable))
                if moving:
                    moving.restart()
            while not _over(settings, number, past):
                epoch_number = len(history) + (not job.trained)
                progress = [e.best for e in past]
                rates = [schedules.rate(settings, number, progress, done) for done in range(settings.steps)]
                loss = _train_epoch(step, job.batches(epoch_number - 1), rates, on_step)
                if not math.isfinite(loss):
                    raise InputError(
                        f"the loss of epoch {epoch_number} is not finite: start again with a lower --learning-rate"
                    )
                scored: AbstractContextManager[None] = moving.applied() if moving else nullcontext()
                if average and number > settings.rounds:
                    average.add(len(past))
                    scored = average.applied(image for image, _, _ in job.batches(epoch_number - 1))
                with scored:
                    epoch = _score(
                        job, path, history, epoch=epoch_number, round_number=number, loss=loss, rate=rates[-1]
                    )
                past.append(epoch)
                yield end(epoch)


def is_begun(path: Path) -> bool:
    """Whether a run has a whole checkpoint to go on from: a kill may leave the folder for it, with none."""
    return tf.train.latest_checkpoint(str(path / _CHECKPOINT)) is not None


def _checkpoint(
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    **averages: averaging.Average | averaging.MovingAverage | None,
) -> tf.train.Checkpoint:
    """Return all that a run is resumed from."""
    kept = {name: mean.variables for name, mean in averages.items() if mean is not None}
    return tf.train.Checkpoint(network=network, optimizer=optimizer, epoch=tf.Variable(0), **kept)


def _over(settings: TrainSettings, number: int, past: Sequence[Epoch]) -> bool:
    """Return whether a round has had all its epochs, or no longer improves."""
    if number > settings.rounds:
        return len(past) >= settings.swa
    return len(past) >= settings.epochs or histories.since_best(past) >= settings.patience


def _score(
    job: Job, path: Path, history: Sequence[Epoch], *, epoch: int, round_number: int, loss: float, rate: float
) -> Epoch:
    """Score the network as it is, save it if it is the best so far, and return the epoch."""
    scores = job.validate()
    if not math.isfinite(scores[job.monitor]):
        raise InputError(
            f"{job.monitor} is not defined on the validation images: choose another --monitor, or, for a classifier, a "
            "smaller --side, so that some views show no cell"
        )
    so_far = histories.best(history)
    best = job.keep_last or histories.better(
        job.monitor, scores[job.monitor], so_far.scores[job.monitor] if so_far else None
    )
    if best:
        runs.save_weights(job.network, path / runs.NETWORK)
    return Epoch(epoch, round_number, loss, rate, best, scores)


def _train_epoch(
    step: Step, batches: Iterable[Batch], rates: Sequence[float], on_step: Callable[[int, int], None]
) -> float:
    """Take a step with each batch, at its learning rate, and return the mean loss."""
    total = 0.0
    for done, (batch, rate) in enumerate(zip(batches, rates, strict=True), 1):
        total += step(batch, rate)
        on_step(done, len(rates))
    return total / len(rates)


def _step(
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: Callable[..., Any],
    moving: averaging.MovingAverage | None,
) -> Step:
    def update(image: Any, targets: Any, border: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(as_list(network(image, training=True)), targets, border)
        gradients = tape.gradient(value, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        if moving:
            moving.add()
        return value

    compiled = tf.function(update)

    def step(batch: Batch, rate: float) -> float:
        optimizer.learning_rate.assign(rate)
        return float(compiled(*batch))

    return step
