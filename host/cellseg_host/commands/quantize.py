"""The command ``cellseg-host quantize``."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.command_line import Command, section
from cellseg_device.errors import InputError
from cellseg_device.model.gate_card import FOLLOWS
from cellseg_device.suggestions import unknown
from cellseg_host.commands import config_file

if TYPE_CHECKING:  # importing these costs TensorFlow's seconds
    from cellseg_host.data.dataset import Dataset
    from cellseg_host.quantize import Calibration, Quantized
    from cellseg_host.quantize.layers import LayerError
    from cellseg_host.training.runs import Run

METRICS = ("ap50", "mean_ap", "mean_iou", "accuracy", "balanced_accuracy", "auc")
# Flags that need another one
_BELONGS = {
    "percentile": "--calibration-range percentile",
    "metric": "--max-drop",
    **dict.fromkeys(("epochs", "steps", "batch", "side", "learning_rate"), "--qat"),
}
_WORST = 10
_LAYER_IMAGES = 8
_MOST = {"foreground": 1, "prominence": 100, "confidence": 1, "min_area_px": 1_000_000}  # of thresholds


@click.command(cls=Command, short_help="Make a .tflite model of a training run.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@section(
    "Precision",
    click.option("--int8", "mode", flag_value="int8", default=True, help="Full integer, for any device (default)."),
    click.option("--dynamic", "mode", flag_value="dynamic", help="int8 weights, float activations."),
    click.option("--float16", "mode", flag_value="float16", help="Half-precision weights."),
    click.option("--float32", "mode", flag_value="float32", help="No quantization."),
)
@section(
    "Data",
    click.option(
        "--data",
        "dataset",
        type=click.Path(path_type=Path, file_okay=False),
        required=True,
        help="Dataset: its train split is for calibration and fine-tuning, its val split for thresholds and scores.",
    ),
    click.option(
        "--images", type=click.IntRange(0), default=200, show_default=True, help="Calibration images, at most."
    ),
    click.option(
        "--calibration-range",
        type=click.Choice(["minmax", "percentile"]),
        default="minmax",
        show_default=True,
        help="Range of activations that int8 represents: all of them, or all but rare extremes.",
    ),
    click.option(
        "--percentile",
        type=click.FloatRange(50, 100, min_open=True),
        help="Upper end for --calibration-range percentile; its counterpart is the lower end.  [default: 99.99]",
    ),
)
@section(
    "Fine-tuning",
    click.option("--qat", is_flag=True, help="Fine-tune for int8 first (quantization-aware training), in RUN/qat."),
    click.option("--epochs", type=click.IntRange(1), help="Epochs of fine-tuning.  [default: 10]"),
    click.option("--steps", type=click.IntRange(1), help="Batches in an epoch.  [default: as in training]"),
    click.option("--batch", type=click.IntRange(1), help="Views in a batch.  [default: as in training]"),
    click.option("--side", type=click.IntRange(32), help="Side of a view, pixels.  [default: as in training]"),
    click.option(
        "--learning-rate",
        type=click.FloatRange(0, min_open=True),
        help="The highest rate of fine-tuning.  [default: 1e-4]",
    ),
)
@section(
    "Model",
    click.option(
        "--out",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The model's file.  [default: RUN/ARCH-MODE.tflite, or ARCH-qat]",
    ),
    click.option("--name", help="The model's name in its card.  [default: --out's]"),
    click.option(
        "--tile",
        type=click.IntRange(32),
        help="Fix the input to TILE x TILE pixels, as an Edge TPU needs.  [default: any size]",
    ),
    click.option(
        "--depth",
        type=click.IntRange(1),
        help="Which outputs of a deeply supervised network to use.  [default: the last]",
    ),
    click.option(
        "--like",
        type=click.Path(path_type=Path, exists=True),
        metavar="MODEL.tflite",
        help="Use the thresholds of this model, made from the same run for another --tile, instead of choosing them.",
    ),
    click.option(
        "--threshold",
        "thresholds",
        metavar="NAME=VALUE",
        multiple=True,
        callback=config_file.key_values,
        help="Fix a threshold (foreground, prominence, confidence or min_area_px) instead of choosing it by AP: a "
        "higher confidence gives fewer false cells in empty fields. May be given several times.",
    ),
)
@section(
    "Gate",
    click.option(
        "--follow",
        metavar="KIND=segment|empty|flag[:MODEL]",
        multiple=True,
        help="Of a classifier: what follows for an image of this kind: it is segmented, by MODEL if that is named; it "
        "counts as empty; or it is segmented and flagged. May be given several times.  [default: segment]",
    ),
    click.option(
        "--looks-like",
        metavar="KIND=TEXT",
        multiple=True,
        help="What an image of this kind looks like, for the flag: 'a blood smear'.  [default: KIND]",
    ),
    click.option(
        "--sure-from",
        type=click.FloatRange(0, 1),
        default=0.0,
        help="Flag an image whose most likely kind has a lower probability than this.  [default: 0, which flags none]",
    ),
)
@section(
    "Check",
    click.option(
        "--max-drop",
        type=click.FloatRange(0, 1),
        help="Fail, with exit code 1, and write no model if --metric is worse than float32's by more than this.",
    ),
    click.option(
        "--metric",
        type=click.Choice(METRICS),
        help="Score for --max-drop.  [default: ap50; for a classifier auc, or, of kinds, accuracy]",
    ),
    click.option(
        "--layers",
        is_flag=True,
        help="Print which layers lose most by int8, and write all of them to OUT's .layers.csv.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON."),
)
def quantize(
    *,
    run: Path,
    dataset: Path,
    mode: str,
    qat: bool,
    max_drop: float | None,
    layers: bool,
    out: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Make of a training run the .tflite that the device runs, and compare it with the float network.

    --qat can be stopped at any time: the same command continues it. With --max-drop, an older model at --out stays if
    the new one is not good enough.

    \b
    Examples:
      cellseg-host quantize runs/nuclei --data nuclei-data --out nuclei.tflite --max-drop 0.01
      cellseg-host quantize runs/unet --dynamic --data nuclei-data
      cellseg-host quantize runs/hrnet --data nuclei-data --qat --epochs 5 --layers
      cellseg-host quantize runs/kind --data all-data --follow smear=flag --looks-like "smear=a blood smear"

    Exit codes: 0 all well, 1 the model lost more than --max-drop, 2 the command cannot work as given.
    """
    from cellseg_host.commands.console import ERR
    from cellseg_host.data.dataset import load
    from cellseg_host.data.own_split import completed
    from cellseg_host.data.whole_folder import check_place
    from cellseg_host.json_text import to_json
    from cellseg_host.tensorflow_quietly import import_tensorflow

    _check(mode, max_drop, flags, qat=qat, layers=layers)
    classes = _classes(flags["follow"], flags["looks_like"])
    fixed = _thresholds(flags["thresholds"])
    loaded = load(dataset)
    if out:
        check_place(out.parent)
    if not as_json:
        divided, _ = completed(loaded, 0, without_labels=True)  # of so many images, whatever the run's seed
        click.echo(f"{_plan(run, divided, mode, flags, qat=qat)}\nloading TensorFlow …")
    import_tensorflow()
    from cellseg_device.model import card as cards
    from cellseg_device.system import files
    from cellseg_host import quantize as quantization
    from cellseg_host.quantize import max_drop as drops
    from cellseg_host.quantize.layers import to_csv
    from cellseg_host.training.runs import open_run

    opened = open_run(run)
    loaded, note = completed(loaded, opened.settings.seed, without_labels=opened.settings.learns_kinds)
    if note and not as_json:
        click.echo(note)
    path = out or opened.path / f"{opened.architecture.name}-{'qat' if qat else mode}.tflite"
    calibration = _calibration(flags)
    if qat:
        _finetune(opened, loaded, calibration, flags)
    tile, worst = flags["tile"], None
    with ERR.status("reading") as status:
        done = quantization.quantize(
            opened,
            loaded,
            mode,
            (tile, tile) if tile else None,
            calibration,
            name=flags["name"] or path.stem,
            depth=flags["depth"],
            tuned=qat,
            classes=classes,
            sure_from=flags["sure_from"],
            fixed=fixed,
            like=cards.read_from(cards.read_model_file(Path(flags["like"]))) if flags["like"] else None,
            say=status.update,
        )
        if layers:
            status.update("comparing the layers")
            worst = _layers(opened, loaded, done)
    if worst and not as_json:
        _print_layers(worst)
    if max_drop is not None:
        drops.check(done, max_drop, flags["metric"])
    quantization.write(done, path)
    if worst:
        files.write(path.with_suffix(".layers.csv"), to_csv(worst))
    if as_json:
        click.echo(to_json(_document(done, path, worst)))
    else:
        _print(done, path)
        _print_next(path, loaded, is_classifier=not done.scores, tells_kinds=bool(done.card.output("kind")))


