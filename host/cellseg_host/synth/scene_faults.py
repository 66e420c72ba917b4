"""Faults of what is before the objective: stain, ground, light and holes of a slide, an eyepiece, a bright fibre."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import instances
from cellseg_host import stains
from cellseg_host.synth.fault import Apply, Fault, Field, Floats, in_bytes, in_place, in_range
from cellseg_host.synth.optics import illumination
from cellseg_host.synth.texture import blur, flow, noise

_PINK = (0.20, 0.95, 0.25)
_BLUE = (0.75, 0.60, 0.25)
_NO_CELL_PX = 20.0  # the diameter in a field without a cell
_MOST_HOLES = 2_000
_EYEPIECE = (5, 2.0)  # level of its black; standard deviation of the blur of its rim, px
_FIBRE_WIDTH = 1.5  # diameters
_FIBRE_GLOW = 0.15  # light beside it, as a part of its own
_LEAST_LEFT = 0.5  # of a cell beside the fibre, or nobody would count it


def _through(change: Callable[[Field, Floats, float, np.random.Generator], Floats]) -> Apply:
    """Make a fault from a change of the optical density of a slide; a grey one stays as it is."""

    def changed(field: Field, strength: float, rng: np.random.Generator) -> npt.NDArray[Any]:
        if field.pixels.ndim == 2:
            return field.pixels
        density = stains.density_of(in_range(field.pixels))
        return in_bytes(stains.levels_through(change(field, density, strength, rng)))

    return in_place(changed)


def pink_only(field: Field, density: Floats, part: float, rng: np.random.Generator) -> Floats:
    """Turn haematoxylin's colour this far to that of a slide stained in eosin alone."""
    return _restained(density, _between(stains.HAEMATOXYLIN, _PINK, part), stains.EOSIN)


def blue_only(field: Field, density: Floats, part: float, rng: np.random.Generator) -> Floats:
    """Turn eosin's colour this far to blue, as of a slide in one blue dye, and take as much of it away by half."""
    return _restained(density, stains.HAEMATOXYLIN, (1 - part / 2) * _between(stains.EOSIN, _BLUE, part))


def _between(one: stains.Vector, other: stains.Vector, part: float) -> npt.NDArray[np.float64]:
    mixed = (1 - part) * np.array(one) + part * np.array(other)
    return np.asarray(mixed / np.linalg.norm(mixed), np.float64)


def _restained(density: Floats, nuclear: npt.ArrayLike, counter: npt.ArrayLike) -> Floats:
    """Return a density with other dyes in the places of haematoxylin and eosin; the residual stays."""
    residual = stains.mixing(stains.HAEMATOXYLIN, stains.EOSIN)[:, 2]
    matrix = np.column_stack([nuclear, counter, residual]) @ stains.separation()
    return np.asarray(np.maximum(cv2.transform(density, matrix.astype(np.float32)), 0), np.float32)


def on_yellow(field: Field, density: Floats, taken: float, rng: np.random.Generator) -> Floats:
    """Let the glass take this share of the blue light, and a tenth as much of the green."""
    ground = -np.log10(1 - taken * np.array([0, 0.1, 1]))
    return np.asarray(density + ground.astype(np.float32), np.float32)


def lit_unevenly(field: Field, density: Floats, loss: float, rng: np.random.Generator) -> Floats:
    """Take this share of the light in the corners."""
    light = illumination(rng, density.shape[:2], loss)
    return np.asarray(density - np.log10(light)[..., None], np.float32)


def holed(field: Field, density: Floats, share: float, rng: np.random.Generator) -> Floats:
    """Punch bright round holes of a nucleus' size, with a thin rim, into this share of what is no nucleus."""
    diameter = field.diameter_px or _NO_CELL_PX
    free = (field.labels == 0).astype(np.uint8)
    wanted = share * int(free.sum())
    holes = np.zeros(density.shape[:2], np.float32)
    room = cv2.distanceTransform(np.pad(free, 1, constant_values=1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    for _ in range(_MOST_HOLES):
        if holes.sum() >= wanted:
            break
        row, col = (int(rng.integers(n)) for n in room.shape)
        radius = diameter * rng.uniform(0.3, 0.8)
        if room[row, col] > 1.2 * radius:
            cv2.circle(holes, (col, row), round(radius), 1.0, cv2.FILLED)
    soft = blur(holes, 0.04 * diameter)
    rim = np.clip(blur(holes, 0.1 * diameter) - soft, 0, None)
    return np.asarray(density * (1 - soft + rim)[..., None], np.float32)


def through_eyepiece(field: Field, part: float, rng: np.random.Generator) -> Field:
    """Leave a circle that holds this part of the field, in a black surround; what lies outside is no cell."""
    rows, cols = np.indices(field.labels.shape, np.float32)
    far = np.hypot(rows - rows.mean(), cols - cols.mean())
    inside = far <= np.quantile(far, part)
    black, softness = _EYEPIECE
    light = blur(inside.astype(np.float32), softness)
    light = light if field.pixels.ndim == 2 else light[..., None]
    pixels = np.rint(black + (in_bytes(in_range(field.pixels)) - black) * light)
    return Field(pixels.astype(np.uint8), instances.number(np.where(inside, field.labels, 0), 1), field.diameter_px)


def beside_fibre(field: Field, brightness: float, rng: np.random.Generator) -> Field:
    """Lay a glowing fibre across the field, so many times as bright as the brightest cells; it hides what is under it.

    The camera is exposed for the fibre, so the cells have as much fewer levels.
    """
    diameter = field.diameter_px or _NO_CELL_PX
    shape = field.labels.shape
    _, across = flow(rng, shape, 0.6 * max(shape), bend=0.2)
    middle = np.quantile(across, rng.uniform(0.25, 0.75))
    line = (np.abs(across - middle) < _FIBRE_WIDTH / 2 * diameter).astype(np.float32)
    glow = np.maximum(blur(line, 0.05 * diameter), np.float32(_FIBRE_GLOW) * blur(line, diameter))
    light = np.float32(brightness) * glow * (1 + np.float32(0.1) * noise(rng, shape, 0.3 * diameter))
    light = light if field.pixels.ndim == 2 else light[..., None]
    pixels = in_bytes(np.maximum(in_range(field.pixels), light) / np.float32(max(brightness, 1)))
    sizes = np.bincount(field.labels.ravel())
    visible = np.where(line > 0, 0, field.labels)
    left = np.bincount(visible.ravel(), minlength=sizes.size)
    is_seen = left >= _LEAST_LEFT * np.maximum(sizes, 1)
    labels = instances.number(np.where(is_seen[visible], visible, 0).astype(np.uint16), 1)
    return Field(pixels, labels, field.diameter_px)


FAULTS = {
    "pink only": Fault(_through(pink_only), (0.4, 0.7, 1), "of haematoxylin's colour turned to pink", "histology"),
    "blue only": Fault(_through(blue_only), (0.4, 0.7, 1), "of eosin's colour turned to blue", "histology"),
    "yellow ground": Fault(_through(on_yellow), (0.2, 0.4, 0.7), "of the blue light taken", "histology"),
    "bright holes": Fault(_through(holed), (0.03, 0.1, 0.25), "of the tissue between nuclei", "histology"),
    "uneven light": Fault(_through(lit_unevenly), (0.3, 0.5, 0.7), "of the light lost in the corners", "histology"),
    "black surround": Fault(through_eyepiece, (0.95, 0.75, 0.5), "of the field in the circle", "histology"),
    "bright fibre": Fault(beside_fibre, (1.5, 3, 6), "times the brightest cells' light", "fluorescence"),
}
