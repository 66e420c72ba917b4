"""What lies between the nuclei, as optical density: fibres and ground substance of tissue, the plasma of a smear."""

from __future__ import annotations

import numpy as np

from cellseg_host.synth import chromatin
from cellseg_host.synth.layout import Layout
from cellseg_host.synth.look import Look
from cellseg_host.synth.texture import Canvas, blur, fibres, noise


def between(
    rng: np.random.Generator, layout: Layout, look: Look, along: Canvas, across: Canvas
) -> tuple[Canvas, Canvas, Canvas]:
    """Return the dyes between the nuclei, and the neutral shading of refractile edges."""
    shape = layout.labels.shape
    diameter = look.diameter_px
    if look.stain == "giemsa":
        return _plasma(rng, layout, look)
    # Fibres are crimped: their course varies at the scale of a nucleus, and they fray into short pieces.
    crimp = across + np.float32(0.10 * diameter) * noise(rng, shape, 0.35 * diameter)
    fine = fibres(rng, along, crimp, 0.8 * diameter, max(0.07 * diameter, 1.5))
    coarse = fibres(rng, along, crimp, 4.0 * diameter, 0.45 * diameter)
    mottle = sum((noise(rng, shape, s * diameter) for s in (0.06, 0.15, 0.7)), np.zeros(shape, np.float32))
    patchy = np.clip(0.8 + 0.8 * noise(rng, shape, 2.5 * diameter), 0.1, 2)
    pattern = np.float32(look.texture) * patchy * (0.03 * fine + 0.015 * coarse + 0.032 * mottle)
    tissue = np.ones(shape, np.float32)
    if look.gaps:
        holes = noise(rng, shape, 1.6 * diameter) + 0.3 * noise(rng, shape, 0.4 * diameter) + 0.12 * coarse
        edge = np.quantile(holes, look.gaps)
        tissue = 1 / (1 + np.exp(np.clip(-(holes - edge) * 22, -30, 30)))
        # A nucleus takes its cytoplasm with it into a gap.
        own = blur((layout.labels > 0).astype(np.float32), 0.16 * diameter)
        tissue = np.maximum(tissue, np.clip(2.5 * own, 0, 1))
    streaks = np.clip(coarse - 1.0, 0, 2) * np.clip(0.6 + noise(rng, shape, 3 * diameter), 0, 1.5)
    body = blur((layout.labels > 0).astype(np.float32), 0.45 * diameter)
    blue_dye = np.float32(look.matrix[0]) * tissue * (1 + pattern + 0.25 * body)
    red_dye = np.float32(look.matrix[1]) * tissue * (1 + 2 * pattern + 0.5 * body + 0.3 * streaks)
    neutral = np.float32(look.relief) * _wrinkles(rng, along, crimp, diameter) * patchy * tissue
    return np.maximum(blue_dye, 0), np.maximum(red_dye, 0), neutral


def _wrinkles(rng: np.random.Generator, along: Canvas, across: Canvas, diameter: float) -> Canvas:
    """Return refractile edges: a bright line beside a dark one, along the level lines of stretched noise."""
    height = fibres(rng, along, across, 1.4 * diameter, max(0.28 * diameter, 2.5))
    crease = np.exp(-(height**2) / np.float32(2 * 0.16**2))
    slope = height / np.float32(0.16)
    return np.asarray(np.float32(0.024) * crease * slope, np.float32)


def _plasma(rng: np.random.Generator, layout: Layout, look: Look) -> tuple[Canvas, Canvas, Canvas]:
    """Return what lies between the cells of a smear: pale cytoplasm, unstained red cells with refractile rims."""
    shape = layout.labels.shape
    diameter = look.diameter_px
    body = blur((layout.labels > 0).astype(np.float32), 0.22 * diameter)
    film = np.clip(noise(rng, shape, 0.8 * diameter), 0, 2) * np.clip(2.2 * body, 0, 1)
    red_dye = np.float32(0.07) * film + np.float32(0.012)
    blue_dye = np.float32(0.025) * film + np.float32(0.008)
    count = int(rng.poisson(rng.choice([0.0, 0.05, 0.14]) * shape[0] * shape[1] / diameter**2))
    cells = np.zeros(shape, np.float32)
    rows, cols = rng.uniform(0, shape[0], count), rng.uniform(0, shape[1], count)
    radii = diameter * rng.uniform(0.3, 0.45, count)
    chromatin.draw_discs(cells, rows, cols, radii, rng.uniform(0.6, 1, count))
    cells = blur(cells, 0.05 * diameter)
    rims = cells - blur(cells, 0.08 * diameter)
    neutral = np.float32(0.03) * cells - np.float32(0.10 * look.relief) * rims
    neutral += np.float32(0.006) * noise(rng, shape, 1.5 * diameter)
    return blue_dye, red_dye, neutral
