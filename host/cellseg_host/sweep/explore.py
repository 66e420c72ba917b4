"""What a search can choose, found by asking it: it may be the user's own function, of which nothing else is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from cellseg_device.errors import InputError

MAX_GRID = 10_000

# Returns settings, and asks the trial for each parameter that they depend on
Search = Callable[[optuna.Trial], dict[str, Any]]
Parameters = dict[str, Any]


class Chosen(optuna.samplers.BaseSampler):
    """Gives each parameter the value that ``choose(name, distribution)`` returns."""

    def __init__(self, choose: Callable[[str, Any], Any]) -> None:
        self._choose = choose

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        """Return nothing: no parameter depends on the others."""
        return {}

    def sample_relative(self, *_: Any) -> Parameters:
        """Return nothing: no parameter depends on the others."""
        return {}

    def sample_independent(
        self,
        study: Any,  # noqa: ARG002 - Optuna's signature
        trial: Any,  # noqa: ARG002
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the value of a parameter."""
        return self._choose(param_name, param_distribution)


def trial_of(choose: Callable[[str, Any], Any]) -> optuna.Trial:
    """Return a trial, of no sweep, with the parameters that ``choose(name, distribution)`` returns."""
    return optuna.create_study(sampler=Chosen(choose)).ask()


def first_trial(parameters: Mapping[str, Any]) -> optuna.Trial:
    """Return a trial, of no sweep, with these parameters; of all others with the first choice or the lowest number."""

    def choose(name: str, kind: Any) -> Any:
        first = kind.choices[0] if isinstance(kind, CategoricalDistribution) else kind.low
        return parameters.get(name, first)

    return trial_of(choose)


def choices(search: Search) -> list[Parameters]:
    """Return, for each choice there is, the parameters that lead to it."""
    found: dict[tuple[str, Any], Parameters] = {}
    todo: list[Parameters] = [{}]
    for parameters in todo:
        trial = first_trial(parameters)
        search(trial)
        for name, kind in trial.distributions.items():
            for value in kind.choices if isinstance(kind, CategoricalDistribution) else ():
                if (name, value) not in found:
                    found[name, value] = {**parameters, name: value}
                    todo.append(found[name, value])
    return list(found.values())


def grid(search: Search) -> list[Parameters]:
    """Return every combination of parameters; the one that is asked for last varies fastest.

    Raises
    ------
    InputError
        If there are more than `MAX_GRID`, or a parameter has endless values.
    """
    points: list[Parameters] = []
    todo: list[Parameters] = [{}]
    while todo:
        points.append(_next_point(search, todo))
        if len(points) + len(todo) > MAX_GRID:
            raise InputError(f"the grid has more than {MAX_GRID} points: shorten it, or use method random or tpe")
    return points


def _next_point(search: Search, todo: list[Parameters]) -> Parameters:
    """Return the first point that starts with the last parameters in `todo`, which then holds how the others start."""
    start, point = todo.pop(), Parameters()

    def choose(name: str, kind: Any) -> Any:
        if name in start:
            point[name] = start[name]
        else:
            first, *others = values(name, kind)
            todo.extend({**point, name: value} for value in reversed(others))
            point[name] = first
        return point[name]

    search(trial_of(choose))
    return point


def values(name: str, kind: Any) -> list[Any]:
    """Return all values of a parameter.

    Raises
    ------
    InputError
        If they are endless.
    """
    if isinstance(kind, CategoricalDistribution):
        return list(kind.choices)
    if kind.step is None or kind.log:
        raise InputError(f"a grid needs all values of '{name}', which are endless: give a list or a 'step'")
    if isinstance(kind, IntDistribution):
        return list(range(kind.low, kind.high + 1, kind.step))
    return [round(kind.low + n * kind.step, 12) for n in range(round((kind.high - kind.low) / kind.step) + 1)]
