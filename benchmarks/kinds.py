"""What the gate makes of images as another laboratory's might be: how many of each class are still of their class.

\b
    cellseg-host data import … kinds-data      # as models/train.sh does
    python benchmarks/kinds.py kinds-data

Validation images of real samples (synthetic ones are left out) are changed in colour, size and quality. Prints a row
for each change, and a column for each class; nothing is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import bundled_path
from cellseg_device.pipeline import gate as gates
from cellseg_host.data import dataset as datasets
from cellseg_host.synth.write import SET

Pixels = npt.NDArray[np.uint8]
Change = Callable[[Pixels], Pixels | None]  # None where an image cannot be changed so


def light(*factors: float) -> Change:
    """A lamp of another colour, for pictures in colour."""
    return lambda p: (p * np.array(factors)).clip(0, 255).astype(np.uint8) if p.ndim == 3 else None


def paler(p: Pixels) -> Pixels | None:
    """A third less stain on a bright ground."""
    return (255 - (255 - p.astype(np.float32)) * 0.65).astype(np.uint8) if p.ndim == 3 else None


def grey(p: Pixels) -> Pixels | None:
    """Without colour."""
    return np.asarray(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), np.uint8) if p.ndim == 3 else None


def green_cast(p: Pixels) -> Pixels | None:
    """A grey image through a green filter, stored in colour."""
    return (p[..., None] * np.array([0.85, 1, 0.8])).astype(np.uint8) if p.ndim == 2 else None


def middle(p: Pixels) -> Pixels:
    """The middle quarter, twice as large."""
    height, width = p.shape[0] // 4, p.shape[1] // 4
    return np.asarray(cv2.resize(p[height : 3 * height, width : 3 * width], None, fx=2, fy=2), np.uint8)


def smaller(times: int) -> Change:
    """Cells made so many times smaller, in a field as large as before: mirrored copies beside each other."""

    def change(p: Pixels) -> Pixels:
        small = cv2.resize(p, None, fx=1 / times, fy=1 / times, interpolation=cv2.INTER_AREA)
        below, right = p.shape[0] - small.shape[0], p.shape[1] - small.shape[1]
        return np.asarray(cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REFLECT), np.uint8)

    return change


def jpeg(p: Pixels) -> Pixels:
    """As JPEG of quality 30."""
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], -1), np.uint8)


CHANGES: dict[str, Change] = {
    "as they are": lambda p: p,
    "redder (green × 0.82, blue × 0.75)": light(1, 0.82, 0.75),
    "bluer (red × 0.8, green × 0.9)": light(0.8, 0.9, 1),
    "yellow ground (blue × 0.7)": light(1, 1, 0.7),
    "paler": paler,
    "in grey": grey,
    "grey with a green cast": green_cast,
    "the middle quarter, twice as large": middle,
    "cells half as large": smaller(2),
    "cells a quarter as large": smaller(4),
    "JPEG of quality 30": jpeg,
    "blurred (σ 2 px)": lambda p: np.asarray(cv2.GaussianBlur(p, (0, 0), 2), np.uint8),
}


@click.command(help=__doc__)
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--gate", type=click.Path(path_type=Path, exists=True), help="The gate.  [default: the bundled one]")
@click.option("--split", default="val", show_default=True)
def main(*, data: Path, gate: Path | None, split: str) -> None:
    """Print the table."""
    dataset = datasets.load(data)
    classifier = gates.open_gate(gate or bundled_path("kind"))
    entries = [entry for entry in dataset.split(split) if entry.set != SET]
    kinds = sorted({entry.kind for entry in entries})
    click.echo(f"| change | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    for name, change in CHANGES.items():
        right, of = dict.fromkeys(kinds, 0), dict.fromkeys(kinds, 0)
        for entry in entries:
            image = dataset.image(entry)
            changed = change(_eight_bit(image))
            if changed is not None:
                verdict = gates.classify(dataclasses.replace(image, pixels=changed), classifier)
                of[entry.kind] += 1
                right[entry.kind] += verdict.found.name == entry.kind
        click.echo(f"| {name} | {' | '.join(f'{right[k]} of {of[k]}' if of[k] else '' for k in kinds)} |")


def _eight_bit(image: Image) -> Pixels:
    pixels = image.pixels
    if pixels.dtype == np.uint8:
        return pixels
    top = max(float(np.percentile(pixels, 99.99)), 1)
    return (pixels * (255 / top)).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
