"""The command ``cellseg-host quantize``."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.errors import InputError

if TYPE_CHECKING:  # importing these costs TensorFlow's seconds
    from cellseg_host.data.dataset import Dataset
    from cellseg_host.quantize import Calibration, Quantized
    from cellseg_host.quantize.layers import LayerError
    from cellseg_host.runs import Run

METRICS = ("ap50", "mean_ap", "mean_iou", "accuracy", "auc")
# Flags that mean nothing without another one
_BELONGS = {
    "percentile": "--calibration-range percentile",
    "metric": "--max-drop",
    **dict.fromkeys(("epochs", "steps", "batch", "side", "learning_rate"), "--qat"),
}
_WORST = 10
_LAYER_IMAGES = 8


@click.command()
@click.argument("run", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--int8", "mode", flag_value="int8", default=True, help="Full integer, for any device. The default.")
@click.option("--dynamic", "mode", flag_value="dynamic", help="int8 weights, float activations.")
@click.option("--float16", "mode", flag_value="float16", help="Half-precision weights.")
@click.option("--float32", "mode", flag_value="float32", help="No quantization.")
@click.option(
    "--data",
    "--calibration",
    "dataset",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Dataset: its train split calibrates and fine-tunes, its val split chooses thresholds and compares.",
)
@click.option("--images", type=click.IntRange(0), default=200, show_default=True, help="Calibration images, at most.")
@click.option(
    "--calibration-range",
    type=click.Choice(["minmax", "percentile"]),
    default="minmax",
    show_default=True,
    help="Which activations int8 must be able to say: all, or all but rare extremes.",
)
@click.option(
    "--percentile",
    type=click.FloatRange(50, 100, min_open=True),
    help="Where --calibration-range percentile cuts; its counterpart is the lower end.  [default: 99.99]",
)
@click.option("--qat", is_flag=True, help="Fine-tune for int8 first (quantization-aware training), in MODEL/qat.")
@click.option("--epochs", type=click.IntRange(1), help="Of the fine-tuning.  [default: 10]")
@click.option("--steps", type=click.IntRange(1), help="Batches in one of its epochs.  [default: as in training]")
@click.option("--batch", type=click.IntRange(1), help="Views in a batch.  [default: as in training]")
@click.option("--side", type=click.IntRange(32), help="Side of a view, pixels.  [default: as in training]")
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), help="Of the fine-tuning, the highest.  [default: 1e-4]"
)
@click.option("--depth", type=click.IntRange(1), help="Outputs to use of a deeply supervised network.  [default: last]")
@click.option(
    "--tile",
    type=click.IntRange(32),
    help="Fix the input to TILE x TILE pixels, as an Edge TPU needs.  [default: any size]",
)
@click.option(
    "--like",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="MODEL.tflite",
    help="Tell cells apart as this one does, made from the same run for another --tile; no thresholds are chosen.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    help="Fail, with exit code 1, and write no model where --metric is worse than float32's by more than this.",
)
@click.option("--metric", type=click.Choice(METRICS), help="For --max-drop.  [default: ap50; auc of a classifier]")
@click.option("--layers", is_flag=True, help="Say which layers lose most by int8; all of them in OUT's .layers.csv.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: MODEL/ARCH-MODE.tflite, or ARCH-qat]"
)
@click.option("--name", help="The model's name in its card.  [default: --out's]")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def quantize(
    run: Path,
    dataset: Path,
    mode: str,
    qat: bool,
    max_drop: float | None,
    layers: bool,
    out: Path | None,
    as_json: bool,
    **told: Any,
) -> None:
    """Make the .tflite that the device runs from the training run MODEL, and compare it with the float network.

    --qat may be stopped at any time: the same command goes on with it. With --max-drop an older model at --out stays
    where the new one is not good enough.

    \b
    Examples:
      cellseg-host quantize runs/nuclei --data nuclei-data --out nuclei.tflite --max-drop 0.01
      cellseg-host quantize runs/unet --dynamic --data nuclei-data
      cellseg-host quantize runs/hrnet --data nuclei-data --qat --epochs 5 --layers

    Exit codes: 0 all well, 1 the model lost more than --max-drop, 2 the command cannot work as given.
    """
    from cellseg_host.console import ERR, to_json
    from cellseg_host.data.dataset import load
    from cellseg_host.tensorflow_quietly import import_tensorflow

    _check(mode, qat, layers, max_drop, told)
    loaded = load(dataset)
    import_tensorflow()
    from cellseg_device import card as cards
    from cellseg_device import files
    from cellseg_host import quantize as quantization
    from cellseg_host.quantize import gate
    from cellseg_host.quantize.layers import to_csv
    from cellseg_host.runs import open_run

    opened = open_run(run)
    path = out or opened.path / f"{opened.architecture.name}-{'qat' if qat else mode}.tflite"
    calibration = _calibration(told)
    if qat:
        _finetune(opened, loaded, calibration, told)
    tile, worst = told["tile"], None
    with ERR.status("reading") as status:
        done = quantization.quantize(
            opened,
            loaded,
            mode,
            (tile, tile) if tile else None,
            calibration,
            name=told["name"] or path.stem,
            depth=told["depth"],
            tuned=qat,
            like=cards.read_from(cards.read_model_file(Path(told["like"]))) if told["like"] else None,
            say=status.update,
        )
        if layers:
            status.update("comparing the layers")
            worst = _layers(opened, loaded, done)
    if worst and not as_json:
        _print_layers(worst)
    if max_drop is not None:
        gate.check(done, max_drop, told["metric"])
    quantization.write(done, path)
    if worst:
        files.write(path.with_suffix(".layers.csv"), to_csv(worst))
    if as_json:
        click.echo(to_json(_document(done, path, worst)))
    else:
        _print(done, path)


def _check(mode: str, qat: bool, layers: bool, max_drop: float | None, told: dict[str, Any]) -> None:
    """Refuse flags that contradict each other, or would do nothing."""
    percentile = "--calibration-range percentile"
    given = {"--qat": qat, "--max-drop": max_drop is not None, percentile: told["calibration_range"] == "percentile"}
    for flag, needed in _BELONGS.items():
        if told[flag] is not None and not given[needed]:
            raise InputError(f"--{flag.replace('_', '-')} means something with {needed} only: give both, or neither")
    for flag, asked in {"--qat": qat, "--layers": layers, percentile: given[percentile]}.items():
        if asked and mode != "int8":
            raise InputError(f"{flag} is for --int8, not for --{mode}: leave one of them out")


def _calibration(told: dict[str, Any]) -> Calibration:
    from cellseg_host.quantize import Calibration

    by_percentile = told["calibration_range"] == "percentile"
    return Calibration(told["images"], (told["percentile"] or 99.99) if by_percentile else None)


def _finetune(run: Run, dataset: Dataset, calibration: Calibration, told: dict[str, Any]) -> None:
    """Fine-tune to the end, an epoch a line on standard error."""
    from cellseg_host.console import ERR, bar
    from cellseg_host.quantize import Tuning, finetune

    names = ("epochs", "steps", "batch", "side", "learning_rate")
    tuning = Tuning(calibration=calibration, depth=told["depth"], **{n: told[n] for n in names if told[n] is not None})
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
        raise click.ClickException("stopped; the same command goes on with the fine-tuning") from None


def _layers(run: Run, dataset: Dataset, done: Quantized) -> tuple[LayerError, ...]:
    from cellseg_host.quantize import calibrate, layers

    tile = done.after.tile
    return layers.errors(done.twin, done.data, calibrate.images(dataset, run.card(), _LAYER_IMAGES, tile)())


def _print_layers(worst: tuple[LayerError, ...]) -> None:
    from cellseg_host.console import print_table

    rows = [[e.layer, e.operator, str(e.channels), f"{e.snr_db:.1f}", f"{e.own_db:.1f}"] for e in worst[:_WORST]]
    title = f"signal-to-noise ratio in int8: the {len(rows)} of {len(worst)} layers that add most noise"
    print_table(title, ["layer", "operator", "channels", "of its output, dB", "of its own noise, dB"], rows)


def _print(done: Quantized, path: Path) -> None:
    from cellseg_host.console import print_summaries, print_table

    mode, title = done.card.quantization, f"{path}: {done.card.metrics['split']}"
    rows = [
        ["size, float32", f"{done.float_size / 1000:.0f} kB"],
        [f"size, {mode}", f"{len(done.data) / 1000:.0f} kB"],
        ["operators", ", ".join(f"{n} {op}" for op, n in Counter(o.name for o in done.operators).most_common())],
    ]
    if done.scores:
        before, after = done.worst
        print_summaries(title, "model", {"float32": done.float_summary, mode: done.summary})
        separation = dataclasses.asdict(done.card.separation)
        rows += [
            ["worst image", f"{after.id[:16]}: mean AP {before.mean_ap:.3f} float32, {after.mean_ap:.3f} {mode}"],
            ["thresholds", ", ".join(f"{k} {v}" for k, v in separation.items())],
        ]
    else:
        numbers = [[what, *map(_text, judged.metrics.values())] for what, judged in done.judged.items()]
        print_table(title, ["model", *done.before.metrics], numbers)
    print_table("", ["", ""], rows)


def _document(done: Quantized, path: Path, worst: tuple[LayerError, ...] | None) -> dict[str, Any]:
    document = {
        "model": str(path),
        "size_bytes": len(done.data),
        "float_size_bytes": done.float_size,
        "operators": Counter(o.name for o in done.operators),
        **{what: judged.metrics for what, judged in done.judged.items()},
    }
    if done.scores:
        before, after = done.worst
        document["separation"] = done.card.separation
        document["worst_image"] = {"id": after.id, "float32": before.mean_ap, done.card.quantization: after.mean_ap}
    if worst:
        rows = [dataclasses.asdict(e) for e in worst]
        # JSON knows no infinity
        document["layers"] = [{k: None if v == float("inf") else v for k, v in row.items()} for row in rows]
    return document


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
