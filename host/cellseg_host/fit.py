"""The training loop: rounds of epochs, the best network kept, all of it resumable after a stop at any time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_host import averaging, runs, schedules
from cellseg_host import history as histories
from cellseg_host.architectures import as_list
from cellseg_host.history import Epoch
from cellseg_host.settings import TrainSettings

# Image, targets by head, nearness of a second nucleus
Batch = tuple[Any, Mapping[str, Any], Any]


@dataclass(frozen=True)
class Job:
    """What is trained, and on what.

    Attributes
    ----------
    network : keras.Model
        With its layers frozen as they shall be.
    batches : callable
        The batches of the epoch of this number, the same ones whenever it is asked.
    loss : callable
        Of (predictions, targets, gap), a scalar.
    validate : callable
        Scores of the network as it is, by name.
    monitor : str
        The score that decides which network is kept.
    trained : bool
        The network has learnt already: it is scored before the first step, and kept where training does not help.
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
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Iterator[Epoch]:
    """Train a network, yielding each epoch as it ends; goes on where the run in `path` stopped.

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
        If the loss runs away.
    """
    network = job.network
    optimizer = keras.optimizers.Adam(settings.learning_rate)
    optimizer.build(network.trainable_variables)  # so that a checkpoint finds all that it restores
    average = averaging.Average(network) if settings.swa else None
    state = tf.train.Checkpoint(network=network, optimizer=optimizer, epoch=tf.Variable(0))
    if average:
        state.average = average.variables
    manager = tf.train.CheckpointManager(state, str(path / "checkpoint"), max_to_keep=1)
    if manager.latest_checkpoint:
        state.restore(manager.latest_checkpoint)
    history = histories.read(path)[: int(state.epoch)]
    step = _step(network, optimizer, job.loss)

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
            epoch = _judge(job, path, history, 0, 0, math.nan, 0.0)
            yield end(dataclasses.replace(epoch, loss=epoch.scores[histories.LOSS]))
        first = max(history[-1].round, 1) if history else 1
        for number in range(first, settings.rounds + bool(settings.swa) + 1):
            past = [e for e in history if e.round == number]
            if number > 1 and not past:
                runs.load_weights(network, path / runs.NETWORK)
                for variable in optimizer.variables:
                    variable.assign(tf.zeros_like(variable))
            while not _over(settings, number, past):
                progress = [e.best for e in past]
                epoch_number = len(history) + (not job.trained)
                total = 0.0
                for done, (image, targets, gap) in enumerate(job.batches(epoch_number - 1)):
                    rate = schedules.rate(settings, number, progress, done)
                    optimizer.learning_rate.assign(rate)
                    total += float(step(image, targets, gap))
                    on_step(done + 1, settings.steps)
                if not math.isfinite(total):
                    raise InputError(
                        f"the loss of epoch {epoch_number} is not finite: start again with a lower --learning-rate"
                    )
                if average and number > settings.rounds:
                    average.add(len(past))
                    with average.applied(image for image, _, _ in job.batches(epoch_number - 1)):
                        epoch = _judge(job, path, history, epoch_number, number, total / settings.steps, rate)
                else:
                    epoch = _judge(job, path, history, epoch_number, number, total / settings.steps, rate)
                past.append(epoch)
                yield end(epoch)


def _over(settings: TrainSettings, number: int, past: Sequence[Epoch]) -> bool:
    """Whether a round has had all its epochs, or goes on without progress."""
    if number > settings.rounds:
        return len(past) >= settings.swa
    return len(past) >= settings.epochs or histories.since_best(past) >= settings.patience


def _judge(job: Job, path: Path, history: Sequence[Epoch], epoch: int, number: int, loss: float, rate: float) -> Epoch:
    """Score the network as it is, and keep it if it is the best so far."""
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
    return Epoch(epoch, number, loss, rate, best, scores)


def _step(network: keras.Model, optimizer: keras.optimizers.Optimizer, loss: Callable[..., Any]) -> Callable[..., Any]:
    @tf.function
    def step(image: Any, targets: Any, gap: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(as_list(network(image, training=True)), targets, gap)
        gradients = tape.gradient(value, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return value

    return step
