"""The command ``cellseg-host sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.command_line import Command, section
from cellseg_device.errors import InputError
from cellseg_device.stderr import say

if TYPE_CHECKING:
    from cellseg_host.sweep.study import Sweep, Trial
    from cellseg_host.training.history import Epoch

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(cls=Command, short_help="Train with many settings to find the best.")
@click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
@section(
    "Sweep",
    click.option("--data", type=_FOLDER, metavar="DATASET", help="Needed except with --report."),
    click.option("--out", type=_FOLDER, required=True, metavar="SWEEP", help="The sweep's folder."),
    click.option(
        "--trials",
        type=click.IntRange(1),
        help="Trials in all, instead of those in CONFIG; with more than before, the sweep continues.",
    ),
    click.option("--prune", is_flag=True, help="Stop trials that are worse than the median of earlier ones."),
)
@section(
    "Results",
    click.option(
        "--report", "report_only", is_flag=True, help="Train nothing; write tables and plots of the trials so far."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print only trials.json, at the end."),
)
def sweep(
    *,
    config: Path,
    data: Path | None,
    out: Path,
    trials: int | None,
    prune: bool,
    report_only: bool,
    as_json: bool,
) -> None:
    """Train with many settings to find the best: a grid or a search over architectures, losses and all other settings.

    CONFIG is a TOML file:

    \b
      method = "tpe"      # or "random", or "grid": every combination
      trials = 40
      metric = "mean_ap"  # of the validation images
      seed = 0
    \b
      [settings]          # of all trials, as in a run's config.toml
      epochs = 30
      steps = 50
    \b
      [search]
      loss = ["boundary", "bce-dice"]                          # one of these
      learning-rate = { low = 1e-4, high = 1e-2, log = true }  # a number from low to high
      augmentation.blur_px = { low = 0, high = 3, step = 0.5 }
      arch = [
          "edge-unet",
          # several settings at once, and a search of its own for the trials that choose it
          { arch = "unet", options.activation = "elu", search.options.batch_norm = [true, false] },
      ]

    Or search = "FILE.py:search", a function of yours: search(trial) is given Optuna's trial and returns settings.

    It can be stopped at any time, even by kill -9: the same command continues it. In several terminals, or on several
    machines that share the folder, it shares the work. Each trial is a run in SWEEP/trials; SWEEP/trials.csv,
    trials.json, history.png and parameters.png show them all.

    \b
    Examples:
      cellseg-host sweep sweep.toml --data nuclei-data --out sweeps/first
      cellseg-host sweep sweep.toml --data nuclei-data --out sweeps/first --trials 80
      cellseg-host sweep sweep.toml --out sweeps/first --report --json | jq .repeat
    """
    from cellseg_host.commands.console import StoppedError, bar
    from cellseg_host.data.dataset import load
    from cellseg_host.data.whole_folder import check_place
    from cellseg_host.sweep import plan as plans
    from cellseg_host.sweep import report, study
    from cellseg_host.tensorflow_quietly import import_tensorflow

    plan = plans.read(config)
    if report_only:
        opened = study.open_sweep(out, plan, None)
        _show(report.write(opened, data or Path("DATASET")), opened, data, as_json=as_json)
        return
    if data is None:
        raise InputError("--data is missing: name the dataset to train on")
    check_place(out)
    wanted, dataset = plan.count(trials), load(data)
    images = ", ".join(f"{len(dataset.labelled(split)):,} of {split}" for split in ("train", "val"))
    if not as_json:
        click.echo(f"{wanted} trials in all, {plan.method} by {plan.metric}; images: {images} ({data})")
        click.echo("loading TensorFlow …")
    import_tensorflow()
    study.check(plan, dataset)
    opened = study.open_sweep(out, plan, dataset)
    try:
        with bar() as progress:
            task = progress.add_task("trial", total=None)

            def on_step(done: int, steps: int) -> None:
                progress.update(task, completed=done, total=steps)

            def on_epoch(number: int, epoch: Epoch) -> None:
                progress.update(task, description=f"trial {number}, epoch {epoch.epoch + 1}", completed=0)

            for trial in study.work(opened, dataset, wanted, prune=prune, on_epoch=on_epoch, on_step=on_step):
                if not as_json:
                    click.echo(_line(trial, opened))
    except KeyboardInterrupt:
        raise StoppedError("stopped; the same command continues the sweep") from None
    finally:
        results = report.write(opened, data)
    _show(results, opened, data, as_json=as_json)


def _line(trial: Trial, sweep: Sweep) -> str:
    """Return the line printed about a finished trial."""
    best = sweep.best()
    value = "" if trial.value is None else f" {sweep.plan.metric} {trial.value:.3f}"
    so_far = f" (best {best.value:.3f}, trial {best.number})" if best and best.value is not None else ""
    return (
        f"trial {trial.number} {trial.state}{value} in {trial.epochs} epochs{so_far}  {trial.reason or _chosen(trial)}"
    )


def _show(results: dict[str, Any], sweep: Sweep, data: Path | None, *, as_json: bool) -> None:
    """Print all trials, best first, how to repeat the best, and how to make a model of it."""
    from cellseg_host.commands.console import print_next
    from cellseg_host.json_text import to_json
    from cellseg_host.sweep import report

    trials = report.ranked(sweep)
    if as_json:
        click.echo(to_json(results))
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
    if results["best"] and not as_json:
        click.echo(f"best: trial {results['best']['number']}, {results['best']['run']}")
        click.echo(f"again: {results['repeat']}")
        name = f"{sweep.folder.resolve().name}.tflite"
        print_next(
            "cellseg-host", "quantize", results["best"]["run"], "--int8", "--data", data or "DATASET", "--out", name
        )


def _chosen(trial: Trial) -> str:
    return "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.parameters.items())
