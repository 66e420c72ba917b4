"""The whole pipeline, beside what people use today, on the same field, tiles and threads.

    python benchmarks/pipeline.py                       (prints the tables, writes benchmarks/pipeline.json)

Four ways from a 1200 × 1600 RGB file to label image, table of cells and row of counts on disk:

- cellseg with its bundled int8 model;
- the same code around the published baseline U-Net, quantized the baseline's way (dynamic range);
- Otsu's threshold and a watershed on the distance transform, as OpenCV's tutorial has it, with the same decoding,
  measuring and writing;
- the bare `invoke` of the bundled model on the same tiles.

These make no overlay. What one costs is measured of a watch, on that field and on a small one, with and without it.

All are run alternately, so that what else the machine does falls on all alike; ratios are medians of ratios. Images
one after the other are measured by `cellseg_device.watching.bench`: the next is decoded while the network runs, and one
is finished while the network goes on. The weights of the baseline are random: they do not change its cost, and its
cells are separated in our maps.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import cv2
from runners.otsu import otsu_labels

from cellseg_device.cells import instances
from cellseg_device.cells.counting import Counting
from cellseg_device.image.decode import decode
from cellseg_device.image.sandbox import Decoder
from cellseg_device.model.card import Card, attach
from cellseg_device.model.interpreter import RUNTIME, Model, bundled_path
from cellseg_device.pipeline import predict, segment, stopwatch
from cellseg_device.pipeline.models import Models
from cellseg_device.pipeline.predict import Prediction
from cellseg_device.pipeline.segment import Segmentation
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.results import image_files
from cellseg_device.system import files, hardware, memory
from cellseg_device.watching import bench
from cellseg_device.watching.session import worker_for
from cellseg_device.watching.worker import Worker

HEIGHT, WIDTH, CELLS = 1200, 1600, 500
SMALL_HEIGHT, SMALL_WIDTH, SMALL_CELLS = 520, 696, 80
TILE = 512  # for the comparison on equal tiles
JSON = Path(__file__).with_name("pipeline.json")
_PROVENANCE = image_files.Provenance("field", "0" * 64, 0, "nuclei", "0" * 64, "{}")


def field() -> dict[str, bytes]:
    """A synthetic fluorescence field of 500 nuclei, RGB, as PNG, uncompressed TIFF and JPEG."""
    from cellseg_host.synth import SynthSettings, make_field

    grey, _ = make_field(SynthSettings(height=HEIGHT, width=WIDTH, cells=CELLS, diameter_px=24.0), 1)
    rgb = cv2.merge([grey] * 3)
    uncompressed = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    return {
        "png": bytes(cv2.imencode(".png", rgb)[1]),
        "tif": bytes(cv2.imencode(".tif", rgb, uncompressed)[1]),
        "jpg": bytes(cv2.imencode(".jpg", rgb)[1]),
    }


def baseline(folder: Path) -> Path:
    """The published U-Net, untrained, int8 weights and float activations, in tiles of `TILE`."""
    from cellseg_host import architectures
    from cellseg_host.quantize import convert

    arch, heads = architectures.get("unet"), ("foreground",)
    network = arch.build(heads)
    data = convert(network, "dynamic", (TILE, TILE), lambda: iter(()))
    outputs = architectures.outputs_of(network, heads)
    card = Card("unet", "dynamic", outputs, arch.stride, arch.margin, 1.0, 99.9, 17.0)
    (folder / "unet.tflite").write_bytes(attach(data, card))
    return folder / "unet.tflite"


def write_results(folder: Path, result: Segmentation) -> None:
    """Label image, table and counts on disk, synced."""
    image_files.write(folder, "field", result, _PROVENANCE)
    files.write(folder / "counts.csv", repr(result.counts).encode())


def network_pipeline(data: bytes, model: Model, folder: Path) -> dict[str, float]:
    """From the file to the results; milliseconds by step."""
    watch = Stopwatch()
    result = segment.segment(data, model, watch)
    with watch.step("write"):
        write_results(folder, result)
    return watch.ms


def baseline_pipeline(data: bytes, unet: Model, ours: Prediction, folder: Path) -> dict[str, float]:
    """The same around the U-Net. It is untrained: cells are separated in our maps of the field, not in its noise."""
    watch = Stopwatch()
    # With a diameter, so that its noise is not predicted a second time
    predict.predict(segment.decode(data, watch), unet, watch, diameter_px=unet.card.cell_diameter_px)
    result = segment.finish(dataclasses.replace(ours, maps=dict(ours.maps)), watch, Counting())
    with watch.step("write"):
        write_results(folder, result)
    return watch.ms


def otsu_pipeline(data: bytes, folder: Path) -> dict[str, float]:
    """The threshold pipeline with the same decoding, measuring and writing; milliseconds by step."""
    watch = Stopwatch()
    with watch.step("decode"):
        image = decode(data)
    with watch.step("threshold and watershed"):
        labels = otsu_labels(image.pixels)
    with watch.step("measure"):
        labels = instances.number(labels, 1)
        result = segment.count_labels(image, labels, 1 / 24, Counting())
    with watch.step("write"):
        write_results(folder, result)
    return watch.ms


def alternately(pipelines: dict[str, Callable[[], Any]], runs: int) -> Iterator[tuple[str, float, float, Any]]:
    """Yield (name, wall ms, CPU ms, what it returned) of each pipeline in turn, `runs` times after one to warm up."""
    for run in range(runs + 1):
        for name, pipeline in pipelines.items():
            wall, cpu = time.perf_counter(), time.process_time()
            value = pipeline()
            wall, cpu = (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
            if run:
                yield name, wall, cpu, value


def small_field() -> bytes:
    """A synthetic grey fluorescence field of 80 nuclei, as an uncompressed TIFF."""
    from cellseg_host.synth import SynthSettings, make_field

    settings = SynthSettings(height=SMALL_HEIGHT, width=SMALL_WIDTH, cells=SMALL_CELLS, diameter_px=24.0)
    grey, _ = make_field(settings, 1)
    return bytes(cv2.imencode(".tif", grey, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1])


def overlay_cost(data: bytes, model: Model, runs: int) -> dict[str, float]:
    """What an image takes in a watch with and without its overlay, in turn: the ratios, of medians of ratios."""
    with tempfile.TemporaryDirectory() as temporary, Decoder() as decoder, ExitStack() as stack:
        path = Path(temporary) / "field"
        path.write_bytes(data)
        workers = {
            name: stack.enter_context(
                worker_for(path.with_name(name), lambda: Models(model), print, decode=decoder.decode, extras=extras)
            )
            for name, extras in (("without", ()), ("with", ("overlay",)))
        }
        numbers = iter(range(10**6))

        def process(worker: Worker) -> None:
            bench._processed(worker, bench._new(path, f"field-{next(numbers)}"), Stopwatch())  # noqa: SLF001

        pipelines = {name: partial(process, worker) for name, worker in workers.items()}
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
        for name, wall, cpu, _ in alternately(pipelines, runs):
            samples[name].append((wall, cpu))
    pairs = list(zip(samples["with"], samples["without"], strict=True))
    wall, cpu = (round(statistics.median(a[i] / b[i] for a, b in pairs), 3) for i in (0, 1))
    return {"time": wall, "processor": cpu}


def measure_all(runs: int, threads: int) -> dict[str, Any]:
    """Every pipeline on every format; the document that is printed and written."""
    cv2.setNumThreads(threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours, unet = Model(bundled_path(), threads), Model(baseline(folder), threads)
        tiled = Model(bundled_path(), threads)
        tiled.tile = (TILE, TILE)  # the same tiles as the baseline's
        samples: dict[str, dict[str, list[Any]]] = {}
        sustained = {}
        formats = field()
        overlay = {"1200x1600 " + suffix: overlay_cost(data, ours, runs) for suffix, data in formats.items()}
        overlay["520x696 tif"] = overlay_cost(small_field(), ours, runs)
        for suffix, data in formats.items():
            following = bench.bench(data, Models(ours), runs)
            sustained[suffix] = round(
                following["sustained"]["median_ms"] / following["steps"]["invoke"]["median_ms"], 2
            )
            pipelines = {
                "cellseg": lambda data=data: network_pipeline(data, ours, folder),
                "otsu": lambda data=data: otsu_pipeline(data, folder),
            }
            if suffix == "png":  # the large one, once
                pipelines["cellseg, same tiles"] = lambda data=data: network_pipeline(data, tiled, folder)
                seen = predict.predict(decode(data), ours, Stopwatch())
                pipelines["baseline U-Net"] = lambda data=data, seen=seen: baseline_pipeline(data, unet, seen, folder)
            for name, wall, cpu, steps in alternately(pipelines, runs):
                found = samples.setdefault(f"{name} ({suffix})", {"wall": [], "cpu": [], "steps": []})
                found["wall"].append(wall)
                found["cpu"].append(cpu)
                found["steps"].append(steps)
    median = statistics.median
    table = {
        name: {
            "wall_ms": round(median(s["wall"]), 1),
            "cpu_ms": round(median(s["cpu"]), 1),
            "steps_ms": {k: round(median(r[k] for r in s["steps"]), 2) for k in s["steps"][0]},
        }
        for name, s in samples.items()
    }

    def steps(name: str, *names: str) -> float:
        return median(sum(r[n] for n in names) for r in samples[name]["steps"])

    def ratio(a: str, b: str, key: str = "wall") -> float:
        return round(median(x / y for x, y in zip(samples[a][key], samples[b][key], strict=True)), 2)

    thresholding = steps("otsu (png)", "threshold and watershed")
    over_invoke = {
        suffix: round(median(w / r["invoke"] for w, r in zip(s["wall"], s["steps"], strict=True)), 2)
        for suffix in ("png", "tif", "jpg")
        for s in (samples[f"cellseg ({suffix})"],)
    }
    return {
        "field": f"{HEIGHT}x{WIDTH} RGB, {CELLS} nuclei",
        "threads": threads,
        "runs": runs,
        "runtime": RUNTIME,
        "hardware": hardware.describe(),
        "pipelines": table,
        "end to end / bare invoke, one image alone": over_invoke,
        "end to end / bare invoke, images one after the other (as in a watch)": sustained,
        "with / without the overlay, an image in a watch": overlay,
        "instances + measure, ms": round(steps("cellseg (png)", "instances", "measure"), 1),
        "baseline U-Net / cellseg, same tiles, end to end": ratio("baseline U-Net (png)", "cellseg, same tiles (png)"),
        "baseline U-Net / cellseg as it runs, end to end": ratio("baseline U-Net (png)", "cellseg (png)"),
        "cellseg / Otsu, CPU": {s: ratio(f"cellseg ({s})", f"otsu ({s})", "cpu") for s in ("png", "tif", "jpg")},
        "cellseg end to end / Otsu's labels alone": round(steps("cellseg (png)", *stopwatch.STEPS) / thresholding, 2),
        "peak_rss_mb": round(memory.peak_rss_mb()),
    }


@click.command()
@click.option("--runs", default=15, show_default=True)
@click.option("--threads", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=JSON, help="[default: benchmarks/pipeline.json]")
def main(runs: int, threads: int, out: Path) -> None:
    """Compare the pipelines."""
    document = measure_all(runs, threads)
    files.write(out, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    for name, pipeline in document["pipelines"].items():
        steps = ", ".join(f"{k} {v:.1f}" for k, v in pipeline["steps_ms"].items())
        click.echo(f"{name:<28}{pipeline['wall_ms']:>8.1f} ms wall {pipeline['cpu_ms']:>8.1f} ms CPU   {steps}")
    for name, value in document.items():
        if "/" in name or name.startswith("instances"):
            click.echo(f"{name}: {value}")


if __name__ == "__main__":
    main()
