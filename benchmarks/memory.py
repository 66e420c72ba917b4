"""What memory each step takes for images of every kind, beside what `pipeline.needs` says before.

    python benchmarks/memory.py                   (prints the table, writes benchmarks/memory.json)

Every image is done in a process of its own. Numbers are the most that the process holds in a step, beyond what it holds
before the first image, with the model loaded; for decoding, which another process does, with the copy that it hands
over. Bytes per pixel are those of the image.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import numpy.typing as npt
import tifffile

from cellseg_device.cells.counting import Counting
from cellseg_device.cells.region import Region
from cellseg_device.image import sandbox, source
from cellseg_device.image.budget import Budget, decoding_bytes
from cellseg_device.image.decode import decode
from cellseg_device.model.interpreter import RUNTIME, Model, bundled_path
from cellseg_device.pipeline import needs, predict, segment, selftest
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.results import image_files, save
from cellseg_device.system import files, hardware, memory

JSON = Path(__file__).with_name("memory.json")
SAMPLES = Path(__file__).parents[1] / "models" / "samples"
PROVENANCE = image_files.Provenance("field", "0" * 64, 0, "nuclei", "0" * 64, "{}")
KINDS = ("grey8.png", "rgb8.png", "rgb8.jpg", "grey16.png", "rgb16.tif", "float32.tif")
CONTENTS = ("empty", "noise", "ordinary", "crowded", "tissue")
STEPS = ("decode", "normalise", "tiles", "invoke", "stitch", "instances", "measure", "write", "extras")


@dataclass(frozen=True)
class Case:
    """An image, and what is done with it."""

    kind: str
    content: str = "ordinary"
    side: int = 3000
    diameter_px: float | None = None
    extra: str | None = None
    is_masked: bool = False  # by a region, which leaves cells out of the count

    def __str__(self) -> str:
        diameter = "" if self.diameter_px is None else f", diameter {self.diameter_px:g}"
        extra = "" if self.extra is None else f", {self.extra}"
        return f"{self.kind} {self.content} {self.side}{diameter}{extra}{', region' if self.is_masked else ''}"


def cases() -> list[Case]:
    """Every kind with every content; then other sizes, scales and what is made beside the labels."""
    found = [Case(kind, content) for kind in KINDS for content in CONTENTS]
    found += [Case("grey8.png", "ordinary", side) for side in (64, 256, 700, 1000, 1400, 2000, 6000, 9000)]
    found += [Case(kind, "crowded", 1400, 9) for kind in KINDS[::2]]
    found += [Case(kind, content, 3000, 9) for kind in ("grey8.png", "rgb16.tif") for content in CONTENTS]
    found += [Case(kind, "crowded", 3000, 40) for kind in ("grey8.png", "rgb16.tif")]
    found += [
        Case("grey8.png", content, side, extra=extra)
        for extra in image_files.EXTRAS
        for content in ("empty", "ordinary", "crowded")
        for side in (1400, 4000)
    ]
    return found + [Case("grey8.png", "crowded", side, extra="overlay", is_masked=True) for side in (1400, 4000)]


def field(content: str, side: int) -> npt.NDArray[np.uint8]:
    """A grey field of this side."""
    rng = np.random.default_rng(0)
    if content == "empty":
        return np.zeros((side, side), np.uint8)
    if content == "noise":
        return rng.integers(0, 256, (side, side), dtype=np.uint8)
    if content == "tissue":
        tile = cv2.imread(str(SAMPLES / "tissue.png"), cv2.IMREAD_GRAYSCALE)
    else:
        tile = selftest.known_image().pixels if content == "ordinary" else _crowd(rng)
    count = -(-side // min(tile.shape))
    return np.tile(tile, (count, count))[:side, :side]


def _crowd(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Discs so close together that many touch; hardly any is found of those that all overlap."""
    step, count = 22, 20
    tile = np.full((step * count, step * count), 15, np.float32)
    for row in range(-1, count + 2):
        for col in range(-1, count + 2):
            centre = col * step + row % 2 * step // 2 + int(rng.integers(-2, 3)), row * step + int(rng.integers(-2, 3))
            cv2.circle(tile, centre, 10, float(rng.integers(90, 200)), -1)
    return np.clip(cv2.GaussianBlur(tile, (0, 0), 1.5) + rng.normal(0, 2, tile.shape), 0, 255).astype(np.uint8)


def write(path: Path, kind: str, grey: npt.NDArray[np.uint8]) -> None:
    """Write the field as a file of this kind."""
    pixels: npt.NDArray[Any] = cv2.merge([grey] * 3) if kind.startswith("rgb") else grey
    if "16" in kind:
        pixels = pixels.astype(np.uint16) * 200
    if kind.startswith("float"):
        pixels = pixels.astype(np.float32) * 1.5
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="rgb" if kind.startswith("rgb") else "minisblack")
    else:
        cv2.imwrite(str(path), pixels)


