"""Images and the network's configuration for StarDist; runs in StarDist's environment."""

from __future__ import annotations

import csv
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from csbdeep.utils import normalize
from stardist.models import Config2D

# One epoch of architectures.py's budget: 50 steps of 16 views of 128 × 128 pixels
STEPS, BATCH, SIDE = 50, 16, 128


def configuration() -> Config2D:
    """That of ``2D_versatile_fluo`` (32 rays, grid 2), but for RGB, since the data is not fluorescence alone."""
    return Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=3,
        use_gpu=False,
        train_patch_size=(SIDE, SIDE),
        train_batch_size=BATCH,
        train_steps_per_epoch=STEPS,
        train_tensorboard=False,
    )


def image(path: Path) -> np.ndarray:
    """RGB between its percentiles 1 and 99.8, float32, as StarDist's examples have it."""
    pixels = imageio.imread(path)
    pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
    return normalize(pixels, 1, 99.8, axis=(0, 1, 2)).astype(np.float32)


def pairs(data: Path, split: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and labels of a split of an imported dataset, without images that have no labels."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        ids = [row["id"] for row in csv.DictReader(file) if row["split"] == split and row["cells"]]
    labels = [imageio.imread(data / "labels" / f"{name}.png").astype(np.int32) for name in ids]
    return [image(data / "images" / f"{name}.png") for name in ids], labels
