"""The search of a sweep's TOML file.

::

    [search]
    loss = ["boundary", "bce-dice"]                          # one of these
    learning-rate = { low = 1e-4, high = 1e-2, log = true }  # a number from low to high
    side = { low = 128, high = 256, step = 64 }              # 128, 192 or 256
    augmentation.blur_px = { low = 0, high = 3 }
    arch = [
        "edge-unet",
        # several settings at once, and a search of its own for the trials that choose it
        { arch = "unet", options.activation = "elu", search.options.batch_norm = [true, false] },
    ]
"""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown
from cellseg_host.augment import Augmentation
from cellseg_host.training.settings import TrainSettings, from_mapping

_GROUPS = ("options", "augmentation")  # settings that are tables of further ones

Settings = dict[str, Any]
# By the setting's name: a range; or by its label what each choice sets, and what is searched only where it is chosen
Space = dict[str, "FloatDistribution | IntDistribution | dict[str, tuple[Settings, Space]]"]


def suggested(space: Space, trial: optuna.Trial, prefix: str = "") -> Settings:
    """Return the settings that a trial chooses. A parameter below a choice is named ``LABEL/NAME``."""
    settings: Settings = {}
    for name, item in space.items():
        if isinstance(item, dict):
            label = trial.suggest_categorical(prefix + name, list(item))
            sets, inner = item[label]
            settings = merged(merged(settings, sets), suggested(inner, trial, f"{prefix}{label}/"))
        else:
            suggest: Any = trial.suggest_int if isinstance(item, IntDistribution) else trial.suggest_float
            number = suggest(prefix + name, item.low, item.high, step=item.step, log=item.log)
            settings = merged(settings, _setting(name, number))
    return settings


def read(table: Any, where: str) -> Space:
    """Return what a table searches.

    Raises
    ------
    InputError
        If there is a name that is not a setting, a value that does not fit, or neither a list nor a range.
    """
    if not isinstance(table, dict):
        raise InputError(f"'{where}' must be a table of names and values, not {table!r}")
    items: dict[str, Any] = {}
    for name, item in table.items():
        inner = name in _GROUPS and isinstance(item, dict)
        items |= {f"{name}.{key}": value for key, value in item.items()} if inner else {name: item}
    space: Space = {}
    for name, item in items.items():
        place = f"{where}.{name}"
        if isinstance(item, dict):
            space[name] = _range(item, name, place)
        elif isinstance(item, list) and item:
            space[name] = _choices(item, name, place)
        else:
            raise InputError(f"'{place}' must be a list of choices, or a range as {{ low = 1, high = 5 }}")
    return space


def _choices(items: list[Any], name: str, place: str) -> dict[str, tuple[Settings, Space]]:
    tables = [item if isinstance(item, dict) and name not in _GROUPS else _setting(name, item) for item in items]
    words = [_text(table.get(name, item)) for table, item in zip(tables, items, strict=True)]
    choices: dict[str, tuple[Settings, Space]] = {}
    for table, item, word in zip(tables, items, words, strict=True):
        label = word if words.count(word) == 1 else _text(item)
        if label in choices:
            raise InputError(f"'{place}': {label} is listed twice")
        sets = {key: value for key, value in table.items() if key != "search"}
        check(sets, place)
        choices[label] = (sets, read(table.get("search", {}), f"{place}.{label}"))
    return choices


def _range(item: dict[str, Any], name: str, place: str) -> FloatDistribution | IntDistribution:
    known = ("low", "high", "step", "log")
    for key in item:
        if key not in known:
            raise InputError(f"'{place}' has {unknown('key', key, known)}")
    group, _, key = name.rpartition(".")
    default = getattr({"": TrainSettings, "augmentation": Augmentation}.get(group), key, None)
    whole = not isinstance(default, float) and all(isinstance(value, int) for value in item.values())
    try:
        if not {"low", "high"} <= item.keys():
            raise ValueError("it needs a 'low' and a 'high'")
        if not all(map(math.isfinite, item.values())):
            raise ValueError("it must be finite")
        if item.get("log") and "step" in item:
            raise ValueError("'log' and 'step' do not go together")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that `high` is lowered where the steps do not reach it
            found = IntDistribution(**item) if whole else FloatDistribution(**item)
    except (TypeError, ValueError) as error:
        raise InputError(f"'{place}' is not a range: {error}") from None
    for number in (found.low, found.high):
        check(_setting(name, number), place)
    return found


def check(settings: Settings, place: str) -> None:
    """Refuse names that are no settings, and values that do not fit."""
    try:
        from_mapping(settings)
    except InputError as error:
        raise InputError(f"'{place}': {error.message}") from None


def _setting(name: str, value: Any) -> Settings:
    group, dot, key = name.partition(".")
    return {group: {key: value}} if dot else {name: value}


def merged(first: Settings, then: Settings) -> Settings:
    """Return both, `then` wins; so too within options and augmentation."""
    groups = {
        g: {**first[g], **then[g]} for g in _GROUPS if isinstance(first.get(g), dict) and isinstance(then.get(g), dict)
    }
    return {**first, **then, **groups}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
