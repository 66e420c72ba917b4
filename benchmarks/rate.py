"""How well a model uses the processor: its multiply-adds a second, over those of a large plain 3 × 3 convolution.

    python benchmarks/rate.py models/*.tflite      (prints the table, writes benchmarks/rate.json)

Both are int8, on one thread of the same runtime, invoked in turns; the yardstick is eight convolutions of 64 channels
at 128 × 128, which is about the best that the runtime can do on a processor.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from cellseg_device.model.card import strip
from cellseg_device.system import files, hardware
from cellseg_host.commands.console import print_table
from cellseg_host.report.cost import cost
from cellseg_host.tensorflow_quietly import import_tensorflow

JSON = Path(__file__).with_name("rate.json")
CHANNELS, LAYERS, SIDE = 64, 8, 128
YARDSTICK = "plain 3 × 3 convolution"


def plain_convolutions() -> bytes:
    """The yardstick as a .tflite."""
    import_tensorflow()
    import tf_keras as keras

    from cellseg_host.quantize.convert import convert

    x = image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(CHANNELS, 1)(x)
    for _ in range(LAYERS):
        x = keras.layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")(x)
    rng = np.random.default_rng(0)
    images = [rng.random((1, SIDE, SIDE, 3), dtype=np.float32) for _ in range(4)]
    return convert(keras.Model(image, x), "int8", (SIDE, SIDE), lambda: iter(images))


def opened(flatbuffer: bytes, side: int) -> Any:
    """An interpreter of one thread, with an input of noise of this side."""
    interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
    given = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(given["index"], (1, side, side, 3))
    interpreter.allocate_tensors()
    noise = np.random.default_rng(1).integers(-128, 128, (1, side, side, 3))
    interpreter.set_tensor(given["index"], noise.astype(np.int8))
    interpreter.invoke()
    return interpreter


def milliseconds(interpreter: Any) -> float:
    """Of one invoke."""
    start = time.perf_counter()
    interpreter.invoke()
    return (time.perf_counter() - start) * 1e3


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--rounds", default=100, show_default=True, help="In each, every network is invoked once.")
@click.option("--side", default=512, show_default=True, help="Of the models' input, pixels.")
def main(models: tuple[Path, ...], rounds: int, side: int) -> None:
    """Measure MODELS against a plain convolution."""
    macs = {YARDSTICK: float((9 * LAYERS * CHANNELS + 3) * CHANNELS * SIDE**2)}
    networks = {YARDSTICK: opened(plain_convolutions(), SIDE)}
    for path in models:
        data = path.read_bytes()
        macs[path.name] = cost(data).macs_per_px * side**2
        networks[path.name] = opened(strip(data), side)
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            times[name].append(milliseconds(network))
    # By rounds: what disturbs the machine disturbs all of a round
    rates = {name: np.array([macs[name] / ms / 1e6 for ms in found]) for name, found in times.items()}
    rows = {
        name: {
            "ms": round(statistics.median(times[name]), 2),
            "gmacs_per_s": round(float(np.median(rates[name])), 1),
            "of_the_yardstick": round(float(np.median(rates[name] / rates[YARDSTICK])), 3),
        }
        for name in networks
    }
    columns = ("network", "ms", "G multiply-adds/s", "of the plain convolution's")
    shown = [(n, f"{r['ms']:.2f}", f"{r['gmacs_per_s']:.0f}", f"{r['of_the_yardstick']:.0%}") for n, r in rows.items()]
    print_table("", columns, shown)
    facts = {"command": f"python benchmarks/rate.py {' '.join(map(str, models))}", "hardware": hardware.describe()}
    files.write(
        JSON, json.dumps({**facts, "side": side, "rounds": rounds, "networks": rows}, indent=1).encode() + b"\n"
    )


if __name__ == "__main__":
    sys.exit(main())
