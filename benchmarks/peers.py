"""cellseg beside what people would use instead: one run, the same images, the same threads.

\b
    cellseg-host data import --format labels DSB2018 nuclei-data
    python benchmarks/peers.py nuclei-data --split test --train-unet 400 --train-stardist 400

Every peer is a process in a virtual environment of its own, which this script makes and keeps; one that cannot be
installed is left out with the reason. Each writes its label images to a folder, and one code scores all:
``cellseg_host.evaluation.evaluate``. Then each segments the same field of 1200 × 1600 pixels, all in turn, on one and
on two cores. Writes peers.json beside this file, and its table into README.md. Training may be stopped and resumed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import zlib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import architectures
import click
import peers_page
import pipeline
from contest import RUNNERS, Contest, Peer, variables
from environments import DEVICE, ROOT, Environment, UnavailableError, ready

from cellseg_device.errors import InputError
from cellseg_device.system import files, hardware
from cellseg_host.data import dataset as datasets

HERE = Path(__file__).resolve().parent
JSON, README = "peers.json", "README.md"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cellseg-peers"
MODELS = tuple(ROOT / "models" / name for name in ("nuclei.tflite", "nuclei-nano.tflite"))
PEERS = ("cellseg", "otsu", "unet", "stardist", "cellpose")  # the others are measured by the first
# U-Net's: until the validation loss has not fallen for so many epochs, halving the rate meanwhile
UNET_BUDGET = ("--steps", "50", "--batch", "16", "--side", "128", "--learning-rate", "1e-3")
UNTIL_FLAT = ("--schedule", "plateau", "--monitor", "val_loss", "--patience", "20")
UNET_ROADS = ("dynamic", "int8")  # the first as published, the second faster
# Of a fixed size the runtime's fast kernels also take what is computed in float
UNET_VIEWS = {"the field at once": (), f"tiles of {pipeline.TILE}": ("--tile", pipeline.TILE)}

ONCE = ("run_cellseg.py", "--once")  # the baseline as published has no second look at another size

CELLSEG = Environment("cellseg", (DEVICE,))
OTSU = Environment("otsu", ("opencv-python-headless>=4.10",))
# The last TensorFlow with Keras 2 inside, for CPUs alone: a third of the size of today's; for Python up to 3.11
STARDIST = Environment("stardist", ("stardist==0.9.2", "tensorflow-cpu==2.15.1"))
# The build for CPUs alone; where pip does not find it, PyTorch's own index has it (PIP_EXTRA_INDEX_URL)
CELLPOSE = Environment("cellpose", ("torch==2.13.0+cpu", "cellpose==3.1.1"))


def cellseg_peers(models: tuple[Path, ...]) -> list[Peer]:
    """The device package with each model, the default model first."""
    chosen = models or tuple(path for path in MODELS if path.exists())
    return [
        Peer(
            "cellseg" if path == MODELS[0] else f"cellseg, {path.stem}",
            f"`{path.name}`, {path.stat().st_size / 1e3:.0f} kB, int8, as watch runs it; trained by models/train.sh",
            CELLSEG,
            ("run_cellseg.py", str(path.resolve())),
        )
        for path in chosen
    ]


def unet_peers(given: Path | None, data: Path, work: Path, *, epochs: int | None) -> list[Peer]:
    """The baseline U-Net: trained now to so many epochs at most, or a run or model that is given, or random weights."""
    what = "1,941,105 parameters"
    if epochs is not None:
        given = trained_unet(epochs, data, work)
    if given is None:
        path = pipeline.baseline(work).resolve()
        about = f"{what}; its weights are random, so that its labels are not scored"
        return [Peer("baseline U-Net, dynamic", about, CELLSEG, (*ONCE, str(path)), scored=False)]
    if given.is_dir():
        models = {
            f"baseline U-Net, {kind}, {view}": quantized(given, kind, flags, data, work)
            for kind in UNET_ROADS
            for view, flags in UNET_VIEWS.items()
        }
        about = f"{what}, mask by cross-entropy, connected components; trained here, {budget(given)}"
    else:
        models, about = {"baseline U-Net": given}, f"{what}; `{given.name}`"
    return [Peer(name, about, CELLSEG, (*ONCE, str(path.resolve()))) for name, path in models.items()]


def trained_unet(epochs: int, data: Path, work: Path) -> Path:
    """The run folder of the baseline U-Net, trained until its validation loss is flat."""
    run, done = work / "unet-run", work / "unet-trained"
    if not done.exists():
        how = ("--resume",) if (run / "run.json").exists() else ()
        budget = ("--epochs", epochs, *UNET_BUDGET, *UNTIL_FLAT)
        architectures.host("train", data, "--out", run, *architectures.UNET.flags, *budget, *how)
        done.touch()
    return run


def quantized(run: Path, kind: str, flags: tuple[object, ...], data: Path, work: Path) -> Path:
    """A run as a model file; made again where the run is newer."""
    parts = (f"unet-{zlib.crc32(bytes(run.resolve())):08x}", kind, *flags)
    path = work / ("-".join(str(part).strip("-") for part in parts) + ".tflite")
    if not path.exists() or path.stat().st_mtime < (run / "model.keras").stat().st_mtime:
        architectures.host("quantize", run, f"--{kind}", "--data", data, "--out", path, *flags)
    return path


def budget(run: Path) -> str:
    """How long a run was trained."""
    settings = json.loads((run / "run.json").read_text())["settings"]
    epochs = len((run / "history.csv").read_text().splitlines()) - 1
    side = settings["side"]
    return f"{epochs} epochs of {settings['steps']} steps of {settings['batch']} views of {side} × {side} pixels"


def stardist_peer(epochs: int | None, data: Path, environments: Path, work: Path) -> Peer:
    """StarDist: trained now to so many epochs, or with random weights."""
    if epochs is None:
        about = "2D, 32 rays, grid 2; its weights are random, so that its network alone is timed"
        return Peer("StarDist", about, STARDIST, ("run_stardist.py",), scored=False)
    folder = (work / "stardist").resolve()
    done = "not trained"
    with contextlib.suppress(UnavailableError):  # the contest says so again, and leaves it out
        python = ready(STARDIST, environments)
        train = [python, RUNNERS / "train_stardist.py", data.resolve(), folder, "--epochs", str(epochs)]
        if subprocess.run(train, check=False, env=variables()).returncode:
            raise InputError("StarDist's training has stopped, for the reason above")
        done = (folder / "epochs.txt").read_text()
    about = (
        f"2D, 32 rays, grid 2, RGB; trained here from nothing, {done} epochs of 50 steps of 16 views of 128 × 128 "
        "pixels, augmented as in its examples, thresholds chosen by it on the validation split"
    )
    return Peer("StarDist", about, STARDIST, ("run_stardist.py", "--model", str(folder)))


CELLPOSE_PEER = Peer(
    "Cellpose 3",
    "CPnet as `cyto3` has it, in tiles of 224, the image not resized; its weights are random, so that its network "
    "alone is timed",
    CELLPOSE,
    ("run_cellpose.py",),
    scored=False,
)
OTSU_PEER = Peer("Otsu + watershed", "OpenCV's tutorial; dark nuclei as well", OTSU, ("run_otsu.py",))
PATH = click.Path(path_type=Path)
EXISTING = click.Path(path_type=Path, exists=True)
EPOCHS = click.IntRange(1)


@click.command(help=__doc__)
@click.argument("data", type=EXISTING)
@click.option("--peer", "chosen", type=click.Choice(PEERS), multiple=True, help="Only these; several may be given.")
@click.option("--split", default="val", show_default=True, help="Images to score.")
@click.option("--model", "models", type=EXISTING, multiple=True, help="Of cellseg.  [default: those in models/]")
@click.option("--unet", type=EXISTING, help="The baseline U-Net: a run, or a .tflite.  [default: random weights]")
@click.option("--train-unet", type=EPOCHS, help="Train it until its validation loss is flat, at most so many epochs.")
@click.option("--train-stardist", type=EPOCHS, help="Likewise StarDist; an epoch is of 50 steps.")
@click.option("--threads", type=click.IntRange(1), multiple=True, default=(1, 2), show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--environments", type=PATH, default=CACHE, show_default=True, help="Virtual environments are kept there."
)
@click.option("--work", type=PATH, default=Path("runs/peers"), show_default=True, help="Trained models, labels, logs.")
@click.option("--out", type=PATH, default=HERE, help="peers.json and README.md go there.  [default: benchmarks]")
def main(
    *,
    data: Path,
    chosen: tuple[str, ...],
    split: str,
    models: tuple[Path, ...],
    unet: Path | None,
    train_unet: int | None,
    train_stardist: int | None,
    threads: tuple[int, ...],
    rounds: int,
    environments: Path,
    work: Path,
    out: Path,
) -> None:
    """Compare them."""
    dataset = datasets.load(data)
    entries = dataset.labelled(split)
    cores = len(os.sched_getaffinity(0))
    if max(threads) > cores:
        raise InputError(f"--threads {max(threads)}: this computer has {cores} cores")
    work.mkdir(parents=True, exist_ok=True)
    if unet is not None and train_unet is not None:
        raise InputError("--unet and --train-unet: give one of them")
    if unet is not None and unet.is_dir() and not (unet / "run.json").is_file():
        raise InputError(f"--unet: {unet} is no training run (no run.json)")
    makers: dict[str, Callable[[], list[Peer]]] = {
        "cellseg": lambda: cellseg_peers(models),
        "otsu": lambda: [OTSU_PEER],
        "unet": lambda: unet_peers(unet, data, work, epochs=train_unet),
        "stardist": lambda: [stardist_peer(train_stardist, data, environments, work)],
        "cellpose": lambda: [CELLPOSE_PEER],
    }
    peers = [peer for name in PEERS if name in (chosen or PEERS) for peer in makers[name]()]
    contest = Contest(peers, environments, work)
    contest.score(dataset, entries, max(threads))
    field = (work / "field.png").resolve()
    field.write_bytes(pipeline.field()["png"])
    for count in threads:
        contest.time(field, count, rounds)
    if not contest.reached:
        raise InputError("no peer could take part, for the reasons above: nothing is written")
    command = f"python benchmarks/peers.py {data.resolve().name} --split {split}"
    for name, epochs in (("unet", train_unet), ("stardist", train_stardist)):
        command += f" --train-{name} {epochs}" if epochs else ""
    document = {
        "made": f"{date.today():%Y-%m-%d}",
        "command": command,
        "hardware": hardware.describe(),
        "accuracy_on": {
            "dataset": data.resolve().name,
            "split": split,
            "images": len(entries),
            "cells": datasets.cells_in(entries),
        },
        "field": f"{pipeline.HEIGHT} × {pipeline.WIDTH} RGB with {pipeline.CELLS} synthetic nuclei",
        "threads": threads,
        "rounds": rounds,
        "peers": contest.reached,
        "left_out": contest.left_out,
    }
    section = peers_page.section(document)
    files.write(out / JSON, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())
    page = out / README
    files.write(page, peers_page.placed(page.read_text() if page.exists() else "", section).encode())
    click.echo(section)


if __name__ == "__main__":
    main()