def held(name: str) -> int:
    """Memory of this process, now (VmRSS) or at most since `forget` (VmHWM)."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget() -> None:
    """Begin to look for the most from here."""
    Path("/proc/self/clear_refs").write_text("5")


class MemoryWatch(Stopwatch):
    """Notes the most memory of each step, beyond what is held now."""

    def __init__(self) -> None:
        super().__init__()
        self._base = held("VmRSS")
        self.peaks: dict[str, int] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block under `name`."""
        forget()
        yield
        self.peaks[name] = max(self.peaks.get(name, 0), held("VmHWM") - self._base)


def in_a_child(path: Path, tiny: Path) -> int:
    """The most that decoding takes in another process, with the copy that is handed over."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        memory.return_large_blocks()
        decode(source.read(tiny))  # imports what it needs, which takes the more where nothing is compiled yet
        base = held("VmRSS")
        forget()
        image = decode(source.read(path))
        peak = held("VmHWM") - base
        copied = held("VmRSS") - base + image.pixels.nbytes
        os.write(writing, str(max(peak, copied)).encode())
        os._exit(0)
    os.wait()
    return int(os.read(reading, 100))


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Do the image in this process; what each step took, and what was said before."""
    path, tiny = folder / f"field.{case.kind}", folder / f"tiny.{case.kind}"
    if os.fork() == 0:  # so that this process does not hold what it takes
        write(path, case.kind, field(case.content, case.side))
        write(tiny, case.kind, field(case.content, 64))
        os._exit(0)
    os.wait()
    import PIL.Image
    import roifile  # noqa: F401

    PIL.Image.preinit()
    decoding = in_a_child(path, tiny)
    decoder = sandbox.Decoder()
    memory.return_large_blocks()
    model = Model(bundled_path())
    selftest.check(model)
    watch = MemoryWatch()
    with watch.step("decode"):
        _, image = decoder.decode(path)
    extras = () if case.extra is None else (case.extra,)
    counting = Counting(region=Region("circle") if case.is_masked else None)
    image = counting.applied(image)
    room = needs.room_for(
        image, model, Budget(None), diameter_px=case.diameter_px, extras=extras, leaves_out=counting.leaves_out
    )
    prediction = predict.predict(image, model, watch, diameter_px=case.diameter_px, whole_px=room.whole_px)
    result = segment.finish(prediction, watch, counting)
    with ThreadPoolExecutor(1) as thread:
        with watch.step("extras"):
            encoded = save.encoded("field", result, Counting.frame, extras, thread=thread)
        with watch.step("write"):
            image_files.write(folder, "field", result, PROVENANCE, encoded)
    decoder.close()
    stored = image.pixels.nbytes // case.side**2 * (2 if case.kind.startswith("float") else 1)
    peak, needed = max(watch.peaks.values()), room.needed_bytes
    decoding_needed = decoding_bytes(case.side**2, stored, path.stat().st_size)
    return {
        **asdict(case),
        "cells": result.counts.count,
        "decoding_mb": _mb(decoding),
        "decoding_needed_mb": _mb(decoding_needed),
        "steps_mb": {name: _mb(watch.peaks[name]) for name in STEPS},
        "peak_mb": _mb(peak),
        "needed_mb": _mb(needed),
        "bytes_per_px": round(peak / case.side**2, 2),
        "needed_of_peak": round(max(needed, decoding_needed) / max(peak, decoding), 3),
    }


def _mb(size: float) -> float:
    return round(size / 1e6, 1)


def in_a_process(case: Case) -> dict[str, Any]:
    """As `measure`, in a new process."""
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)  # type: ignore[no-any-return]


@click.command()
@click.option("--case", "only", help="Measure one image, given as JSON, in this process, and print what it took.")
@click.option("--out", type=click.Path(path_type=Path), default=JSON, help="[default: benchmarks/memory.json]")
def main(only: str | None, out: Path) -> None:
    """Measure the memory of every step."""
    if only is not None:
        with tempfile.TemporaryDirectory() as temporary:
            click.echo(json.dumps(measure(Case(**json.loads(only)), Path(temporary))))
        return
    rows = []
    click.echo(
        f"{'':<44}{'decoding':>10}{'predict':>9}{'separate':>9}{'measure':>9}{'write':>7}{'extras':>8}{'needed':>8}  ÷"
    )
    for case in cases():
        row = in_a_process(case)
        steps = row["steps_mb"]
        click.echo(
            f"{case!s:<44}{row['decoding_mb']:>10.0f}{max(steps[s] for s in STEPS[:5]):>9.0f}{steps['instances']:>9.0f}"
            f"{steps['measure']:>9.0f}{steps['write']:>7.0f}{steps['extras']:>8.0f}{row['needed_mb']:>8.0f}  "
            f"{row['needed_of_peak']:.2f}"
        )
        rows.append(row)
    document = {"hardware": hardware.describe(), "runtime": RUNTIME, "rows": rows}
    files.write(out, (json.dumps(document, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
