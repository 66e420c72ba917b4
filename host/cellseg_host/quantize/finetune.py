"""Fine-tuning a run's best network for int8, in a folder of the run, so that it too can be stopped and continued.

::

    RUN/qat/qat.json       its settings, what it started from, and the ranges of activations; written first
    RUN/qat/model.keras    the weights of the best network so far; with it, the other files of a run
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tf_keras as keras

from cellseg_device.errors import InputError
from cellseg_device.system import files
from cellseg_host.architectures import for_inference
from cellseg_host.data.dataset import Dataset
from cellseg_host.quantize import calibrate, qat
from cellseg_host.quantize.calibrate import Calibration
from cellseg_host.quantize.fold import WEIGHTED, folded
from cellseg_host.training import feed, loop, runs
from cellseg_host.training import train as training
from cellseg_host.training.history import Epoch
from cellseg_host.training.runs import Run
from cellseg_host.training.settings import TrainSettings

FOLDER = "qat"
STATE = "qat.json"


@dataclass(frozen=True)
class Tuning:
    """How a network is fine-tuned; None means as the run was trained.

    Attributes
    ----------
    epochs : int
    steps, batch, side : int or None
    learning_rate : float
        The highest: it rises over the first epoch, then falls to 1 % as a cosine.
    depth : int or None
        As for `architectures.for_inference`.
    calibration : Calibration
    """

    epochs: int = 10
    steps: int | None = None
    batch: int | None = None
    side: int | None = None
    learning_rate: float = 1e-4
    depth: int | None = None
    calibration: Calibration = field(default_factory=Calibration)

    def settings(self, run: TrainSettings) -> TrainSettings:
        """Return the run's settings with those that fine-tuning changes."""
        given = {k: getattr(self, k) for k in ("steps", "batch", "side") if getattr(self, k)}
        return dataclasses.replace(
            run,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            schedule="cosine",
            patience=self.epochs,
            rounds=1,
            swa=0,
            moving_average=0.0,
            **given,
        )


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned network.

    Attributes
    ----------
    network : keras.Model
        As int8 will compute it, from `qat.annotated`.
    twin : keras.Model
        The same weights in float.
    provenance : dict
        How it was made, for the card.
    """

    network: keras.Model
    twin: keras.Model
    provenance: dict[str, Any]


def finetune(
    run: Run,
    dataset: Dataset,
    tuning: Tuning,
    on_step: Callable[[int, int], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Epoch]:
    """Fine-tune a run's best network for int8, yielding each epoch as it ends; continues where it was stopped.

    Epoch 0 is the network before any step, which is kept if fine-tuning does not improve it.

    Parameters
    ----------
    run : Run
    dataset : Dataset
    tuning : Tuning
    on_step : callable
        Called with (steps done, steps in an epoch).
    say : callable
        Called with what is being done.

    Raises
    ------
    QuantizationError
        If the network has a layer that cannot be trained this way.
    InputError
        If the folder has a fine-tuning with other settings, the settings do not fit, or the loss is no longer finite.
    """
    settings = tuning.settings(run.settings)
    if settings.side % run.architecture.stride:
        raise InputError(f"--side {settings.side} is not a multiple of {run.architecture.stride}")
    network = qat.accepted(for_inference(run.network, run.heads, tuning.depth))
    feed.entries(dataset, "val", run.heads)
    plain, path = folded(network), run.path / FOLDER
    asked = _asked(run, dataset, tuning)
    if (path / STATE).is_file():
        state = _read(path)
        if other := next((k for k, v in asked.items() if state["asked"].get(k) != v), None):
            raise InputError(
                f"{path}: was started with other {other} ({state['asked'].get(other)}, not {asked[other]}): "
                "use that again, or remove the folder"
            )
    else:
        say("calibrating")
        images = calibrate.images(dataset, run.card(), tuning.calibration.images)
        found = calibrate.ranges(plain, qat.ranged(plain), images, tuning.calibration.percentile)
        state = {"asked": asked, "ranges": found}
        path.mkdir(parents=True, exist_ok=True)
        files.write(path / STATE, json.dumps(state, indent=2).encode())
    say("reading the images")
    network = qat.annotated(plain, {k: tuple(v) for k, v in state["ranges"].items()})
    keras.utils.set_random_seed(settings.seed)
    yield from loop.fit(training.prepare(run, network, dataset, settings, trained=True), path, settings, on_step)


def load(run: Run, network: keras.Model) -> Tuned:
    """Return the best fine-tuned network.

    Parameters
    ----------
    run : Run
    network : keras.Model
        The float network that the fine-tuning started from.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    path = run.path / FOLDER
    if not (path / runs.NETWORK).is_file():
        raise InputError(f"{path}: holds no fine-tuned network: make one with --qat")
    state = _read(path)
    tuned = qat.annotated(folded(network), {k: tuple(v) for k, v in state["ranges"].items()})
    runs.load_weights(tuned, path / runs.NETWORK)
    twin = folded(network)
    for layer in twin.layers:
        if isinstance(layer, WEIGHTED):
            layer.set_weights([w.numpy() for w in tuned.get_layer(layer.name).trainable_weights])
    return Tuned(tuned, twin, {"qat": state["asked"]})


def _asked(run: Run, dataset: Dataset, tuning: Tuning) -> dict[str, Any]:
    """Return what must be the same to continue a fine-tuning."""
    settings = tuning.settings(run.settings)
    return {
        "weights": run.weights_digest(),
        "data": dataset.digest(),
        **{k: getattr(settings, k) for k in ("epochs", "steps", "batch", "side", "learning_rate")},
        "depth": tuning.depth,
        **dataclasses.asdict(tuning.calibration),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
        if not {"asked", "ranges"} <= state.keys():
            raise ValueError("it lacks asked or ranges")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path / STATE}: is damaged ({error}): remove {path} and start again") from None
    return state
