"""Every architecture with the same budget, quantized in every mode: the table and the picture in this folder.

    cellseg-host data import --format labels DSB2018 nuclei-data
    python benchmarks/architectures.py nuclei-data --work runs/architectures

Trains each network with the budget below on the train split, quantizes it (dynamic range, int8 after training, int8 by
quantization-aware training), compares all on the test split by ``cellseg-host compare``, and writes architectures.json,
architectures.md and architectures.png beside this file. It may be stopped and started again: what is finished is not
done anew. About two hours on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.system.csv_text import Rows

HERE = Path(__file__).resolve().parent
# 1,250 steps of 16 views of 128 × 128 pixels, 328 megapixels; then 200 more for quantization-aware training
BUDGET = ("--epochs", "25", "--steps", "50", "--batch", "16", "--side", "128", "--learning-rate", "1e-3")
QAT_BUDGET = ("--epochs", "4")
MODES = ("float32", "dynamic", "int8", "qat")
# Two-class mean IoU at 0.4, MB and parameters as published for DSB2018, for the float network and with dynamic range
PUBLISHED = {
    "unet": {"parameters": 1_941_105, "float32": (0.929, 22.4), "dynamic": (0.929, 1.90)},
    "hrnet": {"parameters": 28_608_608, "float32": (0.931, 331.6), "dynamic": (0.932, 28.0)},
}


@dataclass(frozen=True)
class Candidate:
    """A network and how it is trained."""

    name: str
    learns: str
    flags: tuple[str, ...]


BOTH = ("--heads", "foreground,distance")
# The baseline as published: the mask alone, by cross-entropy
UNET = Candidate("unet", "mask", ("--arch", "unet", "--heads", "foreground", "--loss", "bce", "--monitor", "mean_iou"))
CANDIDATES = (
    Candidate("edge-unet", "mask, distance", ("--arch", "edge-unet", *BOTH)),
    UNET,
    Candidate("hrnet-w18-small", "mask, distance", ("--arch", "hrnet-w18-small", *BOTH)),
    Candidate("unetpp", "mask, distance", ("--arch", "unetpp", *BOTH)),
)


def host(*arguments: object) -> None:
    """Run ``cellseg-host`` to its end."""
    command = [sys.executable, "-m", "cellseg_host", *map(str, arguments)]
    print("+ cellseg-host", *map(str, arguments), flush=True)
    subprocess.run(command, check=True)


def trained(candidate: Candidate, data: Path, work: Path) -> Path:
    """The run folder of a candidate, trained to its end."""
    run = work / candidate.name / "run"
    done = run.parent / "trained"
    if not done.exists():
        resume = ("--resume",) if (run / "run.json").exists() else ()
        host("train", data, "--out", run, *candidate.flags, *BUDGET, *resume)
        done.touch()
    return run


def quantized(candidate: Candidate, run: Path, data: Path) -> dict[str, Path]:
    """Its models, by mode."""
    models = {}
    for mode in MODES:
        models[mode] = run.parent / f"{candidate.name}-{mode}.tflite"
        if not models[mode].exists():
            flags = ("--qat", *QAT_BUDGET) if mode == "qat" else (f"--{mode}",)
            host("quantize", run, *flags, "--data", data, "--out", models[mode])
    return models


def compared(models: list[Path], data: Path, out: Path) -> list[dict[str, str]]:
    """A row for each model, on the test split."""
    if not (out / "models.csv").exists():
        host("compare", *models, "--data", data, "--split", "test", "--out", out)
    with (out / "models.csv").open(newline="") as file:
        return list(Rows(file))


def in_time(models: list[Path], data: Path, work: Path) -> float:
    """Seconds that the comparison of one model of each network takes; the target is 600."""
    taken = work / "seconds.txt"
    if not taken.exists():
        begin = time.monotonic()
        host("compare", *models, "--data", data, "--split", "test", "--out", work / "report-int8")
        taken.write_text(f"{time.monotonic() - begin:.1f}")
    return float(taken.read_text())


def tuning(work: Path, candidate: Candidate) -> list[dict[str, str]]:
    """The epochs of quantization-aware training; 0 is the network before any of its steps."""
    with (work / candidate.name / "run" / "qat" / "history.csv").open(newline="") as file:
        return list(Rows(file))


def table(rows: list[dict[str, str]], seconds: float, epochs: dict[str, list[dict[str, str]]]) -> str:
    """Markdown."""
    by_name = {row["model"]: row for row in rows}
    lines = [
        "# Architectures and quantization modes, side by side",
        "",
        "Made by `python benchmarks/architectures.py nuclei-data`, which trains, quantizes and compares; all numbers",
        f"are of the 68 test images of DSB2018. Budget of each network: `cellseg-host train {' '.join(BUDGET)}`,",
        f"for quantization-aware training `--qat {' '.join(QAT_BUDGET)}` more. It is small: it shows what quantization",
        "costs each network and what they cost to run, not what any can reach. Parameters are the .tflite's, batch",
        "normalisations folded in. Latency is of one 256 × 256 tile,",
        "all models taken alternately, on the machine that architectures.json names; on x86, and for dynamic range",
        "anywhere, the times say little about a Raspberry Pi: `cellseg-device bench` measures there.",
        "",
        "![accuracy against latency and the change by quantization](architectures.png)",
        "",
        "| network | learns | parameters | MAC/px | mode | MB | ms a tile | mean IoU@0.4 | change | AP@0.5 | mean AP |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for candidate in CANDIDATES:
        exact = float(by_name[f"{candidate.name}-float32"]["mean_iou"])
        for mode in MODES:
            row = by_name[f"{candidate.name}-{mode}"]
            iou, first = float(row["mean_iou"]), mode == MODES[0]
            lines.append(
                f"| {candidate.name if first else ''} | {candidate.learns if first else ''} "
                f"| {int(row['parameters']):,} | {float(row['macs_per_px']):,.0f} "
                f"| {mode} | {int(row['size_bytes']) / 1e6:.2f} | {float(row['invoke_median_ms']):.2f} "
                f"| {iou:.3f} | {iou - exact:+.3f} | {float(row['ap50']):.3f} | {float(row['mean_ap']):.3f} |"
            )
    lines += [
        "",
        (
            f"The comparison of the four int8 models on these 68 images took {seconds:.0f} s with 2 threads "
            "(`cellseg-host compare`)."
        ),
        "",
        "Quantization-aware training starts from ranges of calibration, at epoch 0, and keeps the best epoch by the",
        "validation score (mean AP; mean IoU of the published unet); the float network was itself the best of 25.",
        "Mean IoU / mean AP on the validation images with the default thresholds, the epoch that was kept in bold:",
        "",
        "| network | epoch 0 | 1 | 2 | 3 | 4 |",
        "|---|---|---|---|---|---|",
    ]
    for name, history in epochs.items():
        best = [row["epoch"] for row in history if row["best"] == "True"][-1]
        cells = [f"{float(row['mean_iou']):.3f} / {float(row['mean_ap']):.3f}" for row in history]
        marked = [f"**{c}**" if row["epoch"] == best else c for c, row in zip(cells, history, strict=True)]
        lines.append(f"| {name} | {' | '.join(marked)} |")
    lines += [
        "",
        "Published for DSB2018, for orientation (another split, longer training, files that hold the optimizer too):",
        "",
        "| network | parameters | float: mean IoU@0.4, MB | dynamic range: mean IoU@0.4, MB |",
        "|---|---|---|---|",
    ]
    for name, published in PUBLISHED.items():
        cells = [f"{published[mode][0]:.3f}, {published[mode][1]:.2f}" for mode in ("float32", "dynamic")]
        lines.append(f"| {name} | {published['parameters']:,} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def picture(rows: list[dict[str, str]], path: Path) -> None:
    """Accuracy against time, and what each mode changes, with 95 % intervals."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    by_name = {row["model"]: row for row in rows}
    marks = dict(zip(MODES, ("o", "^", "s", "D"), strict=True))
    colours = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")  # Okabe & Ito, which the colour-blind can tell apart
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for place, (candidate, colour) in enumerate(zip(CANDIDATES, colours, strict=True)):
        exact = float(by_name[f"{candidate.name}-float32"]["mean_iou"])
        for offset, mode in enumerate(MODES):
            row = by_name[f"{candidate.name}-{mode}"]
            iou = float(row["mean_iou"])
            label = candidate.name if mode == "float32" else None
            left.plot(float(row["invoke_median_ms"]), iou, marks[mode], color=colour, label=label, ms=7)
            if mode != "float32":
                right.plot(place + 0.2 * (offset - 2), iou - exact, marks[mode], color=colour, ms=8)
    left.set(xscale="log", xlabel="network's time for a 256 × 256 tile, ms", ylabel="two-class mean IoU at 0.4")
    networks = left.legend(loc="lower right", title="network")
    left.add_artist(networks)
    handles = [plt.Line2D([], [], marker=m, color="0.4", ls="", label=mode) for mode, m in marks.items()]
    left.legend(handles=handles, loc="upper left", title="mode")
    right.axhline(0, color="0.6")
    right.axhspan(-0.005, 0.005, color="0.92", zorder=0)
    right.set_xticks(range(len(CANDIDATES)), [c.name for c in CANDIDATES])
    right.set(ylabel="mean IoU: change against float", title="grey: the limit of ±0.005")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the imported dataset")
    parser.add_argument("--work", type=Path, default=Path("runs/architectures"), help="runs and models go there")
    arguments = parser.parse_args()
    models = [
        quantized(candidate, trained(candidate, arguments.data, arguments.work), arguments.data)
        for candidate in CANDIDATES
    ]
    seconds = in_time([m["int8"] for m in models], arguments.data, arguments.work)
    report = arguments.work / "report"
    rows = compared([path for m in models for path in m.values()], arguments.data, report)
    summary = json.loads((report / "summary.json").read_text())
    kept = {
        k: v for k, v in summary.items() if k in ("dataset", "split", "made", "machine", "runtime", "threads", "images")
    }
    epochs = {c.name: tuning(arguments.work, c) for c in CANDIDATES}
    named = [{k: v for k, v in row.items() if k != "path"} for row in rows]
    document = {
        "budget": BUDGET,
        "qat_budget": QAT_BUDGET,
        "qat": epochs,
        "seconds_for_four": seconds,
        **kept,
        "models": named,
    }
    (HERE / "architectures.json").write_text(json.dumps(document, indent=1) + "\n")
    (HERE / "architectures.md").write_text(table(rows, seconds, epochs))
    picture(rows, HERE / "architectures.png")
    print(f"written: {HERE / 'architectures.md'}")


if __name__ == "__main__":
    main()