def _plan(run: Path, dataset: Dataset, mode: str, flags: dict[str, Any], *, qat: bool) -> str:
    """Return what will be done, in a line; it fails at once if the dataset lacks a split."""
    train, val = len(dataset.split("train")), len(dataset.split("val"))
    to = "float32 without quantization" if mode == "float32" else mode
    tuned = ", fine-tuned for it first" if qat else ""
    ranges = f"{min(flags['images'], train):,} images of train for the ranges, " if mode == "int8" else ""
    return f"{run} to {to}{tuned}: {ranges}{val:,} of val for thresholds and scores"


def _print_next(path: Path, dataset: Dataset, *, is_classifier: bool, tells_kinds: bool) -> None:
    """Print the command that scores the model on images it has not learnt from, if there are some."""
    from cellseg_host.commands.console import print_next

    if not any(entry.split == "test" and (tells_kinds or entry.is_labelled) for entry in dataset.entries):
        print_next("cellseg-device", "info", path)
    elif is_classifier and not tells_kinds:
        print_next("cellseg-host", "compare", path, "--data", dataset.root, "--out", f"{path.stem}-report")
    else:
        print_next("cellseg-host", "evaluate", path, dataset.root, "--out", f"{path.stem}-evaluation")


def _thresholds(given: dict[str, Any]) -> dict[str, Any]:
    """Return thresholds by their names in a `Separation`; raises InputError for what is none."""
    for name, value in given.items():
        if name not in _MOST:
            raise InputError(f"--threshold: there is {unknown('threshold', name, _MOST)}")
        if type(value) is not int and (type(value) is not float or name == "min_area_px"):
            what = "whole number" if name == "min_area_px" else "number"
            raise InputError(f"--threshold {name}={value}: write a {what}")
        if not 0 < value < _MOST[name]:
            raise InputError(f"--threshold {name}={value}: choose a number between 0 and {_MOST[name]}")
    return given


