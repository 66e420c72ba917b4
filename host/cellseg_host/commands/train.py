"""The command ``cellseg-host train``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.command_line import Command, section
from cellseg_host.commands import config_file
from cellseg_host.training.settings import (
    AT_LEAST,
    CLASS_WEIGHTS,
    FREEZES,
    KEEPS,
    OR_RESUME,
    PRECISIONS,
    SCHEDULES,
    TrainSettings,
)

if TYPE_CHECKING:
    from cellseg_host.data.dataset import Dataset

_DEFAULT = TrainSettings()
_FOLDER = click.Path(path_type=Path, file_okay=False)
_Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def _setting(flag: str, kind: click.ParamType[Any], text: str | None = None) -> _Option:
    """Return the option of a number or word among the settings, with its default."""
    default = getattr(_DEFAULT, flag.strip("-").replace("-", "_"))
    return click.option(flag, type=kind, default=default, show_default=True, help=text)


def _count(flag: str, text: str) -> _Option:
    """Return the option of a whole number among the settings."""
    return _setting(flag, click.IntRange(AT_LEAST[flag.strip("-")]), text)


def _shares(_context: click.Context, _parameter: click.Parameter, items: Iterable[str]) -> dict[str, float]:
    """Return the share of each set from repeated ``SET=FRACTION``; a click callback."""
    found = {}
    for item in items:
        name, _, text = item.rpartition("=")
        try:
            found[name.strip()] = float(text)
        except ValueError:
            name = ""
        if not name.strip():
            raise click.BadParameter(f"{item!r} is not of the form SET=FRACTION")
    return found


@click.command(cls=Command, short_help="Train a network on a dataset.")
@click.argument("dataset", type=_FOLDER)
@section(
    "Run",
    config_file.option,
    click.option("--out", type=_FOLDER, help="The run's folder.  [default: runs/ARCH]"),
    click.option("--resume", is_flag=True, help="Continue the run in --out, with the settings it was started with."),
    click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each epoch, and nothing else."),
)
@section(
    "Network",
    click.option(
        "--arch",
        metavar="NAME|FILE.py:BUILD",
        default=_DEFAULT.arch,
        show_default=True,
        help="The network: see 'cellseg-host architectures'; or a function of your own, build(heads, **options).",
    ),
    click.option(
        "--option",
        "options",
        metavar="KEY=VALUE",
        multiple=True,
        callback=config_file.key_values,
        help="An option of the network, e.g. activation=elu or filters=8,16,32. May be given several times.",
    ),
    click.option(
        "--heads",
        metavar="NAME,…",
        callback=config_file.comma_list,
        help="Maps that it learns: foreground, and distance, centre or outline.  [default: the network's own]",
    ),
)
@section(
    "Start",
    click.option(
        "--init",
        type=click.Path(path_type=Path, exists=True),
        metavar="RUN|MODEL.tflite",
        help="Start from the weights of a run, or of a model such as the released one.",
    ),
    _setting("--freeze", click.Choice(FREEZES), "Layers that keep their weights."),
    click.option(
        "--encoder-weights",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Pretrained weights of the encoder, a Keras file; nothing is downloaded.",
    ),
)
@section(
    "What it learns",
    click.option(
        "--loss",
        metavar="NAME|FILE.py:LOSS",
        default=_DEFAULT.loss,
        show_default=True,
        help="Loss of the foreground: bce, dice, bce-dice, focal, tversky, weighted-accuracy, boundary; or a function "
        "of your own, loss(y_true, y_pred) of probabilities.",
    ),
    _setting(
        "--class-weight", click.Choice(CLASS_WEIGHTS), "frequency makes cells and background weigh the same in all."
    ),
    _setting(
        "--border-weight",
        click.FloatRange(AT_LEAST["border_weight"], 1000),
        "Extra weight of pixels between two nuclei.",
    ),
    click.option(
        "--teacher",
        "teachers",
        type=click.Path(path_type=Path, exists=True),
        metavar="MODEL.tflite",
        multiple=True,
        help="Distillation: half of each target is this model's prediction, the mean over eight orientations. May be "
        "given several times, for the mean of several models.",
    ),
)
@section(
    "Views",
    _count("--batch", "Views (random crops) in a batch."),
    _count("--side", "Side of a view, pixels."),
    click.option(
        "--share",
        "shares",
        metavar="SET=FRACTION",
        multiple=True,
        callback=_shares,
        help="How much of the views is of a set, e.g. mine=0.7; the other sets share what is left. May be given "
        "several times.  [default: by the square root of their images]",
    ),
    click.option(
        "--augment",
        "augmentation",
        metavar="KEY=VALUE",
        multiple=True,
        callback=config_file.key_values,
        help="The range of a random change, e.g. blur_px=2 or scale=0.8,1.25, or stain=0.5 for other dyes in stained "
        "tissue (strength 0 to 1). May be given several times.",
    ),
    _count("--seed", "The same seed makes the same views."),
)
@section(
    "Length and rate",
    _count("--epochs", "Epochs in each round, at most."),
    _count("--steps", "Batches in an epoch."),
    _count("--rounds", "Each continues from the best network with a tenth of the learning rate."),
    _count("--patience", "End a round after this many epochs without progress; not with --keep last."),
    _setting("--learning-rate", click.FloatRange(0, min_open=True), "The highest rate, reached after one epoch."),
    _setting("--schedule", click.Choice(SCHEDULES), "cosine falls to 1 % at the end; plateau halves without progress."),
    _setting(
        "--precision",
        click.Choice(PRECISIONS),
        "bfloat16 trains faster on a processor with AVX512-BF16 or AMX; not for networks with layers of 8 channels.",
    ),
)
@section(
    "Which network is kept",
    click.option(
        "--monitor",
        metavar="SCORE",
        help="Validation score by which the best network is kept: mean_ap, ap50, mean_iou, val_loss, or a metric of "
        "your own; for a classifier auc or accuracy.  [default: mean_ap; auc]",
    ),
    click.option(
        "--metric",
        "metrics",
        metavar="FILE.py:METRIC",
        multiple=True,
        help="A validation metric of your own, metric(true_labels, labels) -> float. May be given several times.",
    ),
    _setting("--keep", click.Choice(KEEPS), "The network that is best by that score, or the last one."),
    _count("--swa", "Stochastic weight averaging over this many further epochs."),
    _setting(
        "--moving-average",
        click.FloatRange(0, 1, max_open=True),
        "Keep the moving average of the weights, of which a step leaves this share, such as 0.999.",
    ),
)
def train(*, dataset: Path, out: Path | None, resume: bool, as_json: bool, **flags: Any) -> None:
    """Train a network on DATASET's train split, and keep the best by its val split.

    It can be stopped at any time (Ctrl-C) and continued with --resume. The run's folder holds the network, history.csv
    and history.png, config.toml, with which --config repeats the run, and tensorboard/ (tensorboard --logdir
    RUN/tensorboard).

    \b
    Examples:
      cellseg-host train nuclei-data
      cellseg-host train nuclei-data --out runs/nuclei --resume
      cellseg-host train nuclei-data --arch unet --option activation=elu --loss bce-dice
      cellseg-host train my-nine-images --init nuclei.tflite --freeze encoder --learning-rate 3e-4 --epochs 20
      cellseg-host train nuclei-data --teacher large.tflite --teacher other.tflite --out runs/small
      cellseg-host train nuclei-data --config runs/nuclei/config.toml --out runs/again
    """
    from cellseg_host.commands.console import StoppedError, bar, print_next
    from cellseg_host.data.dataset import load
    from cellseg_host.data.own_split import completed
    from cellseg_host.data.whole_folder import check_new, check_place
    from cellseg_host.json_text import to_json
    from cellseg_host.report import plots
    from cellseg_host.tensorflow_quietly import device, import_tensorflow
    from cellseg_host.training import history, progress
    from cellseg_host.training.settings import from_mapping

    flags |= {name: str(flags[name]) for name in ("init", "encoder_weights") if flags[name]}
    flags["teachers"] = tuple(map(str, flags["teachers"]))
    settings = from_mapping(flags)
    loaded = load(dataset)
    note = ""
    if not resume:
        _warn_of_faults(loaded)
        loaded, note = completed(loaded, settings.seed, without_labels=settings.learns_kinds)
    path = out or Path("runs") / Path(settings.arch.partition(".py:")[0]).name

    def tell(lines: Iterable[str]) -> None:
        if not as_json:
            click.echo("\n".join(lines))

    if resume:
        tell([f"resuming {path}: loading TensorFlow …"])
    else:
        check_new(path, OR_RESUME)
        check_place(path)
        tell([*progress.plan(loaded, settings, path), *filter(None, [note]), "loading TensorFlow …"])
    import_tensorflow()
    from cellseg_host.training import runs
    from cellseg_host.training import train as training

    if resume:
        settings = runs.started(path, loaded).settings
        loaded, _ = completed(loaded, settings.seed, without_labels=settings.learns_kinds)
        tell(progress.plan(loaded, settings, path))
    tell([f"device: {device()}"])
    epochs_in_all = progress.most_epochs(settings)
    pace = progress.Pace(epochs_in_all)
    try:
        with bar() as shown:
            task = shown.add_task("epoch 1", total=settings.steps)

            def on_step(done: int, steps: int) -> None:
                pace.step()
                shown.update(task, completed=done, total=steps)

            for epoch in training.train(loaded, path, settings, resume=resume, on_step=on_step):
                taken = pace.end(epoch.epoch)
                shown.update(task, description=f"epoch {epoch.epoch + 1}", completed=0)
                if as_json:
                    click.echo(to_json(epoch, indent=None))
                    continue
                scores = "  ".join(f"{name} {score:.3f}" for name, score in epoch.scores.items())
                parts = [f"epoch {epoch.epoch}/{epochs_in_all}", f"loss {epoch.loss:.3f}", scores, taken]
                click.echo("  ".join(filter(None, [*parts, "best" if epoch.best else ""])))
    except KeyboardInterrupt:
        again = shlex.join(["cellseg-host", "train", str(dataset), "--out", str(path), "--resume"])
        raise StoppedError(f"stopped; continue with: {again}") from None
    finally:
        epochs = history.read(path)
        if epochs:
            plots.history(epochs, path / "history.png")
    best = history.best(epochs)
    if best and not as_json:
        scores = ", ".join(f"{name} {score:.3f}" for name, score in best.scores.items())
        click.echo(f"best: epoch {best.epoch}, {scores} ({path})")
        name = f"{path.resolve().name}.tflite"
        print_next("cellseg-host", "quantize", path, "--int8", "--data", dataset, "--out", name)


def _warn_of_faults(dataset: Dataset) -> None:
    """Print what a dataset's page calls a fault: it is trained on all the same."""
    from cellseg_host.survey.survey import survey

    for fault in survey(dataset).faults:
        click.echo(f"to mend: {fault.text}", err=True)
