"""A sweep's plan, from its TOML file: the settings of all trials, what is searched, and how.

::

    method = "tpe"      # or "random"; or "grid": every combination of lists, steps and whole numbers
    trials = 40         # of a grid all, if left out
    metric = "mean_ap"  # the validation score to be best, by which each run keeps its network too
    seed = 0

    [settings]          # of all trials, as of `train`
    epochs = 30
    augmentation.noise = 0

    [search]            # see `space`
    loss = ["boundary", "bce-dice"]

Instead of the table, ``search = "FILE.py:search"`` names a function that returns settings for Optuna's trial::

    def search(trial):
        return {"loss": trial.suggest_categorical("loss", ["boundary", "bce-dice"])}
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import optuna

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown
from cellseg_device.system import toml_file
from cellseg_host.plugins import loading
from cellseg_host.sweep import explore, space
from cellseg_host.sweep.space import Settings
from cellseg_host.training.settings import TrainSettings, from_mapping

METHODS = ("grid", "random", "tpe")
_KEYS = ("settings", "search", "method", "trials", "metric", "seed")


@dataclass(frozen=True)
class Plan:
    """A sweep's configuration.

    Attributes
    ----------
    identity : dict
        What makes it the same sweep: all that the file says but the number of trials.
    files : dict of str to bytes
        What a sweep keeps a copy of, by name in its folder.
    folder : Path
        Where the user's own code is looked for first.
    settings : dict
        Of all trials.
    search : callable
        Returns a trial's further settings.
    method : str
    trials : int or None
        How many; None for a whole grid.
    metric : str
    seed : int
    """

    identity: dict[str, Any]
    files: dict[str, bytes]
    folder: Path
    settings: Settings
    search: explore.Search
    method: str
    trials: int | None
    metric: str
    seed: int

    def settings_of(self, trial: optuna.Trial) -> TrainSettings:
        """Return all settings of a trial.

        Raises
        ------
        InputError
            If one is unknown or its value does not fit.
        """
        chosen = space.merged(self.settings, self.search(trial))
        if "monitor" in chosen:
            raise InputError("'monitor' is what the sweep's 'metric' says: leave it out")
        return from_mapping(loading.beside(self.folder, {**chosen, "monitor": self.metric}))

    @cached_property
    def points(self) -> list[explore.Parameters]:
        """The parameters of each trial of the grid."""
        return explore.grid(self.search)

    def count(self, trials: int | None = None) -> int:
        """Return the number of trials in all: `trials`, or what the file says.

        Raises
        ------
        InputError
            If neither says so, and the method has no end of its own.
        """
        trials = trials or self.trials
        if self.method == "grid":
            return min(len(self.points), trials or explore.MAX_GRID)
        if trials is None:
            raise InputError(f"'trials' is missing: say how many the method '{self.method}' makes")
        return trials


def read(path: Path) -> Plan:
    """Read a sweep's TOML file.

    Raises
    ------
    InputError
        If something in it is unknown (the most similar name is suggested), of the wrong kind, or missing.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    document = toml_file.read(path)
    try:
        return _plan(_canonical(document), path)
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from None


def _plan(document: dict[str, Any], path: Path) -> Plan:
    for key in document:
        if key not in _KEYS:
            raise InputError(f"there is {unknown('key', key, _KEYS)}")
    for key, least in {"trials": 1, "seed": 0}.items():
        value = document.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"'{key}' must be a whole number from {least}, not {value!r}")
    settings, search = document.get("settings", {}), document.get("search")
    method, metric = document.get("method", "tpe"), document.get("metric", "mean_ap")
    if method not in METHODS:
        raise InputError(f"'method': there is {unknown('method', str(method), METHODS)}")
    if not isinstance(metric, str):
        raise InputError(f"'metric' must be the name of a validation score, not {metric!r}")
    if not isinstance(settings, dict):
        raise InputError(f"'settings' must be a table of names and values, not {settings!r}")
    space.check(settings, "settings")
    text = path.read_bytes()
    identity, files = {key: value for key, value in document.items() if key != "trials"}, {"sweep.toml": text}
    if isinstance(search, str):
        spec = loading.beside(path.parent, search)
        ask: explore.Search = partial(_asked, loading.find(spec, "search ="))
        source, kept = loading.source(spec), loading.kept_in(Path("plugins"), spec)
        identity["search"] = f"{Path(kept).name} {hashlib.sha256(source).hexdigest()}"
        files = {"sweep.toml": text.replace(search.encode(), kept.encode()), kept.rpartition(":")[0]: source}
    elif search and isinstance(search, dict):
        ask = partial(space.suggested, space.read(search, "search"))
    else:
        raise InputError('\'search\' is empty: say there what is searched, as loss = ["bce", "dice"]')
    identity = json.loads(json.dumps(identity, default=str))
    plan = Plan(
        identity, files, path.parent, settings, ask, method, document.get("trials"), metric, document.get("seed", 0)
    )
    if method == "grid":
        plan.count()  # an endless one is refused at once
    return plan


def _asked(plugin: loading.Plugin, trial: optuna.Trial) -> Settings:
    """Return the settings that a user's function returns."""
    with warnings.catch_warnings():
        # Optuna only warns of choices that are lists or tables, which the check and the tables of trials cannot name
        warnings.filterwarnings("error", "Choices for a categorical distribution", UserWarning)
        settings = plugin.guarded(trial)
    if not isinstance(settings, Mapping):
        raise plugin.error(f"must return a dict of settings, not {loading.described(settings)}")
    canonical: Settings = _canonical(settings)
    return canonical


def _canonical(value: Any) -> Any:
    """Return settings with underscores for the hyphens in their names."""
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    table = {str(key).replace("-", "_"): _canonical(item) for key, item in value.items()}
    if len(table) < len(value):
        raise InputError(f"a setting is given twice among {', '.join(map(str, value))}")
    return table
