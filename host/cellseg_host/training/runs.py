"""A training run is a folder that can be stopped at any time and resumed.

::

    RUN/run.json         settings, data, code version; written first
    RUN/config.toml      the settings as a file for ``train --config``, which repeats the run
    RUN/plugins/         copies of the user's own architecture, loss and metrics
    RUN/model.keras      the weights of the best network so far, by the validation score
    RUN/history.csv      one row per epoch; history.png the same as a plot
    RUN/checkpoint/      everything to resume: weights, optimizer, epoch
    RUN/tensorboard/     the same curves for TensorBoard
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

import cellseg_device
import cellseg_host
from cellseg_device.errors import InputError
from cellseg_device.model.card import Card, Join, Output
from cellseg_device.system import files
from cellseg_host import __version__, architectures
from cellseg_host.architectures import Architecture
from cellseg_host.data.dataset import Dataset, cells_in
from cellseg_host.data.whole_folder import check_new
from cellseg_host.plugins import loading
from cellseg_host.plugins.networks import find_architecture
from cellseg_host.training import feed, gates
from cellseg_host.training import settings as all_settings
from cellseg_host.training.settings import TrainSettings

NETWORK = "model.keras"
_FILES = ("arch", "loss", "metrics", "init", "teachers", "encoder_weights")  # settings that may name files
# Percentiles of the image's histogram that become the ends of the input range
LOW_PERCENTILE, HIGH_PERCENTILE = 1.0, 99.9


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes
    ----------
    path : Path
    info : dict
        What run.json holds.
    """

    path: Path
    info: dict[str, Any]

    @cached_property
    def settings(self) -> TrainSettings:
        """The settings it was started with; the user's own code is the copy in the run, once there is one.

        Raises
        ------
        InputError
            If they are not those of this version.
        """
        try:
            given = all_settings.from_mapping(self.info["settings"])
        except InputError as error:
            raise InputError(
                f"{self.path / 'run.json'}: is of another version ({error.message}): train again into another folder"
            ) from None

        def kept(spec: str) -> str:
            copies = self.path / "plugins"
            return loading.kept_in(copies, spec) if loading.is_spec(spec) and copies.is_dir() else spec

        return dataclasses.replace(
            given, arch=kept(given.arch), loss=kept(given.loss), metrics=tuple(kept(m) for m in given.metrics)
        )

    @cached_property
    def architecture(self) -> Architecture:
        """The run's architecture."""
        return find_architecture(self.settings.arch, self.settings.heads, self.settings.options)

    @property
    def heads(self) -> tuple[str, ...]:
        """The maps that the network learns to predict."""
        return self.settings.heads or self.architecture.heads

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """The outputs of the network after `architectures.for_inference`."""
        network = architectures.for_inference(self.untrained(), self.heads)
        return architectures.outputs_of(network, self.heads)

    @property
    def start_join(self) -> Join | None:
        """When touching pieces are one cell, by the model that the run started from; None if that had no such rule."""
        join = self.info.get("start_join")
        return None if join is None else Join(**join)

    @property
    def network(self) -> keras.Model:
        """The run's best network, with the outputs of all its supervised depths.

        Raises
        ------
        InputError
            If its file is damaged.
        """
        network = self.untrained()
        load_weights(network, self.path / NETWORK)
        return network

    def untrained(self) -> keras.Model:
        """Return the run's network before any training."""
        return self.architecture.network(self.heads, **self.settings.options)

    def weights_digest(self) -> str:
        """Return the SHA-256 of the best network's file."""
        return hashlib.sha256((self.path / NETWORK).read_bytes()).hexdigest()

    def card(self) -> Card:
        """Return the card of the run's float network, without metrics."""
        arch = self.architecture
        return Card(
            name=arch.name,
            quantization="float32",
            outputs=self.outputs,
            stride=arch.stride,
            margin=arch.margin,
            low_percentile=LOW_PERCENTILE,
            high_percentile=HIGH_PERCENTILE,
            cell_diameter_px=self.info["data"]["median_diameter_px"] or 1.0,
            gate=gates.usual(self.heads, self.info["data"].get("kinds", ()), self.settings.side),
            provenance={k: self.info[k] for k in ("data", "code", "average") if k in self.info}
            | {"settings": _without_folders(self.info["settings"])},
        )


def open_run(path: Path) -> Run:
    """Open a run folder, or the folder of a model file inside one.

    Raises
    ------
    InputError
        If it holds no trained network.
    """
    folder = path.parent if path.name == NETWORK else path
    for name in ("run.json", NETWORK):
        if not (folder / name).is_file():
            raise InputError(f"{path}: is not a finished training run (no {name}): make one with 'cellseg-host train'")
    return Run(folder, _read_info(folder))


