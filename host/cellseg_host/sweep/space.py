"""What a sweep searches, from its YAML file.

::

    base: {epochs: 30, steps: 50}          # settings of all trials, as of `train`
    search:
      arch:                                # a list: one of these
        - edge-unet
        - arch: unet                       # a choice may set several settings at once
          options: {activation: elu}
          search:                          # and have a search of its own, where it is chosen
            options.batch_norm: [true, false]
      loss: [boundary, bce-dice]
      learning_rate: {low: 1e-4, high: 1e-2, log: true}
      augmentation.blur_px: {low: 0, high: 3, step: 0.5}
    method: tpe                            # or random; or grid: every combination of lists and steps
    trials: 40                             # a grid: all, unless told otherwise
    metric: mean_ap                        # the validation score to be best, by which each run keeps its network too
    seed: 0
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellseg_device.errors import InputError
from cellseg_host import config
from cellseg_host.augment import Augmentation
from cellseg_host.nearest import unknown
from cellseg_host.settings import TrainSettings, from_mapping

METHODS = ("grid", "random", "tpe")
MAX_GRID = 10_000
_KEYS = ("base", "search", "method", "trials", "metric", "seed")
_MAPPINGS = ("options", "augmentation")
_FIELDS = {f.name: f for f in dataclasses.fields(TrainSettings)}
_CHANGES = {f.name: f for f in dataclasses.fields(Augmentation)}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes
    ----------
    low, high : float
    log : bool
        Drawn by their logarithm.
    step : float or None
        Between neighbouring values; None for any.
    whole : bool
        Whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def values(self) -> list[float]:
        """All of them, where there is a step."""
        assert self.step is not None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        values = [round(self.low + n * self.step, 12) for n in range(count)]
        return [int(v) for v in values] if self.whole else values


@dataclass(frozen=True)
class Choice:
    """One entry of a list.

    Attributes
    ----------
    told : dict
        Settings that it sets, by name; a dot leads into options and augmentation.
    search : dict
        What is searched only where it is chosen.
    """

    told: dict[str, Any]
    search: Space


# By label
Choices = dict[str, Choice]
# What is searched, by the setting's name
Space = dict[str, Range | Choices]
# Gives the value of a parameter: a number of the range, or the label of a choice
Pick = Callable[[str, Range | Choices], Any]


@dataclass(frozen=True)
class Plan:
    """A sweep's configuration.

    Attributes
    ----------
    told : dict
        What the file says, without the number of trials, which may be changed from one start to the next.
    base : dict
        Settings of all trials, by name.
    space : dict
    method : str
    trials : int or None
        How many; None for a whole grid.
    metric : str
    seed : int
    """

    told: dict[str, Any]
    base: dict[str, Any]
    space: Space
    method: str
    trials: int | None
    metric: str
    seed: int

    def walk(self, pick: Pick) -> dict[str, Any]:
        """The settings that `pick` chooses, asked for each parameter that there is after the choices before it."""
        return _walk(self.space, pick)

    def settings(self, pick: Pick) -> TrainSettings:
        """All settings of a trial whose parameters `pick` chooses.

        Raises
        ------
        InputError
            If they do not fit together.
        """
        return from_mapping(_merged(self.base, {**self.walk(pick), "monitor": self.metric}))

    def choices(self) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
        """Every choice there is: the labels that lead to it, by parameter, and what they set."""
        return _each(self.space)

    def parameters(self) -> Iterator[tuple[str, Range | Choices]]:
        """Every parameter that a trial may have, by name, with its values."""
        return _parameters(self.space)

    def count(self, trials: int | None = None) -> int:
        """How many trials there shall be; `trials` wins over the file.

        Raises
        ------
        InputError
            If neither says so, and the method has no end of its own.
        """
        trials = trials or self.trials
        if self.method == "grid":
            return min(len(self.points()), trials or MAX_GRID)
        if trials is None:
            raise InputError(f"'trials' is missing: say how many the method '{self.method}' shall make")
        return trials

    def points(self) -> list[dict[str, Any]]:
        """The parameters of every trial of the grid, in the order of the file."""
        return _points(self.space)


def read(path: Path) -> Plan:
    """Read a sweep's YAML file.

    Raises
    ------
    InputError
        If something in it is unknown (the nearest is named), of the wrong kind, or missing.
    """
    told = config.read(path)
    try:
        return _plan(told)
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from None


def _plan(told: dict[str, Any]) -> Plan:
    _only(told, _KEYS, "key")
    method = told.get("method", "tpe")
    if method not in METHODS:
        raise InputError(f"'method': there is {unknown('method', str(method), METHODS)}")
    base = _merged({}, _named(told.get("base"), "base"))
    _try({}, base, "'base'")
    space = _space(told.get("search"), "search", base)
    if not space:
        raise InputError("'search' is empty: say there what is searched, as 'loss: [bce, dice]'")
    if method == "grid":
        _points(space)
    trials = None if told.get("trials") is None else _whole(told["trials"], "trials", 1)
    metric = told.get("metric", "mean_ap")
    if not isinstance(metric, str):
        raise InputError(f"'metric' must be the name of a validation score, not {metric!r}")
    kept = json.loads(json.dumps({k: v for k, v in told.items() if k != "trials"}))
    return Plan(kept, base, space, method, trials, metric, _whole(told.get("seed", 0), "seed", 0))


def _space(raw: Any, where: str, base: Mapping[str, Any]) -> Space:
    """Read what is searched; `base` holds what else the settings are, to try each value with."""
    space: Space = {}
    for name, item in _named(raw, where, searched=True).items():
        place = f"'{where}: {name}'"
        if isinstance(item, Mapping):
            found = _range(item, name, place)
            for value in (found.low, found.high):
                _try({name: value}, base, place)
            space[name] = found
        elif isinstance(item, list) and item:
            space[name] = _choices(item, name, where, base)
        else:
            raise InputError(f"{place} must be a list of choices, or a range as {{low: 1, high: 5}}, not {item!r}")
    return space


def _choices(items: list[Any], name: str, where: str, base: Mapping[str, Any]) -> Choices:
    place = f"{where}: {name}"
    entries: list[tuple[dict[str, Any], Any]] = []
    for item in items:
        several = isinstance(item, Mapping) and name not in _MAPPINGS
        raw = dict(item) if several else {name: item}
        inner = raw.pop("search", None) if several else None
        told = _named(raw, place)
        _try(told, base, f"'{place}'")
        entries.append((told, inner))
    choices: Choices = {}
    short = [_text(told.get(name, "")) for told, _ in entries]
    for (told, inner), text in zip(entries, short, strict=True):
        # Its value says enough, unless others have that too
        label = text if text and short.count(text) == 1 else _label(name, told)
        if not label or label in choices:
            raise InputError(f"'{place}': the choice {label or 'of nothing'} stands twice")
        choices[label] = Choice(told, _space(inner, f"{place}: {label}: search", _merged(base, told)))
    return choices


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _label(name: str, told: Mapping[str, Any]) -> str:
    """A choice in words: its value, then what else it sets."""
    flat: dict[str, Any] = {}
    for key, value in told.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return " ".join(_text(v) if k == name else f"{k}={_text(v)}" for k, v in flat.items())


def _range(item: Mapping[str, Any], name: str, place: str) -> Range:
    _only(item, ("low", "high", "log", "step"), f"key in {place}")
    low, high, log = _number(item.get("low"), "low", place), _number(item.get("high"), "high", place), item.get("log")
    step = None if item.get("step") is None else _number(item["step"], "step", place)
    if not low < high:
        raise InputError(f"{place}: 'low' must be below 'high'")
    if log not in (None, True, False):
        raise InputError(f"{place}: 'log' must be true or false, not {log!r}")
    if log and (step is not None or low <= 0):
        raise InputError(f"{place}: 'log' goes with a 'low' above 0 and without a 'step'")
    if step is not None and not 0 < step <= high - low:
        raise InputError(f"{place}: 'step' must lie between 0 and high - low")
    field = _CHANGES.get(name.partition(".")[2]) if name.startswith("augmentation.") else _FIELDS.get(name)
    fraction = field is not None and isinstance(field.default, float)
    whole = not fraction and all(n is None or isinstance(n, int) for n in (low, high, step))
    found = Range(low, high, bool(log), step, whole)
    return found if step is None else dataclasses.replace(found, high=found.values[-1])


def _number(value: Any, key: str, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{place}: '{key}' must be a number, not {value!r}")
    return value


def _try(told: Mapping[str, Any], base: Mapping[str, Any], place: str) -> None:
    """Refuse values that do not fit their settings."""
    try:
        from_mapping(_merged(base, told))
    except InputError as error:
        raise InputError(f"{place}: {error.message}") from None


def _named(raw: Any, where: str, searched: bool = False) -> dict[str, Any]:
    """A mapping with the names of settings as its keys."""
    if not isinstance(raw, Mapping | None):
        raise InputError(f"'{where}' must be a mapping of names to values, not {raw!r}")
    told: dict[str, Any] = {}
    for key, value in (raw or {}).items():
        name = _setting(str(key), where)
        if name in told:
            raise InputError(f"'{where}: {key}' stands twice")
        if name in _MAPPINGS and not searched and not isinstance(value, Mapping):
            raise InputError(f"'{where}: {key}' must be a mapping of names to values, not {value!r}")
        told[name] = value
    return told


def _setting(key: str, where: str) -> str:
    """The name of a setting, perhaps with a dot that leads into options or augmentation."""
    name = key.replace("-", "_")
    head, dot, tail = name.partition(".")
    if head not in _FIELDS:
        raise InputError(f"'{where}': there is {unknown('setting', key, list(_FIELDS))}")
    if head == "monitor":
        raise InputError(f"'{where}: monitor' is what the sweep's 'metric' says: leave it out")
    if dot and head not in _MAPPINGS:
        raise InputError(f"'{where}: {key}': '{head}' holds no further settings")
    if head == "augmentation" and dot and tail not in _CHANGES:
        raise InputError(f"'{where}': there is {unknown('augmentation', tail, list(_CHANGES))}")
    return name


def _merged(base: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what is told; within options and augmentation what is not told stays."""
    merged = dict(base)
    for name, value in told.items():
        head, dot, tail = name.partition(".")
        if dot:
            merged[head] = {**merged.get(head, {}), tail: value}
        elif head in _MAPPINGS and isinstance(value, Mapping):
            merged[head] = {**merged.get(head, {}), **value}
        else:
            merged[head] = value
    return merged


