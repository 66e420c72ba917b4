"""Training: from a dataset and settings to a run's folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_device.stderr import say
from cellseg_device.suggestions import unknown
from cellseg_host import architectures
from cellseg_host.architectures import CLASSIFIERS, Architecture
from cellseg_host.data.dataset import Dataset, cells_in
from cellseg_host.data.whole_folder import check_new
from cellseg_host.plugins import functions
from cellseg_host.plugins.networks import find_architecture
from cellseg_host.training import (
    distillation,
    feed,
    initialise,
    kinds,
    loop,
    losses,
    low_rank,
    presence,
    runs,
    validate,
)
from cellseg_host.training import history as histories
from cellseg_host.training.history import Epoch
from cellseg_host.training.loop import Job
from cellseg_host.training.runs import Run
from cellseg_host.training.sampling import sampling_weights
from cellseg_host.training.settings import CLASSIFIER_MONITORS, HEADS, MONITORS, OR_RESUME, TrainSettings

# Batches from which a network that starts from a .tflite takes its batch statistics
_STATISTICS_BATCHES = 8
_LOW_RANK = "low_rank"  # an option of edge-unet


def train(
    dataset: Dataset,
    path: Path,
    settings: TrainSettings,
    *,
    resume: bool = False,
    on_step: Callable[[int, int], None] = lambda *_: None,
    on_start: Callable[[str], object] = say,
) -> Generator[Epoch]:
    """Train a network, yielding each epoch as it ends.

    Parameters
    ----------
    dataset : Dataset
        With images in the splits ``train`` and ``val``.
    path : Path
        The run's folder.
    settings : TrainSettings
    resume : bool
        Continue the run in `path`, with the settings it was started with; otherwise `path` must be empty.
    on_step : callable
        Called with (steps done, steps in an epoch).
    on_start : callable
        Called with a line that says which weights it starts from.

    Raises
    ------
    InputError
        If the settings do not work, the dataset lacks a split or has no cell (or, where kinds are learnt, a single
        kind), the loss is no longer finite, or the folder is not empty (or was made from other data).
    """
    if resume:
        run = runs.started(path, dataset)
        settings = run.settings
    else:
        check_new(path, OR_RESUME)
        settings = _with_options_of_init(settings)
    arch = find_architecture(settings.arch, settings.heads, settings.options)
    heads = tuple(settings.heads) or arch.heads
    check(settings, arch)
    feed.entries(dataset, "val", heads)
    if heads == (kinds.HEAD,):
        settings = kinds.with_classes(settings, dataset)
    elif not cells_in(dataset.labelled("train")):
        raise InputError(f"{dataset.root}: no training image has a cell: there is nothing to learn")
    keras.utils.set_random_seed(settings.seed)
    begun = loop.is_begun(path)  # and has the weights in its checkpoint
    with _computing_in(settings.precision):
        network = arch.network(heads, **settings.options) if begun else _network(arch, heads, settings)
    if not resume:
        # From here on, only the weights to start from may still be refused
        run = Run(path, runs.describe(settings, dataset) | _start_join(settings))
    job = prepare(run, network, dataset, settings, trained=bool(settings.init))
    if settings.init and not begun:
        on_start(_start(arch, network, heads, settings, lambda: _few(image for image, _, _ in job.batches(0))))
    initialise.freeze(network, settings.freeze)
    if not resume:
        runs.create(path, settings, run.info)
    yield from loop.fit(job, path, settings, on_step)


def prepare(run: Run, network: keras.Model, dataset: Dataset, settings: TrainSettings, *, trained: bool) -> Job:
    """Return what the training loop needs to train a network on a dataset.

    Parameters
    ----------
    run : Run
        Whose card says how images are normalised.
    network : keras.Model
        With the run's heads; for quantization-aware training not the run's own.
    dataset : Dataset
    settings : TrainSettings
    trained : bool
        Whether the network is trained already, as before fine-tuning.
    """
    heads, outputs, card = run.heads, run.outputs, run.card()
    job = partial(
        Job,
        network,
        monitor=monitor(settings, run.architecture),
        trained=trained,
        keep_last=settings.keep == "last",
    )
    if heads == (kinds.HEAD,):
        return job(
            batches=kinds.batches(dataset, card, settings),
            loss=partial(losses.total_loss, outputs),
            validate=kinds.Validation(network, dataset, card),
        )
    entries, val_entries = dataset.labelled("train"), dataset.labelled("val")
    teachers = distillation.load(settings.teachers, heads)
    samples = feed.load_samples(dataset, entries, card, heads, teachers)
    val_samples = feed.load_samples(dataset, val_entries, card, heads)
    chances = sampling_weights(entries, settings.shares)
    class_weights = feed.class_weights(samples, chances) if settings.class_weight == "frequency" else (1.0, 1.0)
    chosen = losses.get(settings.loss)

    def loss(predictions: Sequence[Any], targets: Any, border: Any) -> Any:
        return losses.total_loss(
            outputs,
            predictions,
            targets,
            border,
            chosen,
            class_weights=class_weights,
            border_weight=settings.border_weight,
        )

    def batches(epoch: int) -> Any:
        return feed.views(
            samples,
            chances,
            heads,
            settings.augmentation,
            side=settings.side,
            batch=settings.batch,
            count=settings.steps,
            seed=(settings.seed, epoch),
        )

    return job(batches=batches, loss=loss, validate=_validation(run, network, val_samples, loss, settings))


def monitor(settings: TrainSettings, arch: Architecture) -> str:
    """Return the name of the score by which the best network is chosen."""
    return settings.monitor or _monitors(arch)[0]


def _monitors(arch: Architecture) -> tuple[str, ...]:
    return CLASSIFIER_MONITORS[arch.heads[0]] if arch.is_classifier else MONITORS


def _validation(
    run: Run,
    network: keras.Model,
    samples: Sequence[Any],
    loss: Callable[..., Any],
    settings: TrainSettings,
) -> Callable[[], dict[str, float]]:
    arch, outputs = run.architecture, run.outputs
    if arch.is_classifier:
        return lambda: presence.validation(network, samples, settings.side)
    final = architectures.for_inference(network, [o.quantity for o in outputs])
    own = {_metric_name(spec): functions.metric(spec) for spec in settings.metrics}
    return validate.Maps(samples, final, outputs, arch.stride, loss=loss, own=own)


def _network(arch: Architecture, heads: Sequence[str], settings: TrainSettings) -> keras.Model:
    """Return the untrained network, its encoder with the user's pretrained weights, if any."""
    options = dict(settings.options)
    if settings.encoder_weights:
        if not architectures.takes_encoder_weights(arch, options):
            raise InputError(f"--encoder-weights: {arch.name} has no encoder that takes pretrained weights")
        options["encoder_weights"] = settings.encoder_weights
    if architectures.wants_encoder_weights(arch, options) and not settings.init:
        say(f"{arch.name}: its encoder starts from random weights; --encoder-weights FILE gives pretrained ones")
    return arch.network(heads, **options)


