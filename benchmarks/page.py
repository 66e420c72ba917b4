"""What `cellseg-device serve` costs: the time until it answers, and its memory while nobody looks.

    python benchmarks/page.py       (prints the table)

The results are those of the samples, as often as is asked for in the ledger. Memory is that of the server alone and,
once a picture was drawn, of the process that draws.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click

from cellseg_device.results.entry import DONE
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_host.commands.console import print_table

SAMPLES = Path(__file__).resolve().parents[1] / "models" / "samples"
COMMAND = [sys.executable, "-m", "cellseg_device"]


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


@click.command()
@click.option("--numbers", default="5,10000", show_default=True, help="How many images the ledger has, each a case.")
def main(numbers: str) -> None:
    """Measure what the page costs; exit with 1 if it takes 80 MB or more while nobody looks."""
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
    sys.exit(most >= 80)


if __name__ == "__main__":
    main()
