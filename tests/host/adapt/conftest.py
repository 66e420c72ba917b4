"""Corrections in a folder: a few small and very noisy fields, with their true labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cellseg_host.data.dataset import save_png
from cellseg_host.synth.field import make_field
from cellseg_host.synth.settings import SynthSettings


def _noisy(image: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Return a field with noise; with much of it, the bundled model finds only few of the cells."""
    return np.clip(image + np.random.default_rng(seed).normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def _write_corrections(folder: Path, number: int = 3, *, cells: int = 20, noise: float = 40) -> Path:
    """Write fields and labels of 144 × 128 px into a folder, and return it."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    settings = SynthSettings(height=128, width=144, cells=cells, diameter_px=18.0)
    for n in range(number):
        image, labels = make_field(settings, (77, n))
        save_png(folder / "images" / f"field{n}.png", _noisy(image, noise, n))
        save_png(folder / "labels" / f"field{n}.png", labels)
    return folder


@pytest.fixture(scope="session")
def write_corrections() -> Callable[..., Path]:
    """`_write_corrections`."""
    return _write_corrections