def started(path: Path, dataset: Dataset) -> Run:
    """Open a run to resume, finished or not.

    Raises
    ------
    InputError
        If there is none, or it was started on other data.
    """
    if not (path / "run.json").is_file():
        raise InputError(f"{path}: holds no run to resume: leave --resume out to start one")
    run = Run(path, _read_info(path))
    if "average" in run.info:
        raise InputError(
            f"{path}: is the mean of other runs and cannot be resumed: start a run from it with --init {path}"
        )
    if run.info["data"]["sha256"] != dataset.digest():
        raise InputError(f"{path}: was started on other data ({run.info['data']['name']}): resume with that")
    return run


def describe(settings: TrainSettings, dataset: Dataset) -> dict[str, Any]:
    """Return what run.json says of a run with these settings on this data."""
    heads = settings.heads or find_architecture(settings.arch, settings.heads, settings.options).heads
    entries = feed.entries(dataset, "train", heads)
    diameters = [e.median_diameter_px for e in entries if e.cells]
    return {
        "settings": dataclasses.asdict(settings),
        "data": {
            "name": dataset.root.resolve().name,
            "sha256": dataset.digest(),
            "train_images": len(entries),
            "train_cells": cells_in(entries),
            # Kinds may be learnt from images without labels alone
            "median_diameter_px": round(float(np.median(diameters)), 1) if diameters else None,
            **({"kinds": sorted({e.kind for e in entries})} if heads == ("kind",) else {}),
        },
        "code": {
            "cellseg_host": __version__,
            "source_sha256": source_digest(),
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
        },
    }


def create(path: Path, settings: TrainSettings, info: dict[str, Any]) -> None:
    """Make the folder of a new run, with a copy of the user's own code.

    Raises
    ------
    InputError
        If the folder is not empty, or two of the user's files have the same name.
    """
    check_new(path, all_settings.OR_RESUME)
    specs = [s for s in (settings.arch, settings.loss, *settings.metrics) if loading.is_spec(s)]
    sources = {Path(s.rpartition(":")[0]).resolve(): loading.source(s) for s in specs}
    if len({file.name for file in sources}) < len(sources):
        raise InputError("two of the plug-ins' files have the same name: rename one")
    path.mkdir(parents=True, exist_ok=True)
    if sources:
        (path / "plugins").mkdir()
    for file, source in sources.items():
        files.write(path / "plugins" / file.name, source)
    files.write(path / "config.toml", all_settings.to_toml(_with_copies(settings)).encode())
    files.write(path / "run.json", json.dumps(info, indent=2).encode())  # last: it makes the folder a run


def _with_copies(settings: TrainSettings) -> TrainSettings:
    """Return the settings with the copies of the user's own code, by their place in the run's folder."""

    def copy(spec: str) -> str:
        return loading.kept_in(Path("plugins"), spec) if loading.is_spec(spec) else spec

    return dataclasses.replace(
        settings, arch=copy(settings.arch), loss=copy(settings.loss), metrics=tuple(map(copy, settings.metrics))
    )


def save_weights(network: keras.Model, file: Path) -> None:
    """Write a network's weights; an older file of that name stays until the new one is complete."""
    saving = file.with_name(f"saving-{file.name}")
    network.save(saving)
    saving.replace(file)


def load_weights(network: keras.Model, file: Path) -> None:
    """Read a network's weights.

    Raises
    ------
    InputError
        If the file is damaged or of another network.
    """
    try:
        network.load_weights(file)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file}: cannot be loaded ({str(error).splitlines()[0]})") from None


def source_digest() -> str:
    """Return a SHA-256 of the source of both packages, which tells apart states of the code that have one version."""
    digest = hashlib.sha256()
    for root in (Path(str(package.__file__)).parent for package in (cellseg_device, cellseg_host)):
        for file in sorted(root.rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _without_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings with files by their names alone: a model's card does not show its maker's folders."""

    def named(value: Any) -> Any:
        return [named(one) for one in value] if isinstance(value, list | tuple) else value and Path(value).name

    return {key: named(value) if key in _FILES else value for key, value in settings.items()}


def _read_info(path: Path) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
        if not {"settings", "data", "code"} <= info.keys():
            raise ValueError("it lacks settings, data or code")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path / 'run.json'}: is damaged ({error}): train again into another folder") from None
    return info
