"""Training: a run is a folder that can be stopped at any time and resumed.

::

    RUN/run.json         settings, data, code version; written first
    RUN/model.keras      the best network so far, by the validation score
    RUN/history.csv      one row per epoch; history.png the same as a plot
    RUN/checkpoint/      everything to resume: weights, optimizer, epoch
    RUN/tensorboard/     the same curves for TensorBoard
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from cellseg_device import files
from cellseg_device.card import Card, Separation
from cellseg_device.errors import InputError
from cellseg_device.segment import label
from cellseg_host import __version__, architectures, augment, feed, keras_road, losses, metrics
from cellseg_host import history as histories
from cellseg_host.augment import Augmentation
from cellseg_host.data.dataset import Dataset, Entry
from cellseg_host.history import Epoch

# Percentiles of the image's histogram that become the ends of the input range
LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.9


@dataclass(frozen=True)
class TrainSettings:
    """What a run is made with.

    Attributes
    ----------
    arch : str
    epochs : int
        At most; an epoch is `steps` batches of random views.
    steps, batch, side : int
        Batches in an epoch, views in a batch, side of a view in pixels.
    learning_rate : float
        Peak of the schedule: linear warm-up over the first epoch, then a cosine down to 1 % of it.
    patience : int
        Epochs without a better validation score after which the run stops.
    seed : int
    augmentation : Augmentation
    """

    arch: str = "edge-unet"
    epochs: int = 100
    steps: int = 100
    batch: int = 16
    side: int = 256
    learning_rate: float = 2e-3
    patience: int = 30
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Run:
    """A run folder that can be quantized."""

    path: Path
    info: dict[str, Any]

    @property
    def architecture(self) -> architectures.Architecture:
        """The run's architecture."""
        return architectures.get(self.info["settings"]["arch"])

    @property
    def network(self) -> keras.Model:
        """The best network of the run.

        Raises
        ------
        InputError
            If its file is damaged.
        """
        try:
            return keras.models.load_model(self.path / "model.keras", compile=False)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.path / 'model.keras'}: cannot be loaded ({str(error).splitlines()[0]})") from None

    def card(self, separation: Separation | None = None) -> Card:
        """The card of the run's float network, without metrics."""
        arch = self.architecture
        return Card(
            name=self.info["settings"]["arch"],
            quantization="float32",
            outputs=arch.outputs,
            stride=arch.stride,
            margin=arch.margin,
            low_percentile=LOW_PERCENTILE,
            high_percentile=HIGH_PERCENTILE,
            cell_diameter_px=self.info["data"]["median_diameter_px"],
            separation=separation or Separation(),
            provenance={k: self.info[k] for k in ("settings", "data", "code")},
        )


def open_run(path: Path) -> Run:
    """Open a run folder, or the folder of a model file inside one.

    Raises
    ------
    InputError
        If it holds no trained network.
    """
    folder = path.parent if path.name == "model.keras" else path
    for name in ("run.json", "model.keras"):
        if not (folder / name).is_file():
            raise InputError(f"{path}: is no finished training run (no {name}): make one with 'cellseg-host train'")
    return Run(folder, _read_info(folder))


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
        if not {"settings", "data", "code"} <= info.keys():
            raise ValueError("it lacks settings, data or code")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path / 'run.json'}: is damaged ({error}): train again into another folder") from None
    return info


def settings_of(path: Path) -> TrainSettings:
    """The settings that the run in `path` was started with.

    Raises
    ------
    InputError
        If there is no run.
    """
    if not (path / "run.json").is_file():
        raise InputError(f"{path}: holds no run to resume: leave --resume out to start one")
    told = _read_info(path)["settings"]
    ranges: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.pop("augmentation").items()}
    return TrainSettings(**told, augmentation=Augmentation(**ranges))


def train(
    dataset: Dataset,
    path: Path,
    settings: TrainSettings,
    resume: bool = False,
    on_step: Callable[[int, int], None] = lambda step, steps: None,
) -> Iterator[Epoch]:
    """Train a network, yielding each epoch as it ends.

    Parameters
    ----------
    dataset : Dataset
        With images in the splits ``train`` and ``val``.
    path : Path
        The run's folder.
    settings : TrainSettings
    resume : bool
        Go on with the run in `path` (`settings` are then its own, by `settings_of`); else `path` must be empty.
    on_step : callable
        Called with (steps done, steps in an epoch).

    Raises
    ------
    InputError
        If the dataset lacks a split or any cell, the loss runs away, or the folder is not empty (or was made from
        other data).
    """
    arch = architectures.get(settings.arch)
    if settings.side % arch.stride:
        raise InputError(f"--side {settings.side} is not a multiple of {arch.stride}, the stride of {settings.arch}")
    entries, val_entries = dataset.split("train"), dataset.split("val")
    if not sum(e.cells for e in entries):
        raise InputError(f"{dataset.root}: no training image has a cell: there is nothing to learn")
    info = _open_folder(dataset, entries, path, settings, resume)

    keras.utils.set_random_seed(settings.seed)
    network = arch.build()
    card = Run(path, info).card()
    optimizer = keras.optimizers.Adam(_Schedule(settings))
    optimizer.build(network.trainable_variables)  # so that a checkpoint finds all that it restores
    checkpoint = tf.train.Checkpoint(network=network, optimizer=optimizer, epoch=tf.Variable(0))
    manager = tf.train.CheckpointManager(checkpoint, str(path / "checkpoint"), max_to_keep=1)
    if resume and manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint)
    history = histories.read(path)[: int(checkpoint.epoch)]

    samples = feed.load_samples(dataset, entries, card)
    validate = _Validation(dataset, val_entries, card, network, arch)
    weights = feed.sampling_weights(entries)
    step = _train_step(network, optimizer, arch)
    best = max((e.val_mean_ap for e in history), default=-1.0)
    since_best = next((n for n, e in enumerate(reversed(history)) if e.best), 0)
    with tf.summary.create_file_writer(str(path / "tensorboard")).as_default():
        for number in range(len(history), settings.epochs):
            if since_best >= settings.patience:
                break
            views = feed.views(
                samples,
                weights,
                settings.augmentation,
                settings.side,
                settings.batch,
                settings.steps,
                (settings.seed, number),
            )
            total = 0.0
            for done, batch in enumerate(views, 1):
                total += float(step(*batch))
                on_step(done, settings.steps)
            if not math.isfinite(total):
                raise InputError(
                    f"the loss of epoch {number + 1} is not finite: start again with a lower --learning-rate"
                )
            val_loss, ap50, mean_ap, mean_iou = validate()
            since_best = 0 if mean_ap > best else since_best + 1
            if mean_ap > best:
                best = mean_ap
                _save_network(network, path)
            rate = float(optimizer.learning_rate)
            epoch = Epoch(number + 1, total / settings.steps, rate, val_loss, ap50, mean_ap, mean_iou, since_best == 0)
            history.append(epoch)
            histories.write(path, history)
            for name, value in dataclasses.asdict(epoch).items():
                tf.summary.scalar(name, float(value), step=epoch.epoch)
            checkpoint.epoch.assign(number + 1)
            manager.save()  # last, so that a stop before it repeats the epoch
            yield epoch


