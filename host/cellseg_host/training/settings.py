"""The settings of a training run: named alike as flags, in a TOML file, and in RUN/run.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown
from cellseg_host.augment import Augmentation

SCHEDULES = ("cosine", "plateau", "constant")
FREEZES = ("none", "encoder", "all-but-head")
CLASS_WEIGHTS = ("none", "frequency")
KEEPS = ("best", "last")
PRECISIONS = ("float32", "bfloat16")
BORDER_WEIGHT = 4.0
# What to do about a folder for a run that is not empty
OR_RESUME = "choose another --out, or --resume the run in it"
HEADS = ("foreground", "distance", "centre", "outline")
# Validation scores of networks that predict maps, and of classifiers; the first decides by default
MONITORS = ("mean_ap", "ap50", "mean_iou", "val_loss")
CLASSIFIER_MONITORS = {
    "presence": ("auc", "accuracy", "val_loss"),
    "kind": ("val_loss", "balanced_accuracy", "accuracy"),
}


@dataclass(frozen=True)
class TrainSettings:
    """The settings of a training run.

    Attributes
    ----------
    arch : str
        Name of an architecture, or FILE.py:NAME of a user's own.
    options : mapping
        Options of the architecture that differ from its own.
    heads : tuple of str
        The maps that the network learns to predict; empty for those of the architecture.
    loss : str
        Of the foreground (and outline), by name or FILE.py:NAME; distance and centre maps have a loss of their own.
    metrics : tuple of str
        Further validation metrics, FILE.py:NAME.
    class_weight : str
        ``"frequency"``: pixels of the rarer class weigh more, so that both weigh the same in all.
    border_weight : float
        Extra weight of a pixel between two nuclei, in distance and centre maps and under the loss "boundary".
    epochs : int
        At most, in each round; an epoch is `steps` batches of random views.
    rounds : int
        Each continues from the best network so far, with a tenth of the learning rate of the one before.
    shares : mapping of str to float
        Share of the views by the name of a set; the other sets share what is left (`sampling.groups`).
    steps, batch, side : int
        Batches in an epoch, views in a batch, side of a view in pixels.
    learning_rate : float
        The highest: all schedules start with a linear warm-up over the first epoch.
    schedule : str
        ``"cosine"``: down to 1 % at the last step; ``"plateau"``: halved after `patience` / 3 epochs without progress;
        ``"constant"``.
    patience : int
        Epochs without progress after which a round ends.
    monitor : str or None
        The validation score whose best network is kept; None for mean AP; of a classifier, for the AUC,
        or, where it tells kinds apart, the loss.
    keep : str
        ``"best"`` by that score; or ``"last"``, the network after the last epoch: with few validation images the best
        of many epochs is the best by chance. With ``"last"``, `patience` ends no round.
    swa : int
        Stochastic weight averaging: this many further epochs, from the best network and at a low constant rate, whose
        weights are averaged; the average is kept if it is better.
    moving_average : float
        What is scored and kept has the moving average of the weights over the steps, of which a step leaves this share,
        such as 0.999; 0 for the weights as they are.
    init : str or None
        Start from the weights of this run or model file.
    teachers : tuple of str
        Model files whose predictions on the training images are half of each target (see `training.distillation`).
    freeze : str
        What keeps its weights: ``"none"``, ``"encoder"`` or ``"all-but-head"``.
    encoder_weights : str or None
        File of pretrained weights for the encoder.
    precision : str
        Number format that training computes in; the weights and the trained network are always float32.
        ``"bfloat16"`` is faster on processors with AVX512-BF16 or AMX, and slower on others. For networks with layers
        of 8 channels it is of no use (models/NOTES.md: their loss rises).
    seed : int
    augmentation : Augmentation
    """

    arch: str = "edge-unet"
    options: Mapping[str, Any] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    loss: str = "boundary"
    metrics: tuple[str, ...] = ()
    class_weight: str = "none"
    border_weight: float = BORDER_WEIGHT
    epochs: int = 100
    rounds: int = 1
    shares: Mapping[str, float] = field(default_factory=dict)
    steps: int = 100
    batch: int = 16
    side: int = 256
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    patience: int = 30
    monitor: str | None = None
    keep: str = "best"
    swa: int = 0
    moving_average: float = 0.0
    init: str | None = None
    teachers: tuple[str, ...] = ()
    freeze: str = "none"
    encoder_weights: str | None = None
    precision: str = "float32"
    seed: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise InputError(f"setting '{name}': there is {unknown('choice', str(value), choices)}")
        for name, least in AT_LEAST.items():
            if not getattr(self, name) >= least:
                raise InputError(f"setting '{name}': {getattr(self, name)!r} is below {least}")
        if not self.learning_rate > 0:
            raise InputError(f"setting 'learning_rate': {self.learning_rate!r} is not above 0")
        if not 0 <= self.moving_average < 1:
            raise InputError(f"setting 'moving_average': {self.moving_average!r} is not from 0 to below 1")

    @property
    def learns_kinds(self) -> bool:
        """Whether kinds of samples are learnt, from images without labels, too; known before networks are."""
        return self.arch == "kind-net" or tuple(self.heads) == ("kind",)


_CHOICES = {
    "schedule": SCHEDULES,
    "freeze": FREEZES,
    "class_weight": CLASS_WEIGHTS,
    "keep": KEEPS,
    "precision": PRECISIONS,
}
# Smallest values, of the flags as well
AT_LEAST = {"border_weight": 0, "epochs": 1, "rounds": 1, "steps": 1, "batch": 1, "side": 32, "patience": 1, "swa": 0}
AT_LEAST |= {"seed": 0}


def to_toml(settings: TrainSettings) -> str:
    """Return the settings as a TOML file, from which ``train --config`` reads the same ones."""
    values = dataclasses.asdict(settings)
    return tomli_w.dumps({name: value for name, value in values.items() if value is not None})


def from_mapping(values: Mapping[str, Any]) -> TrainSettings:
    """Return settings from names and values, as in `dataclasses.asdict` or a TOML file.

    Raises
    ------
    InputError
        If a name is unknown (the most similar is suggested), or a value is not of its kind.
    """
    changes = values.get("augmentation") or {}
    if not isinstance(changes, Mapping):
        raise InputError(f"setting 'augmentation': {changes!r} is not a table of names and values")
    rest = {k: v for k, v in values.items() if k != "augmentation"}
    augmentation = _filled(Augmentation, changes, "augmentation")
    settings: TrainSettings = _filled(TrainSettings, rest, "setting", augmentation=augmentation)
    return settings


def _filled(kind: Any, given: Mapping[str, Any], what: str, **rest: Any) -> Any:
    defaults = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for name, value in given.items():
        if name not in defaults:
            raise InputError(f"there is {unknown(what, name, list(defaults))}")
        values[name] = _as(defaults[name], value, what)
    return kind(**values, **rest)


def _as(item: dataclasses.Field[Any], value: Any, what: str) -> Any:
    """Return the value as the kind that the field's default is: a number, a flag, a text, or several."""
    default: Any = item.default
    if item.default_factory is not dataclasses.MISSING:
        default = item.default_factory()
    try:
        if isinstance(default, tuple) and isinstance(value, (list, tuple)):
            return tuple(value)
        if isinstance(default, Mapping) and isinstance(value, Mapping):
            return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        if isinstance(default, bool):
            if isinstance(value, bool):
                return value
        elif isinstance(value, bool):
            pass
        elif isinstance(default, int):
            if int(value) == float(value):
                return int(value)
        elif isinstance(default, float):
            return float(value)
        elif isinstance(default, str | None) and isinstance(value, str | None):
            return value
    except (TypeError, ValueError, OverflowError):  # the last of an infinite whole number
        pass
    raise InputError(f"{what} '{item.name}': {value!r} does not fit; its default is {default!r}")
