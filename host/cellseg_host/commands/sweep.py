"""The command ``cellseg-host sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.errors import InputError
from cellseg_device.quiet import say

if TYPE_CHECKING:
    from cellseg_host.history import Epoch
    from cellseg_host.sweep.study import Sweep, Trial

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--data", type=_FOLDER, metavar="DATASET", help="Needed unless there is only a --report to make.")
@click.option("--out", type=_FOLDER, required=True, metavar="SWEEP", help="The sweep's folder.")
@click.option("--trials", type=click.IntRange(1), help="In all, other than CONFIG says; more than before goes on.")
@click.option("--prune", is_flag=True, help="Stop trials that are worse than the median of those before.")
@click.option("--report", "report_only", is_flag=True, help="Train nothing: tables and plots of what there is.")
@click.option("--json", "as_json", is_flag=True, help="Print trials.json at the end, and nothing else.")
def sweep(
    config: Path,
    data: Path | None,
    out: Path,
    trials: int | None,
    prune: bool,
    report_only: bool,
    as_json: bool,
) -> None:
    """Train with many settings to find the best: a grid or a search over architectures, losses, and all else.

    CONFIG is a YAML file:

    \b
      base: {epochs: 30, steps: 50}            settings of all trials, as train has them
      search:
        arch:                                  a list of choices; one may set several settings,
          - edge-unet                          and have a search of its own
          - {arch: unet, options: {activation: elu}, search: {options.batch_norm: [true, false]}}
        loss: [boundary, bce-dice]
        learning_rate: {low: 1e-4, high: 1e-2, log: true}
        augmentation.blur_px: {low: 0, high: 3, step: 0.5}
      method: tpe                              or random, or grid: all combinations
      trials: 40
      metric: mean_ap                          of the validation images
      seed: 0

    It may be stopped at any time, by kill -9 too: the same command goes on with it. Given in several terminals, or on
    several machines that share the folder, they share the work. Each trial is a run in SWEEP/trials; SWEEP/trials.csv,
    trials.json, history.png and parameters.png show them all.

    \b
    Examples:
      cellseg-host sweep sweep.yaml --data nuclei-data --out sweeps/first
      cellseg-host sweep sweep.yaml --data nuclei-data --out sweeps/first --trials 80
      cellseg-host sweep sweep.yaml --out sweeps/first --report --json | jq .repeat
    """
    from cellseg_host.console import bar
    from cellseg_host.data.dataset import load
    from cellseg_host.sweep import report, space, study
    from cellseg_host.tensorflow_quietly import import_tensorflow

    plan = space.read(config)
    if report_only:
        opened = study.open_sweep(out, plan, config.read_bytes(), None)
        _show(report.write(opened, data or Path("DATASET")), opened, as_json)
        return
    if data is None:
        raise InputError("--data is missing: name the dataset to train on")
    wanted, dataset = plan.count(trials), load(data)
    import_tensorflow()
    study.check(plan, dataset)
    opened = study.open_sweep(out, plan, config.read_bytes(), dataset)
    try:
        with bar() as progress:
            task = progress.add_task("trial", total=None)

            def on_step(done: int, steps: int) -> None:
                progress.update(task, completed=done, total=steps)

            def on_epoch(number: int, epoch: Epoch) -> None:
                progress.update(task, description=f"trial {number}, epoch {epoch.epoch + 1}", completed=0)

            for trial in study.work(opened, dataset, wanted, prune, on_epoch, on_step):
                if not as_json:
                    click.echo(_line(trial, opened))
    except KeyboardInterrupt:
        raise click.ClickException("stopped; the same command goes on") from None
    finally:
        told = report.write(opened, data)
    _show(told, opened, as_json)


def _line(trial: Trial, sweep: Sweep) -> str:
    best = sweep.best()
    value = "" if trial.value is None else f" {sweep.plan.metric} {trial.value:.3f}"
    so_far = f" (best {best.value:.3f}, trial {best.number})" if best and best.value is not None else ""
    chosen = "  ".join(f"{name}={_text(v)}" for name, v in trial.parameters.items())
    return f"trial {trial.number} {trial.state}{value} in {trial.epochs} epochs{so_far}  {trial.reason or chosen}"


def _show(told: dict[str, Any], sweep: Sweep, as_json: bool) -> None:
    """Print all trials, best first, and how to repeat the best."""
    from rich.markup import escape

    from cellseg_host.console import print_table, to_json
    from cellseg_host.sweep import report

    trials = report.ranked(sweep)
    if as_json:
        click.echo(to_json(told))
    else:
        names = report.names(trials)
        rows = [
            [
                str(t.number),
                t.state,
                "" if t.value is None else f"{t.value:.3f}",
                str(t.epochs),
                *(escape(_text(t.parameters.get(n, ""))) for n in names),
            ]
            for t in trials
        ]
        print_table(str(sweep.folder), ["trial", "state", sweep.plan.metric, "epochs", *map(escape, names)], rows)
    for trial in trials:
        if trial.reason:
            say(f"trial {trial.number} failed: {trial.reason}")
    if trials and all(t.state == "failed" for t in trials):
        raise InputError(f"{sweep.folder}: all trials failed")
    if told["best"] and not as_json:
        click.echo(f"best: trial {told['best']['number']}, {told['best']['run']}")
        click.echo(f"again: {told['repeat']}")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
