"""Phase contrast of living cells: whole cells in grey, their borders with a halo.

Not for counting: a classifier learns from them to tell such pictures from those that the models are made for.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_host.synth.optics import Camera, expose, illumination
from cellseg_host.synth.texture import Canvas, Shape, blur, noise

_CAMERA = Camera(electrons_per_count=25, read_noise_e=30, offset=0, top=255)
_CORNERS = 14
_NEGATIVE = 0.3  # share of fields in negative phase contrast, whose cells are bright


def make_phase(rng: np.random.Generator, shape: Shape) -> npt.NDArray[np.uint8]:
    """Return a field of cells in phase contrast, grey, uint8 (height, width).

    Brightness follows how far the phase is from its mean nearby, which makes the halo: ground − s · (φ − G * φ).
    """
    size = math.exp(rng.uniform(math.log(14), math.log(120)))
    phase = _phase(rng, shape, size)
    sign = -1 if rng.random() < _NEGATIVE else 1
    fine, broad = size * rng.uniform(0.02, 0.06) + 0.5, size * rng.uniform(0.1, 0.5)
    picture = 1 - np.float32(sign * rng.uniform(0.2, 1.4)) * (phase - blur(phase, broad))
    picture += np.float32(rng.uniform(0, 3)) * np.abs(phase - blur(phase, fine))  # the bright line along a border
    round_up = _round_cells(rng, shape, size)
    picture += np.float32(rng.uniform(0.4, 1.5)) * (round_up - 0.6 * blur(round_up, size * 0.25))
    picture += np.float32(rng.uniform(0, 0.05)) * noise(rng, shape, rng.uniform(1, 4))
    ground = rng.uniform(50, 150)
    light = illumination(rng, shape, rng.uniform(0, 0.35))
    return expose(rng, ground * light * np.clip(blur(picture, rng.uniform(0.3, 1.1)), 0.02, 4), _CAMERA)


def _phase(rng: np.random.Generator, shape: Shape, size: float) -> Canvas:
    """Return the phase of spread cells: spindles and polygons, thicker in the middle, with grains and a nucleus."""
    number = min(max(round(rng.uniform(0.05, 0.9) * shape[0] * shape[1] / size**2), 3), 900)
    slender = rng.uniform(1, 6)
    phase = np.zeros(shape, np.float32)
    for _ in range(number):
        one = np.zeros((int(3 * size) | 1,) * 2, np.float32)
        middle = one.shape[0] // 2
        outline = _outline(rng, size, slender) + middle
        cv2.fillPoly(one, [np.rint(outline * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
        thick = np.float32(rng.uniform(0.25, 1)) * (0.4 * one + 0.6 * blur(one, size * 0.18) * one)
        at = middle + rng.normal(0, size * 0.06, 2)
        cv2.circle(
            thick, (int(at[0]), int(at[1])), max(int(size * rng.uniform(0.08, 0.16)), 1), 0.7, 1 + int(size / 40)
        )
        _add(phase, thick, rng.uniform(0, shape[0]), rng.uniform(0, shape[1]))
    inside = np.minimum(phase * 2, 1)
    grains = noise(rng, shape, max(size / 25, 0.8)) + noise(rng, shape, max(size / 9, 1.2))
    return np.asarray(phase + np.float32(rng.uniform(0.05, 0.35)) * grains * inside, np.float32)


def _outline(rng: np.random.Generator, size: float, slender: float) -> npt.NDArray[np.float64]:
    """Return the corners (x, y) of a spread cell around (0, 0), smooth but for its processes."""
    turn = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    reach = 0.36 * size * np.exp(rng.normal(0, 0.3, _CORNERS))
    reach[rng.integers(_CORNERS, size=rng.integers(0, 4))] *= rng.uniform(1.3, 2.4)
    longer = math.sqrt(rng.uniform(1, slender))
    x, y = reach * np.cos(turn) * longer, reach * np.sin(turn) / longer
    angle = rng.uniform(0, 2 * math.pi)
    points = np.stack([math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y], 1)
    return np.clip(points, -1.45 * size, 1.45 * size)


def _round_cells(rng: np.random.Generator, shape: Shape, size: float) -> Canvas:
    """Return rounded cells, dividing or dead, and debris: bright beads."""
    canvas = np.zeros(shape, np.float32)
    for _ in range(min(rng.poisson(rng.choice([0.5, 6, 25])), 60)):
        at = int(rng.uniform(0, shape[1])), int(rng.uniform(0, shape[0]))
        cv2.circle(canvas, at, max(int(size * rng.uniform(0.04, 0.25)), 1), float(rng.uniform(0.4, 1)), cv2.FILLED)
    return blur(canvas, 1.0)


def _add(canvas: Canvas, patch: Canvas, row: float, col: float) -> None:
    """Add a patch around a place, as far as it is inside."""
    top, left = int(row) - patch.shape[0] // 2, int(col) - patch.shape[1] // 2
    below, right = min(top + patch.shape[0], canvas.shape[0]), min(left + patch.shape[1], canvas.shape[1])
    first_row, first_col = max(top, 0), max(left, 0)
    if below > first_row and right > first_col:
        part = canvas[first_row:below, first_col:right]
        np.maximum(part, patch[first_row - top : below - top, first_col - left : right - left], out=part)
