"""What a training run is made with: the same names as flags, in a YAML file, and in RUN/run.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cellseg_device.errors import InputError
from cellseg_host.augment import Augmentation
from cellseg_host.nearest import unknown

SCHEDULES = ("cosine", "plateau", "constant")
FREEZES = ("none", "encoder", "all-but-head")
CLASS_WEIGHTS = ("none", "frequency")
KEEPS = ("best", "last")
PRECISIONS = ("float32", "bfloat16")
GAP_WEIGHT = 4.0
HEADS = ("foreground", "distance", "centre", "outline")
# Validation scores of networks that draw maps, and of classifiers; the first is what decides unless told otherwise
MONITORS = ("mean_ap", "ap50", "mean_iou", "val_loss")
PRESENCE_MONITORS = ("auc", "accuracy", "val_loss")


@dataclass(frozen=True)
class TrainSettings:
    """What a run is made with.

    Attributes
    ----------
    arch : str
        Name of an architecture, or FILE.py:NAME of a user's own.
    options : mapping
        Options of the architecture that differ from its own.
    heads : tuple of str
        What the network learns to draw; empty for what the architecture usually does.
    loss : str
        Of the foreground (and outline), by name or FILE.py:NAME; distance and centre maps have a loss of their own.
    metrics : tuple of str
        Further validation metrics, FILE.py:NAME.
    class_weight : str
        ``"frequency"``: pixels of the rarer class weigh more, so that both weigh the same in all.
    gap_weight : float
        Extra weight of a pixel between two nuclei, in distance and centre maps and under the loss "boundary".
    epochs : int
        At most, in each round; an epoch is `steps` batches of random views.
    rounds : int
        Each goes on from the best network so far, with a learning rate a tenth of the one before.
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
        The validation score whose best network is kept; None for mean AP, or a classifier's AUC.
    keep : str
        ``"best"`` by that score; or ``"last"``: what the last epoch leaves. Where validation images are few, the best
        of many epochs is the best by chance. Then `patience` ends no round.
    swa : int
        Stochastic weight averaging: so many further epochs from the best network on, at a low constant rate, whose
        weights are averaged; the average is kept where it is better.
    init : str or None
        Start from the weights of this run or model file.
    teachers : tuple of str
        Model files whose opinion of the training images is half of what is learnt (`cellseg_host.teachers`).
    freeze : str
        What keeps its weights: ``"none"``, ``"encoder"`` or ``"all-but-head"``.
    encoder_weights : str or None
        File of pretrained weights for the encoder.
    precision : str
        In which training computes; weights are float32 in any case, and so is the trained network. ``"bfloat16"`` is
        faster on processors with AVX512-BF16 or AMX, and slower on others.
    seed : int
    augmentation : Augmentation
    """

    arch: str = "edge-unet"
    options: Mapping[str, Any] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    loss: str = "boundary"
    metrics: tuple[str, ...] = ()
    class_weight: str = "none"
    gap_weight: float = GAP_WEIGHT
    epochs: int = 100
    rounds: int = 1
    steps: int = 100
    batch: int = 16
    side: int = 256
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    patience: int = 30
    monitor: str | None = None
    keep: str = "best"
    swa: int = 0
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


_CHOICES = {
    "schedule": SCHEDULES,
    "freeze": FREEZES,
    "class_weight": CLASS_WEIGHTS,
    "keep": KEEPS,
    "precision": PRECISIONS,
}
# Smallest values, of the flags as well
AT_LEAST = {"gap_weight": 0, "epochs": 1, "rounds": 1, "steps": 1, "batch": 1, "side": 32, "patience": 1, "swa": 0}
AT_LEAST |= {"seed": 0}


def from_mapping(told: Mapping[str, Any]) -> TrainSettings:
    """Settings from names and values, as `dataclasses.asdict` or YAML gives them.

    Raises
    ------
    InputError
        If a name is unknown (the nearest is named), or a value is not of its kind.
    """
    changes = dict(told.get("augmentation") or {})
    rest = {k: v for k, v in told.items() if k != "augmentation"}
    return _filled(TrainSettings, rest, "setting", augmentation=_filled(Augmentation, changes, "augmentation"))


def _filled(kind: Any, told: Mapping[str, Any], what: str, **rest: Any) -> Any:
    defaults = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for name, value in told.items():
        if name not in defaults:
            raise InputError(f"there is {unknown(what, name, list(defaults))}")
        values[name] = _as(defaults[name], value, what)
    return kind(**values, **rest)


def _as(item: dataclasses.Field[Any], value: Any, what: str) -> Any:
    """The value as the field's default is: whole number, number, flag, words, or some of them."""
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
        elif value is None or isinstance(value, str):
            return value
    except (TypeError, ValueError):
        pass
    raise InputError(f"{what} '{item.name}': {value!r} does not fit; its default is {default!r}")