def _with_options_of_init(settings: TrainSettings) -> TrainSettings:
    """Return the settings with the options that the network has which is gone on with; given ones go first."""
    if not settings.init:
        return settings
    options = initialise.options_of(Path(settings.init), settings.arch)
    return dataclasses.replace(settings, options={**options, **settings.options})


def _start_join(settings: TrainSettings) -> dict[str, Any]:
    """Return what the run notes of the join of the model it goes on from, for where its images have few contacts."""
    join = initialise.join_of(Path(settings.init)) if settings.init else None
    return {} if join is None else {"start_join": dataclasses.asdict(join)}


def _start(
    arch: Architecture,
    network: keras.Model,
    heads: Sequence[str],
    settings: TrainSettings,
    images: Callable[[], Iterator[Any]],
) -> str:
    """Give the network the weights of ``settings.init``, factorised where only the network is of low rank."""
    source = Path(str(settings.init))
    if not settings.options.get(_LOW_RANK) or initialise.options_of(source, settings.arch).get(_LOW_RANK):
        return initialise.initialise(network, source, heads, images)
    plain = arch.network(heads, **{**settings.options, _LOW_RANK: False})
    line = initialise.initialise(plain, source, heads, images)
    low_rank.factorise(plain, network, images())
    return f"{line}, 3×3 convolutions factorised"


@contextmanager
def _computing_in(precision: str) -> Iterator[None]:
    """Make layers compute in this precision meanwhile; their weights are float32."""
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
        if head not in (*HEADS, *CLASSIFIER_MONITORS):
            raise InputError(f"--heads: there is {unknown('head', head, HEADS)}")
    if arch.is_classifier != (heads in CLASSIFIERS) or (arch.is_classifier and heads != arch.heads):
        wanted = arch.heads[0] if arch.is_classifier else "foreground and perhaps distance, centre or outline"
        raise InputError(f"--heads {','.join(heads)}: {arch.name} learns {wanted}")
    if not arch.is_classifier and "foreground" not in heads:
        raise InputError(f"--heads {','.join(heads)}: foreground must be among them")
    scores = _monitors(arch)
    own = [_metric_name(spec) for spec in settings.metrics]
    for name in own:
        if own.count(name) > 1 or name in (*scores, *histories.FIXED):
            raise InputError(f"--metric: '{name}' is the name of another score: rename your function")
    known = (*scores, *own)
    if settings.monitor and settings.monitor not in known:
        raise InputError(f"--monitor: there is {unknown('score', settings.monitor, known)}")
    if settings.keep == "last" and settings.schedule == "plateau":
        raise InputError(
            "--schedule plateau needs the best epochs, which --keep last does not look for: change one of them"
        )
    if arch.is_classifier and (flag := "--metric" if settings.metrics else "--teacher" if settings.teachers else ""):
        raise InputError(f"{flag} is for networks that predict maps, not for classifiers")
    losses.get(settings.loss)
    for spec in settings.metrics:
        functions.metric(spec)


def _metric_name(spec: str) -> str:
    return spec.rpartition(":")[2]


def _few(images: Iterator[Any]) -> Iterator[Any]:
    for _, image in zip(range(_STATISTICS_BATCHES), images, strict=False):
        yield image
