"""What a slide has that the tissue has not: folds, pen marks, dust, pigment, lint, in optical density."""

from __future__ import annotations

import math

import numpy as np

from cellseg_host.synth import chromatin
from cellseg_host.synth.texture import Canvas, Shape, bent, blur, flow, noise

_PENS = ((0.9, 0.5, 0.1), (0.9, 0.3, 0.8), (1.0, 1.0, 1.0), (0.05, 0.9, 0.7))  # blue, green, black, red ink
_PIGMENTS = ((0.45, 0.70, 0.95), (0.9, 0.95, 1.0))  # melanin or iron, carbon


def _fold(rng: np.random.Generator, density: Canvas, diameter: float) -> Canvas:
    """Tissue lies double along one or two bands."""
    shape = density.shape[:2]
    for _ in range(int(rng.integers(1, 3))):
        band = _band(rng, shape, diameter * rng.uniform(0.6, 4), 0.15 * diameter)
        density = density * (1 + np.float32(rng.uniform(0.5, 1.2)) * band[..., None])
    return density


def _pen(rng: np.random.Generator, density: Canvas, diameter: float) -> Canvas:
    """A stroke of ink, out of focus, denser at its edges and streaked."""
    shape = density.shape[:2]
    band = _band(rng, shape, diameter * rng.uniform(4, 14), rng.uniform(0.1, 0.6) * diameter)
    edge = np.float32(rng.uniform(0, 0.8)) * (band - blur(band, 0.5 * diameter))
    streaks = 1 + np.float32(0.15) * noise(rng, shape, 0.6 * diameter)
    colour = np.array(_PENS[int(rng.integers(len(_PENS)))], np.float32) * np.float32(rng.uniform(0.3, 1.3))
    return np.asarray(density + np.maximum(band + edge, 0)[..., None] * streaks[..., None] * colour, np.float32)


def _dust(rng: np.random.Generator, density: Canvas, diameter: float) -> Canvas:
    """Dark specks, some out of focus and some with a bright ring."""
    shape = density.shape[:2]
    total = np.zeros(shape, np.float32)
    for defocus in (0.02, 0.08, 0.25):
        specks = np.zeros(shape, np.float32)
        count = int(rng.poisson(rng.uniform(0.02, 0.15) * shape[0] * shape[1] / diameter**2))
        rows, cols = (rng.uniform(0, n, count) for n in shape)
        radii = diameter * np.exp(rng.uniform(math.log(0.03), math.log(0.2), count))
        chromatin.draw_discs(specks, rows, cols, radii, rng.uniform(0.2, 1.2, count))
        specks = blur(bent(rng, specks, 0.08 * diameter, 0.1 * diameter), defocus * diameter)
        total += specks - np.float32(rng.uniform(0, 1)) * (blur(specks, 0.08 * diameter) - specks).clip(0)
    return density + total[..., None]


def _pigment(rng: np.random.Generator, density: Canvas, diameter: float) -> Canvas:
    """Clusters of brown or black granules."""
    shape = density.shape[:2]
    grains = np.zeros(shape, np.float32)
    for _ in range(int(rng.integers(2, 12))):
        count = int(rng.integers(5, 60))
        rows, cols = (rng.normal(rng.uniform(0, n), diameter * rng.uniform(0.2, 0.8), count) for n in shape)
        radii = diameter * rng.uniform(0.02, 0.09, count)
        chromatin.draw_discs(grains, rows, cols, radii, rng.uniform(0.3, 1.2, count))
    colour = np.array(_PIGMENTS[int(rng.random() < 0.3)], np.float32)
    return density + blur(grains, 0.02 * diameter)[..., None] * colour


def _lint(rng: np.random.Generator, density: Canvas, diameter: float) -> Canvas:
    """A fibre across the field: bright in the middle between dark edges, or dark."""
    shape = density.shape[:2]
    width = diameter * rng.uniform(0.15, 0.6)
    line = _band(rng, shape, width, 0.1 * width)
    inner = blur(line, 0.45 * width) * line
    bright = rng.uniform(-0.5, 0.8)
    tint = np.array(rng.uniform(0.9, 1.1, 3), np.float32)
    profile = np.float32(0.6) * (line - inner) - np.float32(bright * 0.5) * inner
    return density + blur(np.asarray(profile, np.float32), rng.uniform(0.02, 0.08) * diameter)[..., None] * tint


def _band(rng: np.random.Generator, shape: Shape, width: float, softness: float) -> Canvas:
    """Return a winding band across the field, 1 inside, somewhere near the middle."""
    _, across = flow(rng, shape, max(0.4 * max(shape), 1.0), bend=rng.uniform(0.1, 0.5))
    low, high = float(across.min()), float(across.max())
    middle = rng.uniform(0.7 * low + 0.3 * high, 0.3 * low + 0.7 * high)
    inside = (width / 2 - np.abs(across - np.float32(middle))) / max(softness, 0.3)
    return np.asarray(1 / (1 + np.exp(np.clip(-4 * inside, -30, 30))), np.float32)


# Each returns the optical density (height, width, 3) of a slide to which it happened, given a nucleus' diameter in px
MISHAPS = {"fold": _fold, "pen": _pen, "dust": _dust, "pigment": _pigment, "lint": _lint}
