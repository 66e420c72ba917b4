"""What `cellseg-device serve` costs: the time until it answers, its memory while nobody looks, and the time of an edit.

    python benchmarks/page.py       (prints the table)

The results are those of the samples, as often as is asked for in the ledger. Memory is that of the server alone and,
once a picture was drawn, of the process that draws. Edits are of a field of 1200 × 1600 pixels. The first one of all
starts the process that corrects, and predicts the maps.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import unquote

import click
import cv2
import numpy as np
import tifffile

from cellseg_device.results.entry import DONE
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_host.commands.console import print_table

SAMPLES = Path(__file__).resolve().parents[1] / "models" / "samples"
COMMAND = [sys.executable, "-m", "cellseg_device"]
SHAPE, MOST_EDIT_MS = (1200, 1600), 150


def filled(out: Path, number: int) -> None:
    """Count the samples, and give the ledger so many images."""
    subprocess.run(
        [*COMMAND, "run", *map(str, SAMPLES.glob("*.png")), "--out", str(out), "--quiet"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with closing(Ledger(out / FILE_NAME)) as ledger:
        entry = next(ledger.entries(DONE))
        with ledger.transaction():
            for index in range(number):
                ledger.put(replace(entry, image=f"field_{index}.png", stem=f"field_{index}"))


def resident_mb(pid: int) -> float:
    """Return the memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def measured(out: Path) -> tuple[float, float, float, float, float]:
    """Return seconds until it is ready, megabytes then; seconds of a list, megabytes after it; megabytes to draw."""
    start = time.monotonic()
    command = [*COMMAND, "serve", str(out), "--listen", "127.0.0.1:0", "--originals", str(SAMPLES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        ready_s = time.monotonic() - start
        idle_mb = resident_mb(server.pid)
        start = time.monotonic()
        urllib.request.urlopen(f"{address}api/images?order=name").read()
        list_s = time.monotonic() - start
        listed_mb = resident_mb(server.pid)
        image = next(SAMPLES.glob("*.png")).resolve()
        names = urllib.request.urlopen(f"{address}api/images?text={image.stem}").read()
        assert image.name.encode() in names
        with closing(Ledger(out / FILE_NAME, is_for_reading=True)) as ledger:
            name = next(e.image for e in ledger.entries(DONE) if e.image.endswith(image.name))
        urllib.request.urlopen(f"{address}picture?image={urllib.request.quote(name)}").read()
        painter = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0]
        painter_mb = resident_mb(int(painter))
        server.terminate()
    return ready_s, idle_mb, list_s, listed_mb, painter_mb


def field_of(folder: Path) -> np.ndarray:
    """Count a field in a folder, and return its labels."""
    sample = cv2.imread(str(SAMPLES / "hoechst8.png"), cv2.IMREAD_UNCHANGED)
    rows, cols = (-(-side // part) for side, part in zip(SHAPE, sample.shape, strict=True))
    cv2.imwrite(str(folder / "field.png"), np.tile(sample, (rows, cols))[: SHAPE[0], : SHAPE[1]])
    subprocess.run([*COMMAND, "watch", str(folder), "--once", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return np.asarray(tifffile.imread(folder / "cellseg-results" / "field.labels.tif"))


def edits_of(labels: np.ndarray, times: int) -> list[dict[str, Any]]:
    """Return edits of all kinds, each with cells of its own; the first grows a cell again that it has removed."""
    sizes = np.bincount(labels.ravel())
    sizes[[0, *np.unique(labels[[0, -1]]), *np.unique(labels[:, [0, -1]])]] = 0
    cells = iter(np.flatnonzero(sizes > 150).tolist())

    def spots(part: float = 0.5) -> list[int]:
        rows, cols = np.nonzero(labels == cell)
        at = np.argsort(cols, kind="stable")[int(part * (len(cols) - 1))]
        return [int(rows[at]), int(cols[at])]

    asked: list[dict[str, Any]] = []
    for _ in range(times):
        cell = next(cells)
        asked += [{"what": "remove", "at": spots()}, {"what": "add", "at": spots()}]
        cell = next(cells)
        row, col = spots()
        asked += [{"what": "cut", "line": [[row - 40, col], [row + 40, col]]}]
        cell = next(cells)
        asked += [{"what": "divide", "first": spots(0.0), "second": spots(1.0)}]
        cell = next(cells)
        first = spots()
        cell = next(cells)
        asked += [{"what": "join", "first": first, "second": spots()}]
        cell = next(cells)
        row, col = spots()
        stroke = {"points": [[row, col], [row + 3, col + 3]], "radius": 9}
        asked += [{"what": "brush", "cell": cell, **stroke}, {"what": "erase", "cell": 0, **stroke}]
        asked += [{"what": "undo"}, {"what": "redo"}]
    return [*asked, *[{"what": "checked"}] * times]


def edit_times(folder: Path, times: int = 8) -> tuple[float, dict[str, list[float]]]:
    """Return the seconds of the first edit, and by kind the milliseconds of those from the third on."""
    labels = field_of(folder)
    command = [*COMMAND, "serve", str(folder), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            return asked_for(server.stdout.readline().strip(), edits_of(labels, times))
        finally:
            server.terminate()  # and wait, since the process that corrects writes what it has


def asked_for(address: str, edits: list[dict[str, Any]]) -> tuple[float, dict[str, list[float]]]:
    """Ask for edits one after the other, and return as `edit_times` does."""
    taken: dict[str, list[float]] = {}
    revision, first_s = 0, 0.0
    for number, edit in enumerate(edits):
        data = json.dumps({**edit, "revision": revision}).encode()
        headers = {"Origin": address.rstrip("/"), "Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}api/correct?image=field.png", data, headers)
        start = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
        took_s = time.perf_counter() - start
        revision = json.loads(unquote(answer.headers["X-Cellseg-Correction"]))["revision"]
        if number < 2:  # the second one needs the maps
            first_s += took_s
        else:
            taken.setdefault(edit["what"], []).append(took_s * 1e3)
    return first_s, taken


@click.command()
@click.option("--numbers", default="5,10000", show_default=True, help="How many images the ledger has, each a case.")
def main(numbers: str) -> None:
    """Measure what the page costs; exit with 1 if it takes 80 MB while nobody looks, or an edit 150 ms."""
    rows, most = [], 0.0
    for number in map(int, numbers.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            filled(Path(folder), number)
            ready_s, idle_mb, list_s, listed_mb, painter_mb = measured(Path(folder))
        most = max(most, idle_mb, listed_mb)
        rows.append((f"{number:,}", *(f"{value:.2f}" for value in (ready_s, list_s)),
                     *(f"{value:.0f}" for value in (idle_mb, listed_mb, painter_mb))))  # fmt: skip
    columns = ("images", "ready, s", "first list, s", "idle, MB", "after the list, MB", "painter, MB")
    print_table("the page", columns, rows)
    with tempfile.TemporaryDirectory() as folder:
        first_s, taken = edit_times(Path(folder))
    print_table(
        f"edits of {SHAPE[0]} × {SHAPE[1]} pixels; the first one, with the maps: {first_s:.2f} s",
        ("edit", "median, ms", "longest, ms"),
        [(what, f"{median(times):.0f}", f"{max(times):.0f}") for what, times in taken.items()],
    )
    sys.exit(most >= 80 or max(map(max, taken.values())) >= MOST_EDIT_MS)


if __name__ == "__main__":
    main()
