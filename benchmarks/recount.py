"""The processor's time that an image costs which is counted again, with few and with many rows in ``counts.csv``.

Its row has to be replaced, for which the whole table is written anew. Two output folders, of 100 and of 20,000 rows,
take turns; in each, the images that have rows already are done again, as fast as they can be: once their records alone,
and once all of the work of a watch, on a small field. Only the processor's time enters the figures.

    python benchmarks/recount.py > benchmarks/recount.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

from cellseg_device.cells.counts import Counts
from cellseg_device.image.source import source_at
from cellseg_device.model.interpreter import Model, bundled_path
from cellseg_device.pipeline.models import Models
from cellseg_device.results.entry import DONE, Entry
from cellseg_device.results.folder import Output
from cellseg_device.watching.bench import known_field
from cellseg_device.watching.worker import Worker

FEW, MANY = 100, 20_000
LIMIT = 1.2


def entry(number: int) -> Entry:
    """An image's entry, as long as a real one."""
    values = {name: "" if stored.sql.startswith("TEXT") else 1234.56789 for name, stored in Counts.storage().items()}
    digests = {f"{number:06}{suffix}": "0" * 64 for suffix in (".labels.tif", ".cells.csv")}
    return Entry(
        image=f"{number:06}.png",
        size=1,
        mtime_ns=1_700_000_000_000_000_000,
        sha256="0" * 64,
        status=DONE,
        reason=None,
        stem=f"{number:06}",
        model="nuclei",
        model_sha256="0" * 64,
        recorded_at="2026-01-01T00:00:00Z",
        total_ms=100.0,
        settings="{}",
        files=json.dumps(digests),
        counts=Counts(**values | {"count": 500}),  # type: ignore[arg-type]
    )


def filled(folder: Path, rows: int) -> Output:
    """An open output folder with so many rows."""
    output = Output(folder, print)
    output.open()
    with output.ledger.transaction():
        for number in range(rows):
            output.ledger.put(entry(number))
    output.close()
    output.open()
    return output


def cpu_ms(step: Callable[[], object], seconds: float) -> tuple[float, int]:
    """Do a step again and again for so long; the processor's time, and how often."""
    end, begun = time.monotonic() + seconds, time.process_time()
    for number in count(1):
        step()
        if time.monotonic() > end:
            return (time.process_time() - begun) * 1e3, number
    raise AssertionError


def recording(output: Output, rows: int) -> Iterator[None]:
    """Record images that have rows, in turn, and write the table when that is due, as a watch does."""
    for number in count():
        output.record(entry(number % rows))
        output.refresh_tables()
        yield


def counting(output: Output, rows: int, model: Model, field: Path) -> Iterator[None]:
    """Count images that have rows, in turn, and write the table when that is due, as a watch does."""
    with closing(Worker(Models(model), output)) as worker:
        for number in count():
            source = source_at(field, f"{number % rows:06}.png")
            assert source is not None
            outcome = worker.process(source)
            assert outcome.status == DONE, outcome
            output.refresh_tables()
            yield


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, object]:
    """Let the two folders take turns; what an image costs in each, and the ratio."""
    field, model, found = folder / "field.png", Model(bundled_path(), 1), {}
    field.write_bytes(known_field(520, 696))
    for name in ("record", "image"):
        outputs = {rows: filled(folder / f"{name}-{rows}", rows) for rows in (FEW, MANY)}
        steps = {
            rows: recording(output, rows) if name == "record" else counting(output, rows, model, field)
            for rows, output in outputs.items()
        }
        spent = {rows: [0.0, 0] for rows in outputs}
        for step in steps.values():
            next(step)  # a first one prepares what is kept
        for _ in range(rounds):
            for rows, step in steps.items():
                ms, times = cpu_ms(lambda step=step: next(step), seconds)
                spent[rows] = [spent[rows][0] + ms, spent[rows][1] + times]
        for step in steps.values():
            step.close()
        for output in outputs.values():
            output.close()
        few, many = (spent[rows][0] / spent[rows][1] for rows in (FEW, MANY))
        images = {str(rows): times for rows, (_, times) in spent.items()}
        found[name] = {"cpu_ms": {str(FEW): round(few, 3), str(MANY): round(many, 3)}, "images": images}
        found[name]["ratio"] = round(many / few, 3)
    return {"rounds": rounds, "seconds": seconds, "limit": LIMIT, **found}


def main() -> None:
    """Print what was measured; exit with 1 if many rows cost more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=float, default=12, help="of a turn of one folder; longer than between writings"
    )
    parser.add_argument("--folder", type=Path, help="on whose disk to write  [default: the temporary folder's]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        result = measure(Path(name), arguments.rounds, arguments.seconds)
    print(json.dumps(result, indent=1))
    sys.exit(os.EX_OK if max(result[name]["ratio"] for name in ("record", "image")) <= LIMIT else 1)  # type: ignore[index]


if __name__ == "__main__":
    main()
