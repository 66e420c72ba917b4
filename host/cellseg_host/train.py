"""Training: from a dataset and settings to a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tf_keras as keras

from cellseg_device.card import Output
from cellseg_device.errors import InputError
from cellseg_device.quiet import say
from cellseg_host import architectures, feed, fit, initialise, losses, plugins, presence, runs, teachers, validate
from cellseg_host import history as histories
from cellseg_host.architectures import Architecture
from cellseg_host.data.dataset import Dataset
from cellseg_host.fit import Job
from cellseg_host.history import Epoch
from cellseg_host.nearest import unknown
from cellseg_host.runs import Run
from cellseg_host.settings import HEADS, MONITORS, PRESENCE_MONITORS, TrainSettings

# Batches from which a network that starts from a .tflite takes its batch statistics
_STATISTICS_BATCHES = 8


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
        Go on with the run in `path`, by the settings it was started with; else `path` must be empty.
    on_step : callable
        Called with (steps done, steps in an epoch).

    Raises
    ------
    InputError
        If the settings do not work, the dataset lacks a split or any cell, the loss runs away, or the folder is not
        empty (or was made from other data).
    """
    if resume:
        run = runs.started(path, dataset)
        settings = run.settings
    else:
        runs.check_new(path)
    arch = plugins.find_architecture(settings.arch, settings.heads, settings.options)
    heads = tuple(settings.heads) or arch.heads
    check(settings, arch)
    if not sum(e.cells for e in dataset.split("train")):
        raise InputError(f"{dataset.root}: no training image has a cell: there is nothing to learn")
    dataset.split("val")
    keras.utils.set_random_seed(settings.seed)
    begun = (path / "checkpoint").exists()  # then its weights come from there
    with _computing_in(settings.precision):
        network = arch.network(heads, **settings.options) if begun else _network(arch, heads, settings)
    if not resume:
        # All that may be refused has been, but for what the weights to start from are
        run = Run(path, runs.describe(settings, dataset))
    job = prepare(run, network, dataset, settings, trained=bool(settings.init))
    if settings.init and not begun:
        images = (image for image, _, _ in job.batches(0))
        say(initialise.initialise(network, Path(settings.init), heads, lambda: _few(images)))
    initialise.freeze(network, settings.freeze)
    if not resume:
        runs.create(path, settings, run.info)
    yield from fit.fit(job, path, settings, on_step)


def prepare(run: Run, network: keras.Model, dataset: Dataset, settings: TrainSettings, trained: bool) -> Job:
    """All that the training loop needs to train a network on a dataset.

    Parameters
    ----------
    run : Run
        Whose card says how images are normalised.
    network : keras.Model
        With the run's heads; for quantization-aware training another one than the run's own.
    dataset : Dataset
    settings : TrainSettings
    trained : bool
        Whether the network has learnt already, as one has that is fine-tuned.
    """
    arch, heads, outputs = run.architecture, run.heads, run.outputs
    card = run.card()
    entries, val_entries = dataset.split("train"), dataset.split("val")
    taught_by = teachers.load(settings.teachers, heads)
    samples = feed.load_samples(dataset, entries, card, heads, taught_by)
    val_samples = feed.load_samples(dataset, val_entries, card, heads)
    chances = feed.sampling_weights(entries)
    class_weights = feed.class_weights(samples, chances) if settings.class_weight == "frequency" else (1.0, 1.0)
    chosen = losses.get(settings.loss)

    def loss(predictions: Sequence[Any], targets: Any, gap: Any) -> Any:
        return losses.total_loss(outputs, predictions, targets, gap, chosen, class_weights, settings.gap_weight)

    def batches(epoch: int) -> Any:
        return feed.views(
            samples,
            chances,
            heads,
            settings.augmentation,
            settings.side,
            settings.batch,
            settings.steps,
            (settings.seed, epoch),
        )

    return Job(
        network,
        batches,
        loss,
        _validation(arch, network, outputs, val_samples, loss, settings),
        monitor(settings, arch),
        trained,
        settings.keep == "last",
    )


def monitor(settings: TrainSettings, arch: Architecture) -> str:
    """The score by which the best network is chosen."""
    return settings.monitor or (PRESENCE_MONITORS if arch.is_classifier else MONITORS)[0]


def _validation(
    arch: Architecture,
    network: keras.Model,
    outputs: Sequence[Output],
    samples: Sequence[Any],
    loss: Callable[..., Any],
    settings: TrainSettings,
) -> Callable[[], dict[str, float]]:
    if arch.is_classifier:
        return lambda: presence.validation(network, samples, settings.side)
    final = architectures.for_inference(network, [o.quantity for o in outputs])
    own = {_metric_name(spec): plugins.metric(spec) for spec in settings.metrics}
    return validate.Maps(samples, final, outputs, arch.stride, loss, own)


def _network(arch: Architecture, heads: Sequence[str], settings: TrainSettings) -> keras.Model:
    """The untrained network, its encoder with the user's pretrained weights where there are any."""
    options = dict(settings.options)
    if settings.encoder_weights:
        if not architectures.takes_encoder_weights(arch, options):
            raise InputError(f"--encoder-weights: {arch.name} has no encoder that takes pretrained weights")
        options["encoder_weights"] = settings.encoder_weights
    if architectures.wants_encoder_weights(arch, options) and not settings.init:
        say(f"{arch.name}: its encoder starts from random weights; --encoder-weights FILE gives pretrained ones")
    return arch.network(heads, **options)


@contextmanager
def _computing_in(precision: str) -> Iterator[None]:
    """Layers that are made meanwhile compute in this precision; their weights are float32."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def check(settings: TrainSettings, arch: Architecture) -> None:
    """Raise an InputError for settings that cannot work together."""
    heads = tuple(settings.heads) or arch.heads
    if settings.side % arch.stride:
        raise InputError(f"--side {settings.side} is not a multiple of {arch.stride}, the stride of {arch.name}")
    for head in heads:
        if head not in (*HEADS, "presence"):
            raise InputError(f"--heads: there is {unknown('head', head, HEADS)}")
    if arch.is_classifier != (tuple(heads) == ("presence",)):
        wanted = "presence" if arch.is_classifier else "foreground and perhaps distance, centre or outline"
        raise InputError(f"--heads {','.join(heads)}: {arch.name} learns {wanted}")
    if not arch.is_classifier and "foreground" not in heads:
        raise InputError(f"--heads {','.join(heads)}: foreground must be among them")
    scores = PRESENCE_MONITORS if arch.is_classifier else MONITORS
    own = [_metric_name(spec) for spec in settings.metrics]
    for name in own:
        if own.count(name) > 1 or name in (*scores, *histories.FIXED):
            raise InputError(f"--metric: '{name}' is the name of another score: give your function another one")
    known = (*scores, *own)
    if settings.monitor and settings.monitor not in known:
        raise InputError(f"--monitor: there is {unknown('score', settings.monitor, known)}")
    if settings.keep == "last" and settings.schedule == "plateau":
        raise InputError("--schedule plateau goes by the best epochs, --keep last by none: choose another of them")
    if settings.metrics and arch.is_classifier:
        raise InputError("--metric: is for networks that draw maps, not for classifiers")
    losses.get(settings.loss)
    for spec in settings.metrics:
        plugins.metric(spec)


def _metric_name(spec: str) -> str:
    return spec.rpartition(":")[2]


def _few(images: Iterator[Any]) -> Iterator[Any]:
    for _, image in zip(range(_STATISTICS_BATCHES), images, strict=False):
        yield image
