"""The models that images are segmented with: one for all, or those that a gate chooses from for each image."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from cellseg_device.errors import ModelError
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import Card
from cellseg_device.model.classifier import Classifier
from cellseg_device.model.gate_card import GateClass
from cellseg_device.model.interpreter import bundled_path
from cellseg_device.pipeline import accelerator as accelerators
from cellseg_device.pipeline import gate as gates
from cellseg_device.pipeline import selftest
from cellseg_device.pipeline.gate import Verdict
from cellseg_device.pipeline.predict import Runnable

Warn = Callable[[str], None]
GateChoice = Path | Literal["none"] | None  # none by the user's word; None for the bundled one where no model is named

NO_GATE: Literal["none"] = "none"
_BUNDLED_GATE = "kind"
_DEFAULT = "nuclei"


class LaterModel:
    """A model that is loaded when the first image needs it, which saves memory and time at the start.

    Parameters
    ----------
    path : Path
        The model for the CPU.
    threads, accelerator, warn
        As for `accelerator.load`.

    Attributes
    ----------
    path, card, sha256, files
        As of a `Runnable`.

    Raises
    ------
    ModelError
        If there is no such file, it has no card, or is not compiled although it has to be.
    """

    def __init__(self, path: Path, threads: int, accelerator: str, warn: Warn) -> None:
        self.path = path
        self.files = accelerators.files_of(path, accelerator)
        self.sha256 = self.files[path]
        self.card: Card = accelerators.card_of(path)
        self._load = partial(accelerators.load, path, threads, accelerator, warn)

    @cached_property
    def loaded(self) -> Runnable:
        """The model itself; raises ModelError if it cannot be loaded."""
        return self._load()


@dataclass(frozen=True)
class Choice:
    """What an image is counted with.

    Attributes
    ----------
    model : Runnable
    gate : Classifier or None
        What has chosen it.
    verdict : Verdict or None
        What that takes the image for.
    """

    model: Runnable
    gate: Classifier | None = None
    verdict: Verdict | None = None

    @property
    def is_segmented(self) -> bool:
        """False for an image in which nothing is looked for."""
        return self.verdict is None or self.verdict.found.is_segmented

    @property
    def counter(self) -> Runnable | Classifier:
        """What the count is by: the model, or the gate for an image that is not segmented."""
        return self.model if self.gate is None or self.is_segmented else self.gate


@dataclass(frozen=True, eq=False)
class Models:
    """All that images are counted with.

    Attributes
    ----------
    default : Runnable
        Segments all images but those for which the gate says otherwise.
    gate : Classifier or None
    others : mapping of str to LaterModel
        By the names that the gate has for them.
    """

    default: Runnable
    gate: Classifier | None = None
    others: Mapping[str, LaterModel] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Runnable | Classifier | LaterModel, ...]:
        """The gate, if there is one, and the models."""
        return (*([] if self.gate is None else [self.gate]), self.default, *self.others.values())

    @property
    def files(self) -> dict[Path, str]:
        """SHA-256 of all files."""
        return {path: digest for part in self.parts for path, digest in part.files.items()}

    @property
    def gate_sha256(self) -> str | None:
        """Digest of the gate's file."""
        return None if self.gate is None else self.gate.sha256

    @property
    def counters(self) -> dict[str, str]:
        """SHA-256 of what an image is counted by, a model or the gate, by its class; without a gate that is ""."""
        if self.gate is None:
            return {"": self.default.sha256}
        return {found.name: self._counter(found, self.gate).sha256 for found in gates.of(self.gate).classes}

    def have_made(self, class_name: str, model_sha256: str, gate_sha256: str | None) -> bool:
        """Whether a count is as these would make it, by its class and the digests of what counted it and the gate."""
        return gate_sha256 == self.gate_sha256 and model_sha256 == self.counters.get(class_name)

    def choose(self, image: Image) -> Choice:
        """Return what an image is counted with; loads a model that is needed for the first time.

        Raises
        ------
        ModelError
            If the gate fails, or that model cannot be loaded.
        AcceleratorError
            If that model needs an Edge TPU and none works.
        """
        if self.gate is None:
            return Choice(self.default)
        verdict = gates.classify(image, self.gate)
        other = self._other(verdict.found)
        return Choice(self.default if other is None else other.loaded, self.gate, verdict)

    def load_all(self) -> None:
        """Load the models that no image has needed yet, so that no change of their files concerns them.

        Raises
        ------
        ModelError, AcceleratorError
            As from `choose`.
        """
        for other in self.others.values():
            other.loaded  # noqa: B018

    def _counter(self, found: GateClass, gate: Classifier) -> Runnable | Classifier | LaterModel:
        """Return what images of a class are counted by."""
        return gate if not found.is_segmented else self._other(found) or self.default

    def _other(self, found: GateClass) -> LaterModel | None:
        return self.others.get(found.model or "") if found.is_segmented else None


