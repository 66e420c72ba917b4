"""The command line: parse, call, print. Each command imports what it needs, so that ``--help`` is quick."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import click

from cellseg_device.errors import EXIT_IMAGES_FAILED, InputError
from cellseg_device.quiet import quiet_stderr
from cellseg_host import __version__
from cellseg_host.synth.command import synth

_FOLDER = click.Path(path_type=Path, file_okay=False)
_PATH = click.Path(path_type=Path)
# Named here too, since importing them costs TensorFlow's seconds
_ARCHITECTURES = ("edge-unet", "unet")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cellseg-host")
def main() -> None:
    """Make the models that cellseg-device runs: import data, train, quantize, evaluate.

    \b
    From the DSB2018 download to a model for the Pi:
      cellseg-host data import --format dsb2018 stage1_train nuclei-data
      cellseg-host train nuclei-data --out runs/nuclei
      cellseg-host quantize runs/nuclei --int8 --calibration nuclei-data --out nuclei.tflite
      cellseg-host evaluate nuclei.tflite nuclei-data --split test

    Exit codes: 0 all well, 1 some images were left out, 2 the command cannot work as given.
    """


def _import_tensorflow() -> None:
    """Import TensorFlow without the greetings it writes on standard error, which nobody can act on."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for a GPU, and says so, at the first use


main.add_command(synth)


@main.group()
def data() -> None:
    """Make datasets."""


@data.command("import")
@click.argument("source", type=_PATH)
@click.argument("destination", type=_FOLDER)
@click.option(
    "--format",
    "layout",
    type=click.Choice(["dsb2018", "labels"]),
    required=True,
    help="dsb2018: ID/images/*.png with ID/masks/*.png, one nucleus a mask. labels: images/ and labels/ with "
    "instance label images of the same names (and a manifest.csv with id, split, modality, if there is one).",
)
def import_(source: Path, destination: Path, layout: str) -> None:
    """Import SOURCE into a new dataset DESTINATION.

    Images that do not fit (masks of another size, overlapping masks, unreadable files) are left out, listed with the
    reason in DESTINATION/rejected.csv, and the command then exits with 1. Without a manifest, images are split by a
    hash of their name: 80 % train, 10 % val, 10 % test.

    \b
    Examples:
      cellseg-host data import --format dsb2018 stage1_train nuclei-data
      cellseg-host data import --format labels my-labelled-images my-data
    """
    from cellseg_host.console import print_table, tracked
    from cellseg_host.data import importers

    if destination.exists() and any(destination.iterdir()):
        raise InputError(f"{destination}: is not empty: choose a new folder")
    sources = importers.FORMATS[layout](source)
    done = importers.import_sources(sources, destination)
    imported = importers.finish(destination, list(tracked(done, len(sources), "importing")))
    groups: dict[tuple[str, str], list[int]] = {}
    for entry in imported.entries:
        groups.setdefault((entry.split, entry.modality), []).append(entry.cells)
    rows = [[s, m, str(len(cells)), str(sum(cells))] for (s, m), cells in sorted(groups.items())]
    print_table(str(destination), ["split", "modality", "images", "cells"], rows)
    for rejection in imported.rejections:
        click.echo(f"left out: {rejection.id}: {rejection.reason}", err=True)
    if imported.rejections:
        raise SystemExit(EXIT_IMAGES_FAILED)


