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
      base: {epochs: 30, steps: 50}          # settings of all trials, as of train
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
      method: tpe                            # or random; or grid: every combination
      trials: 40
      metric: mean_ap                        # of the validation images
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
    """What is said of a trial when it is finished."""
    best = sweep.best()
    value = "" if trial.value is None else f" {sweep.plan.metric} {trial.value:.3f}"
    so_far = f" (best {best.value:.3f}, trial {best.number})" if best and best.value is not None else ""
    return (
        f"trial {trial.number} {trial.state}{value} in {trial.epochs} epochs{so_far}  {trial.reason or _chosen(trial)}"
    )


def _show(told: dict[str, Any], sweep: Sweep, as_json: bool) -> None:
    """Print all trials, best first, and how to repeat the best."""
    from cellseg_host.console import to_json
    from cellseg_host.sweep import report

    trials = report.ranked(sweep)
    if as_json:
        click.echo(to_json(told))
    else:
        click.echo(f"\ntrial  state     {sweep.plan.metric:>8}  epochs  settings")
        for trial in trials:
            value = "" if trial.value is None else f"{trial.value:.3f}"
            click.echo(f"{trial.number:5}  {trial.state:<8}  {value:>8}  {trial.epochs:6}  {_chosen(trial)}")
    for reason in dict.fromkeys(t.reason for t in trials if t.reason):
        numbers = [str(t.number) for t in trials if t.reason == reason]
        say(f"trial {', '.join(numbers)} failed: {reason}")
    if trials and all(t.state == "failed" for t in trials):
        raise InputError(f"{sweep.folder}: all trials failed")
    if told["best"] and not as_json:
        click.echo(f"best: trial {told['best']['number']}, {told['best']['run']}")
        click.echo(f"again: {told['repeat']}")


def _chosen(trial: Trial) -> str:
    return "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.parameters.items())
