"""The processor's time of a watch that has nothing to do, beside many images that are done.

    python benchmarks/idle.py       (prints the table, writes benchmarks/idle.json)

The real loop of `watch` runs over small files that it takes for counted: with file events, and without, as on a network
drive. What it takes after its first seconds, all threads included, is given as a share of one core; and the time from
the coming of a new file until it is at work.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import click

from cellseg_device.model.interpreter import Model, bundled_path
from cellseg_device.pipeline.models import Models
from cellseg_device.results.folder import Output
from cellseg_device.system import files, hardware
from cellseg_device.watching import wake
from cellseg_device.watching.bench import known_field
from cellseg_device.watching.scan import scan
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.watch import Timing, watch
from cellseg_device.watching.worker import Worker
from cellseg_host.commands.console import print_table

JSON = Path(__file__).with_name("idle.json")
CASES = {  # files in a folder, folders
    "1,000 files": (1_000, 1),
    "100,000 files": (100_000, 1),
    "1,000 folders of 100 files": (100, 1_000),
}
FIRST_S = 15.0  # until the folder's names are known for sure, and it was looked through once
LIMIT = 0.03


def filled(folder: Path, number: int, folders: int) -> Path:
    """Make so many files, in so many folders below unless that is one."""
    for index in range(folders):
        place = folder / f"{index:04}" if folders > 1 else folder
        place.mkdir(parents=True, exist_ok=True)
        for name in range(number):
            (place / f"{name:06}.png").touch()
    long_ago = time.time() - 3600
    for place in (folder, *folder.iterdir()) if folders > 1 else (folder,):
        os.utime(place, (long_ago, long_ago))
    return folder


def measured(
    folder: Path, out: Path, model: Model, *, is_recursive: bool, seconds: float, news: int
) -> tuple[float, list[float]]:
    """Watch a folder whose files are all done; the share of a core while nothing comes, and what new files wait."""
    output, stop, waits = Output(out, print, watched=folder), StopSignal(), []
    output.open()
    for source in scan(folder, out, recursive=is_recursive):
        output.leave(source)
    share = 0.0
    came: dict[str, float] = {}

    def bring() -> None:
        nonlocal share
        time.sleep(FIRST_S)
        start, start_cpu = time.monotonic(), time.process_time()
        time.sleep(seconds)
        share = (time.process_time() - start_cpu) / (time.monotonic() - start)
        data = known_field(96, 128)
        for number in range(news):
            time.sleep(1.7)
            name = f"new{number}.png"
            (out.parent / name).write_bytes(data)
            came[name] = time.monotonic()
            (out.parent / name).rename(folder / name)
            until(lambda name=name: name not in came)
        stop.stop()

    worker = Worker(Models(model), output)
    process = worker.process

    def noted(source, **options):  # type: ignore[no-untyped-def]
        waits.append(time.monotonic() - came.pop(source.image))
        return process(source, **options)

    worker.process = noted  # type: ignore[method-assign]
    thread = threading.Thread(target=bring)
    thread.start()
    for _ in watch(folder, worker, Timing(settle_s=0.0), stop, recursive=is_recursive):
        pass
    thread.join()
    worker.close()
    output.close()
    return share, waits


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, for a minute at most."""
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="How long each case is left alone.")
@click.option("--news", default=5, show_default=True, help="How many files come then.")
@click.option("--json/--no-json", "writes", default=True, help="Whether to write benchmarks/idle.json.")
def main(seconds: float, news: int, *, writes: bool) -> None:
    """Measure what an idle watch costs; exit with 1 if it is more than 3 % of a core."""
    kind, found = wake.file_system, {}
    model = Model(bundled_path(), 1)
    for case, (number, folders) in CASES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = filled(Path(name) / "in", number, folders)
            for events in ("with events", "without events"):
                wake.file_system = kind if events == "with events" else lambda _folder: "nfs"
                share, waits = measured(
                    folder,
                    Path(name) / events,
                    model,
                    is_recursive=folders > 1,
                    seconds=seconds,
                    news=news,
                )
                found[f"{case}, {events}"] = {
                    "share_of_a_core": round(share, 5),
                    "new_file_s": {"median": round(statistics.median(waits), 3), "most": round(max(waits), 3)},
                }
                for path in folder.glob("new*.png"):
                    path.unlink()
    rows = [
        (case, f"{row['share_of_a_core']:.2%}", *(f"{row['new_file_s'][key]:.2f}" for key in ("median", "most")))
        for case, row in found.items()
    ]
    print_table("an idle watch", ("beside", "of a core", "new file, s: median", "most"), rows)
    told = {"command": "python benchmarks/idle.py", "hardware": hardware.describe(), "seconds": seconds, "news": news}
    if writes:
        files.write(JSON, json.dumps({**told, "limit": LIMIT, "cases": found}, indent=1).encode() + b"\n")
    sys.exit(any(row["share_of_a_core"] > LIMIT for row in found.values()))


if __name__ == "__main__":
    main()
