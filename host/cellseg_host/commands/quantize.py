"""The command ``cellseg-host quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

# Also in quantize.gate, which takes TensorFlow's seconds to import
_METRICS = ("ap50", "mean_ap", "mean_iou", "accuracy", "auc")


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
    "kind",
    type=click.Choice(["minmax", "percentile"]),
    default="minmax",
    show_default=True,
    help="What of the activations int8 must be able to say: all, or all but rare extremes.",
)
@click.option(
    "--percentile",
    type=click.FloatRange(50, 100, min_open=True),
    default=99.99,
    show_default=True,
    help="Where --calibration-range percentile cuts; its counterpart is the lower end.",
)
@click.option("--qat", is_flag=True, help="Fine-tune for int8 first (quantization-aware training), in MODEL/qat.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Of the fine-tuning.")
@click.option("--steps", type=click.IntRange(1), help="Batches in one of its epochs.  [default: as in training]")
@click.option("--batch", type=click.IntRange(1), help="Views in a batch.  [default: as in training]")
@click.option("--side", type=click.IntRange(32), help="Side of a view, pixels.  [default: as in training]")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=1e-4,
    show_default=True,
    help="Of the fine-tuning, the highest.",
)
@click.option("--depth", type=click.IntRange(1), help="Outputs to use of a deeply supervised network.  [default: last]")
@click.option(
    "--tile",
    type=click.IntRange(32),
    help="Fix the input to TILE x TILE pixels, as an Edge TPU needs.  [default: any size]",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1),
    help="Fail, exit code 1, and write nothing where --metric is worse than float32's by more than this.",
)
@click.option(
    "--metric", type=click.Choice(_METRICS), help="Judged by --max-drop.  [default: ap50; auc of a classifier]"
)
@click.option("--layers", is_flag=True, help="Say which layers lose most by int8; table in NAME.layers.csv by --out.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="[default: MODEL/ARCH-MODE.tflite]")
@click.option("--name", help="The model's name in its card.  [default: --out's]")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def quantize(run: Path, dataset: Path, mode: str, out: Path | None, as_json: bool, **told: Any) -> None:
    """Make the .tflite that the device runs from the training run MODEL, and compare it with the float network.

    --qat goes on with a fine-tuning that was stopped; --max-drop keeps an older model at --out where the new one is
    not good enough.

    \b
    Examples:
      cellseg-host quantize runs/nuclei --data nuclei-data --out nuclei.tflite --max-drop 0.01
      cellseg-host quantize runs/unet --dynamic --data nuclei-data
      cellseg-host quantize runs/hrnet --data nuclei-data --qat --epochs 5 --layers

    Exit codes: 0 all well, 1 the model lost more than --max-drop, 2 the command cannot work as given.
    """
