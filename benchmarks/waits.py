"""What somebody at the microscope waits for: the first result, help, many files at once, a table, outlines.

    python benchmarks/waits.py      (prints the table, writes benchmarks/waits.json)

Commands are timed from their start, imports included; the least of several rounds is printed, with the time of the
processor that the command and its children took. `--done` images are really counted first, which takes a minute.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import psutil

from cellseg_device.cells.measure import Cells
from cellseg_device.cells.polygons import trace
from cellseg_device.results import image_files
from cellseg_device.system import files, hardware
from cellseg_device.watching.bench import known_field
from cellseg_host.commands.console import print_table

JSON = Path(__file__).with_name("waits.json")
DEVICE = (sys.executable, "-m", "cellseg_device")


def image(path: Path, height: int, width: int) -> Path:
    """Write a field of nuclei of this size."""
    path.write_bytes(known_field(height, width))
    return path


def tiny_images(folder: Path, number: int) -> Path:
    """Make a folder of so many images of 16 × 16 px."""
    folder.mkdir()
    data = bytes(cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1])
    for index in range(number):
        (folder / f"{index:06}.png").write_bytes(data)
    return folder


def of_command(*arguments: object) -> tuple[float, float]:
    """Seconds until a command of the device ends, and of the processor."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*DEVICE, *map(str, arguments)], stdout=subprocess.DEVNULL, check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def until_line(number: int, *arguments: object, begin: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """Seconds from the start of a watch until it has printed so many lines, and of the processor.

    Parameters
    ----------
    number : int
    *arguments : object
        Of ``watch``.
    begin : callable
        Called at the start; what it brings is counted.
    """
    start = time.perf_counter()
    with subprocess.Popen([*DEVICE, "watch", *map(str, arguments)], stdout=subprocess.PIPE, text=True) as watch:
        begin()
        for _ in range(number):
            assert watch.stdout.readline()
        seconds = time.perf_counter() - start
        process = psutil.Process(watch.pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        watch.terminate()
    return seconds, sum(each.user + each.system for each in times)


def of_call(function: Callable[..., object], *arguments: object) -> tuple[float, float]:
    """Seconds of a call, and of the processor."""
    start, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - start, time.process_time() - cpu


def table_of(cells: int) -> Cells:
    """A table of so many cells with as many columns as those of a field have."""
    rng = np.random.default_rng(0)
    return Cells({"label": np.arange(cells)} | {f"column {index}": rng.random(cells) for index in range(14)})


def nuclei(cells: int) -> np.ndarray:
    """A label image of 1200 × 1600 px with so many nuclei."""
    rng, labels = np.random.default_rng(0), np.zeros((1200, 1600), np.int32)
    for number in range(1, cells + 1):
        centre, axes = (int(rng.integers(1600)), int(rng.integers(1200))), (int(rng.integers(10, 18)), 11)
        cv2.ellipse(labels, centre, axes, float(rng.integers(180)), 0, 360, number, -1)
    return labels.astype(np.uint16)


def one_round(work: Path, before: Path, number: int) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield what is waited for, with its seconds and those of the processor."""
    small, field = image(work / "small.png", 96, 128), image(work / "field.png", 1200, 1600)
    out, many = work / f"out{number}", tiny_images(work / f"many{number}", 0)
    made = tiny_images(work / f"made{number}", 1000)
    shutil.copy(small, before / f"new{number}.png")

    def bring() -> None:
        for path in made.iterdir():
            path.rename(many / path.name)

    yield "--help", of_command("--help")
    yield "a small image, from typing to its result", of_command("run", small, "--out", out / "small")
    yield "a field of 1200 × 1600 px, likewise", of_command("run", field, "--out", out / "field")
    yield "a new image beside those done before", until_line(1, before, "--settle", "0")
    yield "1,000 tiny images that come at once", until_line(1000, many, "--settle", "0", begin=bring)
    yield "the table of 500 cells as CSV", of_call(image_files.cells_csv, table_of(500))
    yield "the outlines of 500 nuclei", of_call(trace, nuclei(500))


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--done", default=10_000, show_default=True, help="Images done before the start of a watch.")
def main(rounds: int, done: int) -> None:
    """Measure what a user waits for."""
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        before = tiny_images(Path(name) / "before", done)
        subprocess.run([*DEVICE, "watch", before, "--once"], stdout=subprocess.DEVNULL, check=True)
        for number in range(rounds):
            for what, times in one_round(Path(name), before, number):
                found.setdefault(what, []).append(times)
    least = {what: [min(times) for times in zip(*rows, strict=True)] for what, rows in found.items()}
    rows = [(what, f"{seconds:.3g}", f"{cpu:.3g}") for what, (seconds, cpu) in least.items()]
    print_table(f"{done:,} images done before", ("waiting for", "s", "s of the processor"), rows)
    told = {"command": "python benchmarks/waits.py", "hardware": hardware.describe(), "rounds": rounds, "done": done}
    waits = {what: {"s": round(seconds, 4), "cpu_s": round(cpu, 4)} for what, (seconds, cpu) in least.items()}
    files.write(JSON, json.dumps({**told, "waits": waits}, indent=1, ensure_ascii=False).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