def _classes(follow: Iterable[str], looks_like: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return by kind the fields of its `GateClass` that are given."""
    found: dict[str, dict[str, Any]] = {}
    for flag, texts in (("--follow", follow), ("--looks-like", looks_like)):
        for text in texts:
            kind, equals, value = text.partition("=")
            if not (kind and equals and value):
                raise InputError(f"{flag} {text}: write KIND={'segment|empty|flag' if flag == '--follow' else 'TEXT'}")
            changes = found.setdefault(kind, {})
            if flag == "--looks-like":
                changes["looks_like"] = value
                continue
            follows, _, model = value.partition(":")
            if follows not in FOLLOWS:
                raise InputError(f"{flag} {text}: there is {unknown('answer', follows, FOLLOWS)}")
            if model and follows == "empty":
                raise InputError(f"{flag} {text}: no model segments what counts as empty: leave out ':{model}'")
            changes |= {"follows": follows, "model": model or None}
    return found


def _check(mode: str, max_drop: float | None, flags: dict[str, Any], *, qat: bool, layers: bool) -> None:
    """Raise for flags that contradict each other, or would do nothing."""
    percentile = "--calibration-range percentile"
    given = {"--qat": qat, "--max-drop": max_drop is not None, percentile: flags["calibration_range"] == "percentile"}
    for flag, needed in _BELONGS.items():
        if flags[flag] is not None and not given[needed]:
            raise InputError(f"--{flag.replace('_', '-')} works only with {needed}: give both, or neither")
    for flag, asked in {"--qat": qat, "--layers": layers, percentile: given[percentile]}.items():
        if asked and mode != "int8":
            raise InputError(f"{flag} is for --int8, not for --{mode}: leave one of them out")


def _calibration(flags: dict[str, Any]) -> Calibration:
    from cellseg_host.quantize import Calibration

    by_percentile = flags["calibration_range"] == "percentile"
    return Calibration(flags["images"], (flags["percentile"] or 99.99) if by_percentile else None)


def _finetune(run: Run, dataset: Dataset, calibration: Calibration, flags: dict[str, Any]) -> None:
    """Fine-tune to the end, and print each epoch on standard error."""
    from cellseg_host.commands.console import ERR, StoppedError, bar
    from cellseg_host.quantize import Tuning, finetune

    names = ("epochs", "steps", "batch", "side", "learning_rate")
    tuning = Tuning(
        calibration=calibration, depth=flags["depth"], **{n: flags[n] for n in names if flags[n] is not None}
    )
    try:
        with bar() as progress:
            task = progress.add_task("fine-tuning", total=None)

            def on_step(done: int, steps: int) -> None:
                progress.update(task, completed=done, total=steps)

            def say(stage: str) -> None:
                progress.update(task, description=stage)

            for epoch in finetune.finetune(run, dataset, tuning, on_step, say):
                say(f"fine-tuning: epoch {epoch.epoch + 1}")
                scores = "  ".join(f"{name} {score:.3f}" for name, score in epoch.scores.items())
                text = f"epoch {epoch.epoch}/{tuning.epochs}  loss {epoch.loss:.3f}  {scores}"
                ERR.print(f"{text}{'  best' if epoch.best else ''}", highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        raise StoppedError("stopped; the same command continues the fine-tuning") from None


def _layers(run: Run, dataset: Dataset, done: Quantized) -> tuple[LayerError, ...]:
    from cellseg_host.quantize import calibrate, layers

    tile = done.after.tile
    return layers.errors(done.twin, done.data, calibrate.images(dataset, run.card(), _LAYER_IMAGES, tile)())


def _print_layers(worst: tuple[LayerError, ...]) -> None:
    from cellseg_host.commands.console import print_table

    rows = [[e.layer, e.operator, str(e.channels), f"{e.snr_db:.1f}", f"{e.own_db:.1f}"] for e in worst[:_WORST]]
    title = f"signal-to-noise ratio in int8: the {len(rows)} of {len(worst)} layers that add the most noise"
    print_table(title, ["layer", "operator", "channels", "of its output, dB", "of its own noise, dB"], rows)


def _print(done: Quantized, path: Path) -> None:
    from cellseg_host.commands.console import print_confusion, print_summaries, print_table

    mode, title = done.card.quantization, f"{path}: {done.card.metrics['split']}"
    rows = [
        ["size, float32", f"{done.float_size / 1000:.0f} kB"],
        [f"size, {mode}", f"{len(done.data) / 1000:.0f} kB"],
        ["operators", ", ".join(f"{n} {op}" for op, n in Counter(o.name for o in done.operators).most_common())],
    ]
    if done.scores:
        before, after = done.worst
        print_summaries(title, "model", {"float32": done.float_summary, mode: done.summary})
        separation = done.card.to_dict()["separation"]
        rows += [
            ["worst image", f"{after.id[:16]}: mean AP {before.mean_ap:.3f} float32, {after.mean_ap:.3f} {mode}"],
            ["thresholds", ", ".join(f"{k} {v}" for k, v in separation.items())],
        ]
    else:
        metrics = [name for name in done.before.metrics if name != "confusion"]
        numbers = [[what, *(_text(s.metrics[name]) for name in metrics)] for what, s in done.scored.items()]
        print_table(title, ["model", *metrics], numbers)
        if confusion := done.after.metrics.get("confusion"):
            print_confusion(f"{mode}: images by their kind (rows) and the kind that is found", confusion)
    print_table("", ["", ""], rows)


def _document(done: Quantized, path: Path, worst: tuple[LayerError, ...] | None) -> dict[str, Any]:
    document = {
        "model": str(path),
        "size_bytes": len(done.data),
        "float_size_bytes": done.float_size,
        "operators": Counter(o.name for o in done.operators),
        **{what: scored.metrics for what, scored in done.scored.items()},
    }
    if done.scores:
        before, after = done.worst
        document["separation"] = done.card.to_dict()["separation"]
        document["worst_image"] = {"id": after.id, "float32": before.mean_ap, done.card.quantization: after.mean_ap}
    if worst:
        rows = [dataclasses.asdict(e) for e in worst]
        # JSON has no infinity
        document["layers"] = [{k: None if v == float("inf") else v for k, v in row.items()} for row in rows]
    return document


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
