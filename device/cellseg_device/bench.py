"""How long each step of the road takes on this computer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cellseg_device import hardware
from cellseg_device.accelerator import Accelerated
from cellseg_device.errors import ImageError, OutputError
from cellseg_device.memory import peak_rss_mb
from cellseg_device.model import RUNTIME, Model
from cellseg_device.output import Output
from cellseg_device.scan import Source
from cellseg_device.segment import STEPS, Stopwatch
from cellseg_device.selftest import known_image
from cellseg_device.worker import Outcome, Worker

_PROCESSORS = {"cpu": "CPU", "edgetpu": "Edge TPU"}


def known_field(height: int, width: int) -> bytes:
    """The package's field of nuclei, repeated to this size: a PNG file, 8-bit RGB."""
    field = known_image().pixels
    rows, cols = -(-height // field.shape[0]), -(-width // field.shape[1])
    grey = np.tile(field, (rows, cols))[:height, :width]
    return bytes(cv2.imencode(".png", cv2.merge([grey] * 3))[1])


def bench(
    data: bytes,
    model: Model | Accelerated,
    runs: int,
    folder: Path | None = None,
    on_run: Callable[[int], None] = lambda number: None,
) -> dict[str, Any]:
    """Run the whole road several times, from a file to results on the disk, as the watch does.

    Parameters
    ----------
    data : bytes
        An image file.
    model : Model or Accelerated
    runs : int
        A first one, which prepares the runtime for the image's size, is not counted.
    folder : Path or None
        Where to write (the disk matters); None for the system's temporary folder. What is written is removed.
    on_run : callable
        Called with the number of runs done.

    Returns
    -------
    dict
        `steps` and `end_to_end` with `median_ms` and `p95_ms`, `sustained` (the same per image when images follow each
        other, as in a full folder: the next is looked at while one is finished), `megapixels_per_s` (sustained),
        `peak_rss_mb`, `hardware`, `model`, `image`, `runs`.

    Raises
    ------
    ImageError
        If the image cannot be used.
    OutputError
        If the folder is missing or cannot be written to.
    """
    steps: dict[str, list[float]] = {name: [] for name in STEPS}
    totals: list[float] = []
    try:
        work_folder = tempfile.TemporaryDirectory(prefix="cellseg-bench-", dir=folder)
    except OSError as error:
        where = folder or tempfile.gettempdir()
        raise OutputError(f"{where}: cannot be written to ({error.strerror}): check --out") from None
    with work_folder as temporary:
        path = Path(temporary) / "field"
        path.write_bytes(data)
        output = Output(Path(temporary) / "out", lambda line: None)
        worker = Worker(model, output)
        try:
            for number in range(runs + 1):
                stopwatch = Stopwatch()
                outcome = _processed(worker, Source(f"field-{number}", path, len(data), number), stopwatch)
                if number:
                    totals.append(outcome.ms)
                    for name in STEPS:
                        steps[name].append(stopwatch.ms[name])
                    on_run(number)
            sources = [Source(f"next-{number}", path, len(data), number) for number in range(runs + 1)]
            turns = []
            for source, following in zip_longest(sources, sources[1:]):
                turns.append(_processed(worker, source, Stopwatch(), following).ms)
            counts = output.ledger.get("field-0").counts  # type: ignore[union-attr]
        finally:
            output.close()
    assert counts is not None
    sustained = _statistics(turns[1:])  # nothing went ahead of the first
    return {
        "steps": {name: _statistics(values) for name, values in steps.items()},
        "end_to_end": _statistics(totals),
        "sustained": sustained,
        "megapixels_per_s": round(counts.height_px * counts.width_px / sustained["median_ms"] / 1e3, 3),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "hardware": hardware.describe(),
        "model": {
            "name": model.card.name,
            "quantization": model.card.quantization,
            "runtime": RUNTIME,
            "threads": model.threads,
            "accelerator": model.accelerator,
        },
        "image": {"height_px": counts.height_px, "width_px": counts.width_px, "cells": counts.count},
        "runs": runs,
    }


def _processed(worker: Worker, source: Source, stopwatch: Stopwatch, following: Source | None = None) -> Outcome:
    outcome = worker.process(source, stopwatch, following)
    if outcome.reason is not None:
        raise ImageError(outcome.reason)
    return outcome


def as_text(result: dict[str, Any]) -> str:
    """The result as a table with bars."""
    whole = result["end_to_end"]["median_ms"]
    image, model, machine = result["image"], result["model"], result["hardware"]
    lines = [f"{'step':<12}{'median ms':>10}{'p95 ms':>10}"]
    for name, times in result["steps"].items():
        share = times["median_ms"] / whole
        lines.append(f"{name:<12}{times['median_ms']:>10.1f}{times['p95_ms']:>10.1f}  {'█' * round(share * 40)}")
    for name, key in (("end to end", "end_to_end"), ("sustained", "sustained")):
        lines.append(f"{name:<12}{result[key]['median_ms']:>10.1f}{result[key]['p95_ms']:>10.1f}")
    lines.append("")
    lines.append(
        f"{image['width_px']}×{image['height_px']} px, {image['cells']} cells: "
        f"{result['megapixels_per_s']} megapixels/s, peak memory {result['peak_rss_mb']} MB, {result['runs']} runs"
    )
    lines.append(
        f"{model['name']} ({model['quantization']}), {model['runtime']}, on the {_PROCESSORS[model['accelerator']]}, "
        f"threads: {model['threads']}"
    )
    told = {k: v for k, v in machine.items() if v not in (None, [])}
    lines.append(", ".join(f"{k} {v}" for k, v in told.items()))
    return "\n".join(lines)


def _statistics(values: list[float]) -> dict[str, float]:
    return {"median_ms": round(float(np.median(values)), 3), "p95_ms": round(float(np.percentile(values, 95)), 3)}
