"""The results of a sweep: a table of all trials, and plots that show where the good ones lie.

::

    SWEEP/trials.csv       one row per trial
    SWEEP/trials.json      the same, with the best and how to repeat it, and what mattered
    SWEEP/history.png      the metric of each trial, and the best so far
    SWEEP/parameters.png   the metric against each parameter, those that mattered most first; none without parameters
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import shlex
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution

from cellseg_device.system import files
from cellseg_device.system.csv_text import csv_bytes
from cellseg_host.sweep.study import Sweep, Trial

# With fewer complete trials nothing can be said about which parameter mattered
IMPORTANCE_TRIALS = 10
_COLUMNS = 3
_COLOURS = {"pruned": "0.7", "complete": "C0"}


def document(sweep: Sweep, data: Path) -> dict[str, Any]:
    """Return the sweep as it is now, for trials.json.

    Parameters
    ----------
    sweep : Sweep
    data : Path
        The dataset, as the user named it.
    """
    trials, best = sweep.trials(), sweep.best()
    return {
        "sweep": str(sweep.folder),
        "metric": sweep.plan.metric,
        "best": best and {"number": best.number, "value": best.value, "run": str(sweep.folder / best.run)},
        "repeat": best and repeat(sweep, best, data),
        "importance": importance(sweep),
        "trials": [dataclasses.asdict(t) for t in trials],
    }


def repeat(sweep: Sweep, trial: Trial, data: Path) -> str:
    """Return the command that trains a trial once more."""
    words = ["cellseg-host", "train", data, "--config", sweep.folder / trial.run / "config.toml"]
    return shlex.join(map(str, [*words, "--out", f"runs/{sweep.folder.name}-{trial.number}"]))


def importance(sweep: Sweep) -> dict[str, float]:
    """Return the share of the metric's variation among the best trials that each parameter explains, largest first.

    By PED-ANOVA [1]_, in Optuna; empty for fewer than `IMPORTANCE_TRIALS` complete trials.

    References
    ----------
    .. [1] S. Watanabe et al., PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary subspaces.
       IJCAI 2023.
    """
    if sum(t.state == "complete" for t in sweep.trials()) < IMPORTANCE_TRIALS:
        return {}
    with warnings.catch_warnings():
        # It warns of rough shares where a conditional parameter has few trials, or all are alike
        warnings.simplefilter("ignore", UserWarning)
        return {k: round(float(v), 4) for k, v in optuna.importance.get_param_importances(sweep.study).items()}


def names(trials: Sequence[Trial]) -> list[str]:
    """Return the names of all parameters, in the order in which trials chose them."""
    return list(dict.fromkeys(name for t in trials for name in t.parameters))


def ranked(sweep: Sweep) -> list[Trial]:
    """Return the trials, best first; those without a value last, by number."""
    sign = 1 if sweep.minimizes else -1
    return sorted(
        sweep.trials(),
        key=lambda t: (t.state != "complete", math.inf if t.value is None else sign * t.value, t.number),
    )


def write(sweep: Sweep, data: Path) -> dict[str, Any]:
    """Write the tables and plots into the sweep's folder, and return `document`."""
    results = document(sweep, data)
    trials = sweep.trials()
    head = [f.name for f in dataclasses.fields(Trial) if f.name != "parameters"]
    parameters = names(trials)
    rows = [[*(getattr(t, n) for n in head), *(t.parameters.get(n, "") for n in parameters)] for t in trials]
    files.write(sweep.folder / "trials.csv", csv_bytes([[*head, *parameters], *rows]))
    files.write(sweep.folder / "trials.json", (json.dumps(results, indent=2, ensure_ascii=False) + "\n").encode())
    if any(t.value is not None for t in trials):
        files.write(sweep.folder / "history.png", _history(sweep, trials))
        if parameters:
            files.write(sweep.folder / "parameters.png", _parameters(sweep, trials, results["importance"]))
    return results


def _history(sweep: Sweep, trials: Sequence[Trial]) -> bytes:
    figure, (axes,) = _figure(1, 1, (8, 4))
    for state, colour in _COLOURS.items():
        if found := [t for t in trials if t.state == state and t.value is not None]:
            axes.scatter([t.number for t in found], [t.value for t in found], s=22, color=colour, label=state, zorder=3)
    failed = [t.number for t in trials if t.state == "failed"]
    axes.scatter(
        failed, [0.02] * len(failed), marker="x", color="C3", label="failed", transform=axes.get_xaxis_transform()
    )
    complete = [t for t in trials if t.state == "complete" and t.value is not None]
    so_far: list[float] = []
    for trial in complete:
        value = trial.value or 0.0
        so_far.append(value if not so_far else (min if sweep.minimizes else max)(so_far[-1], value))
    axes.step([t.number for t in complete], so_far, where="post", color="C1", label="best so far")
    axes.set(xlabel="trial", ylabel=sweep.plan.metric)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8)
    return _png(figure)


def _parameters(sweep: Sweep, trials: Sequence[Trial], shares: dict[str, float]) -> bytes:
    """Return a panel for each parameter: numbers along an axis, choices side by side with their median."""
    shown = sorted(names(trials), key=lambda name: -shares.get(name, 0.0))
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, panels = _figure(rows, columns, (4 * columns, 3.2 * rows))
    kinds = {k: kind for t in sweep.study.get_trials(deepcopy=False) for k, kind in t.distributions.items()}
    for axes, name in zip(panels, shown, strict=False):
        having = [t for t in trials if t.value is not None and name in t.parameters]
        for state, colour in _COLOURS.items():
            found = [t for t in having if t.state == state]
            _points(axes, kinds[name], [t.parameters[name] for t in found], [t.value or 0.0 for t in found], colour)
        axes.set_title(name + (f" ({shares[name]:.0%})" if name in shares else ""), fontsize=9)
        axes.set_ylabel(sweep.plan.metric, fontsize=8)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    note = "grey: pruned, by their last epoch" if any(t.state == "pruned" for t in trials) else ""
    figure.suptitle("   ".join(["in brackets: share of the variation explained"] * bool(shares) + [note]), fontsize=8)
    return _png(figure)


def _points(axes: Any, kind: BaseDistribution, values: Sequence[Any], metric: Sequence[float], colour: str) -> None:
    if not isinstance(kind, CategoricalDistribution):
        axes.scatter(values, metric, s=18, alpha=0.7, color=colour)
        axes.set_xscale("log" if getattr(kind, "log", False) else "linear")
        return
    labels = list(kind.choices)
    places = [labels.index(v) for v in values]
    axes.scatter(places, metric, s=18, alpha=0.7, color=colour)
    if colour == _COLOURS["complete"]:
        for place in sorted(set(places)):
            middle = statistics.median(m for p, m in zip(places, metric, strict=True) if p == place)
            axes.hlines(middle, place - 0.3, place + 0.3, color="C1")
    axes.set_xticks(range(len(labels)), [_short(str(label)) for label in labels], rotation=20, ha="right", fontsize=8)
    axes.set_xlim(-0.5, len(labels) - 0.5)


def _short(label: str, most: int = 24) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure, panels


def _png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
