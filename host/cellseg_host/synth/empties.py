"""Fields without a nucleus, of ten kinds that cameras produce now and then: the right count of each is 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_host.synth import chromatin
from cellseg_host.synth.field import make_field
from cellseg_host.synth.optics import Camera, expose, illumination
from cellseg_host.synth.settings import SynthSettings
from cellseg_host.synth.texture import Shape, blur, fibres, flow, noise

Picture = npt.NDArray[Any]

# Tests and benchmarks score models on fields from these seeds: use other seeds to train on empty fields
TEST_SEEDS = (0, 1, 2, 3, 4)
TEST_SHAPE = (520, 696)

_GREY = Camera(electrons_per_count=20, read_noise_e=30, offset=4, top=255)
_TWELVE_BIT = Camera(electrons_per_count=2, read_noise_e=4, offset=100, top=4095)


def make_empty(kind: str, shape: Shape, seed: int | tuple[int, ...]) -> Picture:
    """Return one field without a nucleus.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    shape : (height, width)
    seed : int or tuple of int
        Non-negative; the same kind, shape and seed make the same field.

    Returns
    -------
    ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
    """
    numbers = seed if isinstance(seed, tuple) else (seed,)
    return KINDS[kind](np.random.default_rng([*numbers, list(KINDS).index(kind)]), shape)


def _dark(rng: np.random.Generator, shape: Shape) -> Picture:
    """The lamp was off: read noise about a 12-bit camera's offset."""
    return expose(rng, np.zeros(shape, np.float32), _TWELVE_BIT)


def _uneven(rng: np.random.Generator, shape: Shape) -> Picture:
    """Glowing medium, lit unevenly."""
    return expose(rng, 40 * illumination(rng, shape, 0.6), _GREY)


def _debris(rng: np.random.Generator, shape: Shape) -> Picture:
    """Bright specks and lint on dark, up to 4 px across, far smaller than a nucleus."""
    canvas = np.zeros(shape, np.float32)
    count = int(rng.poisson(2e-4 * shape[0] * shape[1]))
    rows, cols = rng.uniform(0, shape[0], count), rng.uniform(0, shape[1], count)
    chromatin.draw_discs(canvas, rows, cols, rng.uniform(0.3, 1.8, count), rng.uniform(0.2, 1, count))
    along, across = flow(rng, shape, 120, bend=0.8)
    lint = np.clip(fibres(rng, along, across, 60, 2) - 2.6, 0, 1)
    return expose(rng, 120 * blur(canvas + 0.5 * lint, 0.8) + 6, _GREY)


def _hot(rng: np.random.Generator, shape: Shape) -> Picture:
    """A long dark exposure: a warm sensor and cosmic rays saturate single pixels."""
    image = expose(rng, np.full(shape, 5, np.float32), _TWELVE_BIT)
    is_hot = rng.random(shape) < 2e-3
    image[is_hot] = rng.integers(400, _TWELVE_BIT.top + 1, int(is_hot.sum()))
    return image


def _tissue(rng: np.random.Generator, shape: Shape) -> Picture:
    """Stroma in haematoxylin and eosin, between the nuclei."""
    settings = SynthSettings("histology", *shape, cells=0, diameter_px=24.0, stain="he", plain=True)
    return make_field(settings, int(rng.integers(2**32)))[0]


def _bright(rng: np.random.Generator, shape: Shape) -> Picture:
    """Bright field without a specimen: the lamp's light in RGB, and shadows of dust on the condenser, out of focus."""
    shadows = np.zeros(shape, np.float32)
    count = int(rng.poisson(6))
    rows, cols = rng.uniform(0, shape[0], count), rng.uniform(0, shape[1], count)
    chromatin.draw_discs(shadows, rows, cols, rng.uniform(10, 30, count), rng.uniform(0.01, 0.04, count))
    light = illumination(rng, shape, 0.12) * (1 - blur(shadows, 8))
    return expose(rng, 225 * light[..., None] * np.array([0.98, 1.0, 0.96], np.float32), _GREY)


def _white(rng: np.random.Generator, shape: Shape) -> Picture:
    """Overexposed: every pixel at the upper end."""
    return np.full(shape, 255, np.uint8)


def _black(rng: np.random.Generator, shape: Shape) -> Picture:
    """No light and no offset: every pixel 0."""
    return np.zeros(shape, np.uint8)


def _stripes(rng: np.random.Generator, shape: Shape) -> Picture:
    """Rows of a rolling shutter under a flickering lamp, and columns of unequal amplifiers."""
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    flicker = 1 + np.float32(0.2) * np.sin(rows * np.float32(2 * np.pi / rng.uniform(14, 60)))
    columns = rng.normal(1, 0.03, (1, shape[1])).astype(np.float32)
    return expose(rng, 60 * flicker * columns, _GREY)


def _glow(rng: np.random.Generator, shape: Shape) -> Picture:
    """Light from cells far out of focus: broad clouds without an edge."""
    return expose(rng, 20 * np.exp(0.8 * noise(rng, shape, 70)), _GREY)


KINDS = {
    "dark noise": _dark,
    "uneven background": _uneven,
    "debris": _debris,
    "hot pixels": _hot,
    "tissue without nuclei": _tissue,
    "blank bright field": _bright,
    "saturated": _white,
    "black": _black,
    "stripes": _stripes,
    "out-of-focus glow": _glow,
}