@main.command()
@click.argument("dataset", type=_FOLDER)
@click.option("--arch", type=click.Choice(_ARCHITECTURES), default="edge-unet", show_default=True)
@click.option("--out", type=_FOLDER, help="The run's folder.  [default: runs/ARCH]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, with the settings it was started with.")
@click.option("--epochs", type=click.IntRange(1), default=100, show_default=True, help="At most.")
@click.option("--steps", type=click.IntRange(1), default=100, show_default=True, help="Batches in an epoch.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Views in a batch.")
@click.option("--side", type=click.IntRange(32), default=256, show_default=True, help="Side of a view, pixels.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True)
@click.option("--patience", type=click.IntRange(1), default=30, show_default=True, help="Epochs without progress.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def train(dataset: Path, arch: str, out: Path | None, resume: bool, **numbers: float) -> None:
    """Train a network on DATASET's train split, keeping the best by mean AP on its val split.

    It may be stopped at any time (Ctrl-C) and gone on with by --resume. The run's folder holds model.keras, history.csv
    and history.png, and tensorboard/ (tensorboard --logdir RUN/tensorboard).

    \b
    Examples:
      cellseg-host train nuclei-data
      cellseg-host train nuclei-data --out runs/nuclei --resume
    """
    from cellseg_host import history, plots
    from cellseg_host.console import bar
    from cellseg_host.data.dataset import load

    _import_tensorflow()
    from cellseg_host import train as training

    path = out or Path("runs") / arch
    settings = training.TrainSettings(arch=arch, **numbers)  # type: ignore[arg-type]
    if resume:
        settings = training.settings_of(path)
    try:
        with bar() as progress:
            task = progress.add_task("epoch 1", total=settings.steps)

            def on_step(done: int, steps: int) -> None:
                progress.update(task, completed=done, total=steps)

            for epoch in training.train(load(dataset), path, settings, resume, on_step):
                progress.update(task, description=f"epoch {epoch.epoch + 1}", completed=0)
                click.echo(
                    f"epoch {epoch.epoch}/{settings.epochs}  loss {epoch.loss:.3f}  val loss {epoch.val_loss:.3f}  "
                    f"AP@0.5 {epoch.val_ap50:.3f}  mean AP {epoch.val_mean_ap:.3f}  "
                    f"mean IoU {epoch.val_mean_iou:.3f}{'  best' if epoch.best else ''}"
                )
    except KeyboardInterrupt:
        raise click.ClickException(f"stopped; go on with: cellseg-host train {dataset} --out {path} --resume") from None
    finally:
        epochs = history.read(path)
        if epochs:
            plots.history(epochs, path / "history.png")
    best = max(epochs, key=lambda e: e.val_mean_ap)
    click.echo(f"best: epoch {best.epoch}, mean AP {best.val_mean_ap:.3f}, AP@0.5 {best.val_ap50:.3f} ({path})")


@main.command()
@click.argument("run", metavar="MODEL", type=_PATH)
@click.option("--int8", "mode", flag_value="int8", default=True, help="Full integer, for any device. The default.")
@click.option("--dynamic", "mode", flag_value="dynamic", help="int8 weights, float activations.")
@click.option("--float16", "mode", flag_value="float16", help="Half-precision weights.")
@click.option("--float32", "mode", flag_value="float32", help="No quantization.")
@click.option(
    "--calibration",
    "dataset",
    type=_FOLDER,
    required=True,
    help="Dataset: its train split calibrates, its val split chooses thresholds and compares.",
)
@click.option("--images", type=click.IntRange(1), default=200, show_default=True, help="Calibration images.")
@click.option(
    "--tile",
    type=click.IntRange(32),
    help="Fix the input to TILE x TILE pixels, as an Edge TPU needs.  [default: any size]",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: MODEL/ARCH-MODE.tflite]")
@click.option("--name", help="The model's name in its card.  [default: --out's]")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def quantize(
    run: Path,
    mode: str,
    dataset: Path,
    images: int,
    tile: int | None,
    out: Path | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Make the .tflite that the device runs from the training run MODEL, and compare it with the float network.

    \b
    Examples:
      cellseg-host quantize runs/nuclei --int8 --calibration nuclei-data --out nuclei.tflite
      cellseg-host quantize runs/unet --dynamic --calibration nuclei-data
    """
    from collections import Counter

    _import_tensorflow()
    from cellseg_host import quantize as quantization
    from cellseg_host.console import ERR, print_summaries, print_table, to_json
    from cellseg_host.data.dataset import load
    from cellseg_host.train import open_run

    opened = open_run(run)
    path = out or opened.path / f"{opened.info['settings']['arch']}-{mode}.tflite"
    with ERR.status("reading") as status:
        done = quantization.quantize(
            opened,
            load(dataset),
            mode,
            (tile, tile) if tile else None,
            images,
            name or path.stem,
            status.update,
        )
    quantization.write(done, path)
    before, after = done.worst
    counts = Counter(o.name for o in done.operators)
    if as_json:
        click.echo(
            to_json(
                {
                    "model": str(path),
                    "size_bytes": len(done.data),
                    "float_size_bytes": done.float_size,
                    "operators": counts,
                    "separation": done.card.separation,
                    "float32": done.float_summary,
                    mode: done.summary,
                    "worst_image": {"id": after.id, "float32": before.mean_ap, mode: after.mean_ap},
                }
            )
        )
        return
    print_summaries(
        f"{path}: {done.card.metrics['split']}", "model", {"float32": done.float_summary, mode: done.summary}
    )
    rows = [
        ["size, float32", f"{done.float_size / 1000:.0f} kB"],
        [f"size, {mode}", f"{len(done.data) / 1000:.0f} kB"],
        ["operators", ", ".join(f"{n} {op}" for op, n in counts.most_common())],
        ["worst image", f"{after.id[:16]}: mean AP {before.mean_ap:.3f} float32, {after.mean_ap:.3f} {mode}"],
        ["thresholds", ", ".join(f"{k} {v}" for k, v in dataclasses.asdict(done.card.separation).items())],
    ]
    print_table("", ["", ""], rows)


@main.command()
@click.argument("model", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("dataset", type=_FOLDER)
@click.option("--split", default="test", show_default=True)
@click.option("--out", type=_FOLDER, help="Write scores.csv, summary.json and gallery.jpg there.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def evaluate(model: Path, dataset: Path, split: str, out: Path | None, threads: int, as_json: bool) -> None:
    """Score a model file on DATASET, by the code that runs on the device.

    AP@t is TP / (TP + FP + FN) with cells matched at IoU above t; mean AP averages t = 0.50:0.05:0.95 (the DSB2018
    score). Mean IoU is two-class, of the foreground map at 0.4. All are means over images. Count error is that of the
    whole set's count.

    \b
    Examples:
      cellseg-host evaluate nuclei.tflite nuclei-data --split test --out evaluation
      cellseg-host evaluate nuclei.tflite nuclei-data --json | jq .summary.all.ap50
    """
    from cellseg_device.model import Model
    from cellseg_host import plots
    from cellseg_host.console import print_summaries, to_json, tracked, write_scores
    from cellseg_host.data.dataset import load
    from cellseg_host.evaluate import by_modality
    from cellseg_host.evaluate import evaluate as score

    loaded, runner = load(dataset), Model(model, threads)
    entries = loaded.split(split)
    scores = list(tracked(score(runner, loaded, entries), len(entries), "scoring"))
    summaries = by_modality(scores)
    document = {"model": model.name, "dataset": loaded.root.resolve().name, "split": split, "summary": summaries}
    if out:
        write_scores(out, scores, document)
        plots.gallery(runner, loaded, scores, out / "gallery.jpg")
    if as_json:
        click.echo(to_json(document))
    else:
        print_summaries(f"{model.name} on {document['dataset']}, split {split}", "modality", summaries)
