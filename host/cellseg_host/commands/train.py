"""The command ``cellseg-host train``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cellseg_host import config
from cellseg_host.settings import AT_LEAST, CLASS_WEIGHTS, FREEZES, KEEPS, PRECISIONS, SCHEDULES, TrainSettings

_DEFAULT = TrainSettings()
_FOLDER = click.Path(path_type=Path, file_okay=False)
_Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def _setting(flag: str, kind: click.ParamType, text: str | None = None) -> _Option:
    """A number or a word among the settings, with their default."""
    default = getattr(_DEFAULT, flag.strip("-").replace("-", "_"))
    return click.option(flag, type=kind, default=default, show_default=True, help=text)


def _count(flag: str, text: str) -> _Option:
    """A whole number among the settings."""
    return _setting(flag, click.IntRange(AT_LEAST[flag.strip("-")]), text)


@click.command()
@click.argument("dataset", type=_FOLDER)
@config.option
@click.option("--out", type=_FOLDER, help="The run's folder.  [default: runs/ARCH]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, with the settings it was started with.")
@click.option(
    "--arch",
    metavar="NAME|FILE.py:BUILD",
    default=_DEFAULT.arch,
    show_default=True,
    help="The network: see 'cellseg-host architectures'; or a function of your own, build(heads, **options).",
)
@click.option(
    "--option",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=config.key_values,
    help="An option of the network, say activation=elu or filters=8,16,32. May be given several times.",
)
@click.option(
    "--heads",
    metavar="NAME,…",
    callback=config.comma_list,
    help="What it learns to draw: foreground, and distance, centre or outline.  [default: the network's own]",
)
@click.option(
    "--loss",
    metavar="NAME|FILE.py:LOSS",
    default=_DEFAULT.loss,
    show_default=True,
    help="Of the foreground: bce, dice, bce-dice, focal, tversky, weighted-accuracy, boundary; or a function of your "
    "own, loss(y_true, y_pred) of probabilities.",
)
@click.option(
    "--metric",
    "metrics",
    metavar="FILE.py:METRIC",
    multiple=True,
    help="A validation metric of your own, metric(true_labels, labels) -> float. May be given several times.",
)
@_setting("--class-weight", click.Choice(CLASS_WEIGHTS))
@_setting("--gap-weight", click.FloatRange(AT_LEAST["gap_weight"], 1000), "Extra weight of a pixel between two nuclei.")
@_count("--epochs", "At most, in each round.")
@_count("--rounds", "Each goes on from the best network with a tenth of the learning rate.")
@_count("--steps", "Batches in an epoch.")
@_count("--batch", "Views in a batch.")
@_count("--side", "Side of a view, pixels.")
@_setting("--learning-rate", click.FloatRange(0, min_open=True), "The highest, reached after one epoch.")
@_setting("--schedule", click.Choice(SCHEDULES))
@_count("--patience", "Epochs without progress that end a round; none do with --keep last.")
@click.option(
    "--monitor",
    metavar="SCORE",
    help="Validation score whose best network is kept: mean_ap, ap50, mean_iou, val_loss, or a metric of your own; "
    "auc or accuracy of a classifier.  [default: mean_ap; auc]",
)
@_setting(
    "--keep", click.Choice(KEEPS), "The network that is best by that score, or the last one, whatever its scores."
)
@_count("--swa", "Further epochs whose weights are averaged (stochastic weight averaging).")
@click.option(
    "--init",
    type=click.Path(path_type=Path, exists=True),
    metavar="RUN|MODEL.tflite",
    help="Start from the weights of a run, or of a model such as the released one.",
)
@click.option(
    "--teacher",
    "teachers",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="MODEL.tflite",
    multiple=True,
    help="Half of what is learnt is what this model sees in the training images, from eight sides. May be given "
    "several times: their mean.",
)
@_setting("--freeze", click.Choice(FREEZES), "What keeps its weights.")
@click.option(
    "--encoder-weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Pretrained weights of the encoder, a Keras file of yours; nothing is downloaded.",
)
@_setting("--precision", click.Choice(PRECISIONS), "bfloat16 trains faster on a processor with AVX512-BF16 or AMX.")
@_count("--seed", "Same seed, same views.")
@click.option(
    "--augment",
    "augmentation",
    metavar="KEY=VALUE",
    multiple=True,
    callback=config.key_values,
    help="A range of the random changes, say blur_px=2 or scale=0.8,1.25. May be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each epoch.")
def train(dataset: Path, out: Path | None, resume: bool, as_json: bool, **told: Any) -> None:
    """Train a network on DATASET's train split, keeping the best by its val split.

    It may be stopped at any time (Ctrl-C) and gone on with by --resume. The run's folder holds the network,
    history.csv and history.png, config.yaml, which repeats the run by --config, and tensorboard/
    (tensorboard --logdir RUN/tensorboard).

    \b
    Examples:
      cellseg-host train nuclei-data
      cellseg-host train nuclei-data --out runs/nuclei --resume
      cellseg-host train nuclei-data --arch unet --option activation=elu --loss bce-dice
      cellseg-host train my-nine-images --init nuclei.tflite --freeze encoder --learning-rate 3e-4 --epochs 20
      cellseg-host train nuclei-data --teacher large.tflite --teacher other.tflite --out runs/small
      cellseg-host train nuclei-data --config runs/nuclei/config.yaml --out runs/again
    """
    from cellseg_host import history, plots
    from cellseg_host.console import bar, to_json
    from cellseg_host.data.dataset import load
    from cellseg_host.settings import from_mapping
    from cellseg_host.tensorflow_quietly import import_tensorflow

    told |= {name: str(told[name]) for name in ("init", "encoder_weights") if told[name]}
    told["teachers"] = tuple(map(str, told["teachers"]))
    settings = from_mapping(told)
    loaded = load(dataset)
    import_tensorflow()
    from cellseg_host import runs
    from cellseg_host import train as training

    path = out or Path("runs") / Path(settings.arch.partition(".py:")[0]).name
    if resume:
        settings = runs.started(path, loaded).settings
    try:
        with bar() as progress:
            task = progress.add_task("epoch 1", total=settings.steps)

            def on_step(done: int, steps: int) -> None:
                progress.update(task, completed=done, total=steps)

            for epoch in training.train(loaded, path, settings, resume, on_step):
                progress.update(task, description=f"epoch {epoch.epoch + 1}", completed=0)
                if as_json:
                    click.echo(to_json(epoch, indent=None))
                    continue
                scores = "  ".join(f"{name} {score:.3f}" for name, score in epoch.scores.items())
                shown = f"epoch {epoch.epoch}/{settings.epochs * settings.rounds + settings.swa}"
                click.echo(f"{shown}  loss {epoch.loss:.3f}  {scores}{'  best' if epoch.best else ''}")
    except KeyboardInterrupt:
        raise click.ClickException(f"stopped; go on with: cellseg-host train {dataset} --out {path} --resume") from None
    finally:
        epochs = history.read(path)
        if epochs:
            plots.history(epochs, path / "history.png")
    best = history.best(epochs)
    if best and not as_json:
        scores = ", ".join(f"{name} {score:.3f}" for name, score in best.scores.items())
        click.echo(f"best: epoch {best.epoch}, {scores} ({path})")