def load(
    model: Path | None,
    gate: GateChoice,
    threads: int,
    accelerator: str,
    warn: Warn,
    *,
    in_use: Path | None = None,
) -> Models:
    """Return what images are counted with, loaded for the chosen processor; the gate runs on the CPU.

    Parameters
    ----------
    model : Path or None
        For all images, whatever the gate says of its models; None for those, and the bundled one.
    gate : Path, "none" or None
        A classifier. The models that it names lie beside it, or are bundled.
    threads, accelerator, warn
        As for `accelerator.load`.
    in_use : Path or None
        A model that replaces the one of its kind, unless `model` is given: that which the gate has a name for, else the
        default one; without a gate it counts all images.

    Raises
    ------
    InputError
        If there is no such accelerator.
    ModelError
        If a file that is needed is missing or refused, or the model in use does not answer as it should.
    AcceleratorError
        If an Edge TPU is needed and cannot be used.
    """
    path = gate_path(model, gate)
    opened = None if path is None else _opened(path, threads, warn)
    named = {} if opened is None or model is not None else named_models(opened.card, opened.path)
    further = {name: found for name, found in named.items() if found != bundled_path()}
    mine = None if model is not None or in_use is None else proven(in_use, threads, accelerator, warn)
    kinds = () if mine is None else (kind_of(mine.card), _DEFAULT)
    kind = next((name for name in kinds if name in further), None)
    if mine is not None and kind is None:
        default = mine.loaded
    else:
        default = accelerators.load(model or bundled_path(), threads, accelerator, warn)
    others = {
        name: mine if mine is not None and name == kind else LaterModel(found, threads, accelerator, warn)
        for name, found in further.items()
    }
    return Models(default, opened, others)


def kind_of(card: Card) -> str:
    """Return the name of the released model that a model was made from, by `tune` or `adapt`; else its own."""
    for how in ("adapted", "tuning"):
        made = card.provenance.get(how)
        start = made.get("start") if isinstance(made, dict) else None
        if isinstance(start, dict):
            return str(start.get("kind") or start.get("name") or card.name)
    return card.name


def proven(path: Path, threads: int, accelerator: str, warn: Warn) -> LaterModel:
    """Return a model, loaded, that answers as its card says; if none does on this computer, that is no fault of it.

    Parameters as of `load`.

    Raises
    ------
    ModelError
        If it is refused, or does not answer so.
    """
    lines: list[str] = []
    mine = LaterModel(path, threads, accelerator, lines.append)
    if mine.loaded.accelerator == "cpu" and lines:
        others: list[str] = []
        accelerators.load(bundled_path(), threads, "cpu", others.append)
        if not others:
            raise ModelError(f"{path} does not answer as its card says (the self-test): copy it again, or make it anew")
    for line in lines:
        warn(line)
    return mine


def gate_path(model: Path | None, gate: GateChoice) -> Path | None:
    """Return the file of the gate that goes with these choices; None for no gate. Parameters as of `load`."""
    if gate is not None:
        return None if gate == NO_GATE else gate
    return bundled_path(_BUNDLED_GATE) if model is None else None


def named_models(card: Card, path: Path) -> dict[str, Path]:
    """Return the models that the card of a gate names, by their names.

    Parameters
    ----------
    card : Card
    path : Path
        The gate's file; they are looked for beside it, then among the bundled ones.

    Raises
    ------
    ModelError
        If one is not there.
    """
    names = [] if card.gate is None else [found.model for found in card.gate.classes if found.model is not None]
    return {name: _named(name, path) for name in names}


def _named(name: str, gate: Path) -> Path:
    for path in (gate.with_name(f"{name}.tflite"), bundled_path(name)):
        if os.path.isfile(path):  # noqa: PTH113 - raises nothing
            return path
    raise ModelError(
        f"{gate} needs the model {name}: put {name}.tflite beside it, or name one model for all images with --model"
    )


def _opened(path: Path, threads: int, warn: Warn) -> Classifier:
    gate = gates.open_gate(path, threads)
    warning = selftest.check_gate(gate)
    if warning is not None:
        warn(warning)
    return gate