class _Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up over one epoch, then a cosine to 1 % at the last step."""

    def __init__(self, settings: TrainSettings) -> None:
        self.peak = settings.learning_rate
        self.warm = float(settings.steps)
        self.total = float(settings.steps * settings.epochs)

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step, tf.float32)
        progress = tf.clip_by_value((step - self.warm) / max(self.total - self.warm, 1.0), 0.0, 1.0)
        cosine = 0.01 + 0.99 * 0.5 * (1 + tf.cos(math.pi * progress))
        return self.peak * tf.minimum((step + 1) / self.warm, cosine)


class _Validation:
    """Loss and accuracy on whole validation images, on the device's own road from maps to labels."""

    def __init__(
        self,
        dataset: Dataset,
        entries: Sequence[Entry],
        card: Card,
        network: keras.Model,
        arch: architectures.Architecture,
    ) -> None:
        self.network, self.arch, self.separation = network, arch, card.separation
        self.samples = feed.load_samples(dataset, entries, card)
        self.specs = keras_road.specs(network, arch.outputs)
        side = 256
        self.batches = list(
            feed.views(self.samples, np.full(len(entries), 1 / len(entries)), augment.NONE, side, 16, 4, (0, 0))
        )
        self._loss = tf.function(self._batch_loss)

    def _batch_loss(self, image: Any, *targets: Any) -> Any:
        return losses.total_loss(
            self.arch.outputs, architectures.as_list(self.network(image, training=False)), *targets
        )

    def __call__(self) -> tuple[float, float, float, float]:
        loss = float(np.mean([self._loss(*batch) for batch in self.batches]))
        scores = []
        for sample in self.samples:
            maps = keras_road.predict(self.network, self.arch.outputs, self.arch.stride, sample.levels)
            labels = label(maps, sample.labels.shape, self.specs, self.separation)
            precision = metrics.average_precision(sample.labels, labels)
            scores.append((precision[0], precision.mean(), metrics.two_class_iou(sample.labels > 0, labels > 0)))
        ap50, mean_ap, mean_iou = np.mean(scores, axis=0)
        return loss, float(ap50), float(mean_ap), float(mean_iou)


def _train_step(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, arch: architectures.Architecture
) -> Callable[..., Any]:
    @tf.function
    def step(image: Any, foreground: Any, distance: Any, gap: Any) -> Any:
        with tf.GradientTape() as tape:
            predictions = architectures.as_list(network(image, training=True))
            loss = losses.total_loss(arch.outputs, predictions, foreground, distance, gap)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply_gradients(zip(gradients, network.trainable_variables, strict=True))
        return loss

    return step


def _open_folder(
    dataset: Dataset, entries: Sequence[Entry], path: Path, settings: TrainSettings, resume: bool
) -> dict[str, Any]:
    """Check the run's folder and write run.json for a new run."""
    file = path / "run.json"
    if resume:
        info = _read_info(path)
        if info["data"]["sha256"] != dataset.digest():
            raise InputError(f"{path}: was started on other data ({info['data']['name']}): resume with that")
        return info
    if path.exists() and any(path.iterdir()):
        raise InputError(f"{path}: is not empty: choose another --out, or --resume the run in it")
    path.mkdir(parents=True, exist_ok=True)
    info = {
        "settings": dataclasses.asdict(settings),
        "data": {
            "name": dataset.root.resolve().name,
            "sha256": dataset.digest(),
            "train_images": len(entries),
            "train_cells": sum(e.cells for e in entries),
            "median_diameter_px": round(float(np.median([e.median_diameter_px for e in entries if e.cells])), 1),
        },
        "code": {
            "cellseg_host": __version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
    }
    files.write(file, json.dumps(info, indent=2).encode())
    return info


def _save_network(network: keras.Model, path: Path) -> None:
    network.save(path / "saving.keras")  # renamed when whole: a stop while saving keeps the older best
    (path / "saving.keras").replace(path / "model.keras")