def _walk(space: Space, pick: Pick, prefix: str = "") -> dict[str, Any]:
    """The settings that `pick` chooses. A parameter below a choice is named ``LABEL/NAME``."""
    told: dict[str, Any] = {}
    for name, item in space.items():
        value = pick(prefix + name, item)
        if isinstance(item, Range):
            told[name] = value
        else:
            told |= item[value].told
            told |= _walk(item[value].search, pick, f"{prefix}{value}/")
    return told


def _each(space: Space, prefix: str = "") -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    for name, item in space.items():
        if isinstance(item, Range):
            continue
        for label, choice in item.items():
            here = {prefix + name: label}
            yield here, choice.told
            for labels, told in _each(choice.search, f"{prefix}{label}/"):
                yield {**here, **labels}, {**choice.told, **told}


def _parameters(space: Space, prefix: str = "") -> Iterator[tuple[str, Range | Choices]]:
    for name, item in space.items():
        yield prefix + name, item
        if not isinstance(item, Range):
            for label, choice in item.items():
                yield from _parameters(choice.search, f"{prefix}{label}/")


def _points(space: Space, prefix: str = "") -> list[dict[str, Any]]:
    """Every combination, as parameters by name."""
    axes: list[list[dict[str, Any]]] = []
    for name, item in space.items():
        if isinstance(item, Range):
            if item.step is None:
                raise InputError(f"a grid takes all values, and '{name}' has no end of them: give a list or a 'step'")
            axes.append([{prefix + name: value} for value in item.values])
        else:
            pairs = [(label, inner) for label, c in item.items() for inner in _points(c.search, f"{prefix}{label}/")]
            axes.append([{prefix + name: label, **inner} for label, inner in pairs])
    if (count := math.prod(len(axis) for axis in axes)) > MAX_GRID:
        raise InputError(f"the grid has {count} points: leave some out, or take method random or tpe")
    return [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*axes)]


def _only(told: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in told:
        if key not in known:
            raise InputError(f"there is {unknown(what, str(key), known)}")


def _whole(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"'{name}' must be a whole number from {least}, not {value!r}")
    return value
