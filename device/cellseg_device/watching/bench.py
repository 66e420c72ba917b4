"""How long each step of the pipeline takes on this computer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cellseg_device.errors import ImageError, OutputError
from cellseg_device.image.sandbox import Decode, decode_here
from cellseg_device.image.source import Source, source_at
from cellseg_device.model.interpreter import RUNTIME
from cellseg_device.pipeline.models import Models
from cellseg_device.pipeline.selftest import known_image
from cellseg_device.pipeline.stopwatch import STEPS, Stopwatch
from cellseg_device.results import image_files
from cellseg_device.system import hardware
from cellseg_device.system.memory import peak_rss_mb
from cellseg_device.watching.outcome import Outcome
from cellseg_device.watching.session import worker_for
from cellseg_device.watching.worker import Worker

_EXTRAS = (image_files.OVERLAY,)  # what a watch makes by default
_PROCESSORS = {"cpu": "CPU", "edgetpu": "Edge TPU"}


def known_field(height: int, width: int) -> bytes:
    """The package's field of nuclei, repeated to this size: a PNG file, 8-bit RGB."""
    field = known_image().pixels
    rows, cols = -(-height // field.shape[0]), -(-width // field.shape[1])
    grey = np.tile(field, (rows, cols))[:height, :width]
    return bytes(cv2.imencode(".png", cv2.merge([grey] * 3))[1])


def bench(
    data: bytes,
    models: Models,
    runs: int,
    folder: Path | None = None,
    on_run: Callable[[int], object] = lambda _number: None,
    *,
    decode: Decode = decode_here,
) -> dict[str, Any]:
    """Run the whole pipeline several times, from a file to results on the disk, overlay included, as the watch does.

    Parameters
    ----------
    data : bytes
        An image file.
    models : Models
    runs : int
        A first run, which prepares the runtime for the image's size, is not counted.
    folder : Path or None
        Where to write (the disk matters); None for the system's temporary folder. What is written is removed.
    on_run : callable
        Called with the number of runs done.
    decode : callable
        As for `session.worker_for`.

    Returns
    -------
    dict
        `steps` and `end_to_end` with `median_ms` and `p95_ms`, `sustained` (the same per image when images follow each
        other, as in a full folder: the network runs over the next while one is finished), `megapixels_per_s`
        (sustained), `peak_rss_mb`, `hardware`, `model`, `image`, `runs`.

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
        out = Path(temporary) / "out"
        with worker_for(out, lambda: models, lambda _line: None, decode=decode, extras=_EXTRAS) as worker:
            for number in range(runs + 1):
                stopwatch = Stopwatch()
                outcome = _processed(worker, _new(path, f"field-{number}"), stopwatch)
                if number:
                    totals.append(outcome.ms)
                    for name in STEPS:
                        steps[name].append(stopwatch.ms.get(name, 0.0))
                    on_run(number)
            sources = [_new(path, f"next-{number}") for number in range(runs + 1)]
            turns = []
            for source, following in zip_longest(sources, sources[1:]):
                turns.append(_processed(worker, source, Stopwatch(), following).ms)
            entry = worker.output.ledger.get("field-0")
    assert entry is not None
    counts = entry.counts
    assert counts is not None
    counter = next(part for part in models.parts if part.sha256 == entry.model_sha256)
    sustained = _statistics(turns[1:])  # nothing went ahead of the first
    return {
        "steps": {name: _statistics(values) for name, values in steps.items()},
        "end_to_end": _statistics(totals),
        "sustained": sustained,
        "megapixels_per_s": round(counts.height_px * counts.width_px / sustained["median_ms"] / 1e3, 3),
        "peak_rss_mb": round(peak_rss_mb(), 1),
        "hardware": hardware.describe(),
        "model": {
            "name": counter.card.name,
            "gate": None if models.gate is None else models.gate.card.name,
            "quantization": counter.card.quantization,
            "runtime": RUNTIME,
            "threads": models.default.threads,
            "accelerator": models.default.accelerator,
        },
        "image": {"height_px": counts.height_px, "width_px": counts.width_px, "cells": counts.count},
        "runs": runs,
    }


def _new(path: Path, name: str) -> Source:
    """Return the file under a name of its own: under one it has already, its results would be replaced."""
    named = path.with_name(name)
    try:
        named.hardlink_to(path)
    except OSError:  # a stick with exFAT has no links
        shutil.copyfile(path, named)
    source = source_at(named, name)
    assert source is not None
    return source


def _processed(worker: Worker, source: Source, stopwatch: Stopwatch, following: Source | None = None) -> Outcome:
    outcome = worker.process(source, stopwatch, following=following)
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
    known = {k: v for k, v in machine.items() if v not in (None, [])}
    size = f"{image['width_px']}×{image['height_px']} px, {image['cells']} cells"
    speed = f"{result['megapixels_per_s']} megapixels/s, peak memory {result['peak_rss_mb']} MB, {result['runs']} runs"
    processor = f"{_PROCESSORS[model['accelerator']]}, threads: {model['threads']}"
    lines += [
        "",
        f"{size}: {speed}",
        f"{_with_gate(model)} ({model['quantization']}), {model['runtime']}, on the {processor}",
        ", ".join(f"{k} {v}" for k, v in known.items()),
    ]
    return "\n".join(lines)


def _with_gate(model: dict[str, Any]) -> str:
    return f"{model['name']}, by the gate {model['gate']}" if model["gate"] else str(model["name"])


def _statistics(values: list[float]) -> dict[str, float]:
    return {"median_ms": round(float(np.median(values)), 3), "p95_ms": round(float(np.percentile(values, 95)), 3)}
