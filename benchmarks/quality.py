"""How often a count is flagged, on good images and on the same images with a fault made worse step by step.

    python benchmarks/quality.py nuclei-data        (prints the table, writes benchmarks/quality.json)

The dataset is a folder with images/, and a manifest.csv with id, split and median_diameter_px. The bounds in
`cellseg_device.cells.quality` were set so that few of the untouched images are flagged, but for the size of their
cells, which differs from the model's in many.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np

from cellseg_device.cells.counting import Counting
from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model, bundled_path
from cellseg_device.pipeline import predict, segment
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.system.csv_text import Rows
from cellseg_device.units import Length

JSON = Path(__file__).with_name("quality.json")
FLAGS = ("out of focus", "overexposed", "uneven light", "crowded", "border", "larger", "smaller", "measure", "nothing")
GIVEN = (0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 1.8)  # diameters that a user may give, as multiples of the true one
Fault = Callable[[np.ndarray, float], np.ndarray]  # of an image and the diameter of its cells


def blurred(part: float) -> Fault:
    """Out of focus: a Gaussian of this part of the cells' diameter."""
    return lambda pixels, diameter: cv2.GaussianBlur(pixels, (0, 0), part * diameter)


def brighter(part: float) -> Fault:
    """Overexposed: this part of the pixels is at the upper end."""

    def apply(pixels: np.ndarray, _: float) -> np.ndarray:
        return cv2.convertScaleAbs(pixels, alpha=255 / max(float(np.quantile(pixels, 1 - part)), 1))

    return apply


def slanted(part: float) -> Fault:
    """Uneven light: over the width of the field the background rises by this part of the image's range."""

    def apply(pixels: np.ndarray, _: float) -> np.ndarray:
        low, high = np.percentile(pixels, (20, 99))
        rise = np.linspace(-0.5, 0.5, pixels.shape[1]) * part * (high - low)
        shaped = rise[None, :] if pixels.ndim == 2 else rise[None, :, None]
        return np.clip(pixels + shaped - min(low + rise[0], 0), 0, 255).astype(np.uint8)

    return apply


FAULTS: dict[str, Fault] = {
    "none": lambda pixels, _: pixels,
    **{f"blur {part} diameters": blurred(part) for part in (0.1, 0.2, 0.3, 0.4)},
    **{f"{part:.0%} saturated": brighter(part) for part in (0.02, 0.1)},
    **{f"background rises by {part:g} ranges": slanted(part) for part in (0.5, 1, 2)},
}


def flags_of(pixels: np.ndarray, model: Model, diameter_px: float | None = None) -> str:
    """Return the flags of an image, whose cells a user takes to have a diameter."""
    counting = Counting(diameter=None if diameter_px is None else Length(diameter_px, "px"))
    image = counting.applied(Image(np.ascontiguousarray(pixels)))
    prediction = predict.predict(image, model, Stopwatch(), diameter_px=diameter_px)
    return segment.finish(prediction, Stopwatch(), counting).counts.flags


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, exists=True))
def main(dataset: Path) -> None:
    """Print the share of flagged images, by fault and flag."""
    with open(dataset / "manifest.csv", newline="") as file:
        rows = [row for row in Rows(file) if row["split"] == "val"]
    model = Model(bundled_path(), 1)
    images = [decode((dataset / "images" / f"{row['id']}.png").read_bytes()).pixels for row in rows]
    fields = [(pixels, float(row["median_diameter_px"])) for pixels, row in zip(images, rows, strict=True)]
    flags = {
        name: [flags_of(fault(pixels, diameter), model) for pixels, diameter in fields]
        for name, fault in FAULTS.items()
    }
    known = [(pixels, diameter) for pixels, diameter in fields if diameter]
    for factor in GIVEN:
        name = f"--diameter {factor:g} times the true one"
        flags[name] = [flags_of(pixels, model, factor * diameter) for pixels, diameter in known]
    shares = {
        name: {flag: round(sum(flag in text for text in texts) / len(texts), 3) for flag in FLAGS}
        for name, texts in flags.items()
    }
    click.echo(f"{'fault':36}" + "".join(f"{flag:>14}" for flag in FLAGS))
    for name, share in shares.items():
        click.echo(f"{name:36}" + "".join(f"{share[flag]:14.1%}" for flag in FLAGS))
    JSON.write_text(json.dumps({"images": len(rows), "flagged": shares}, indent=2) + "\n")


if __name__ == "__main__":
    main()
