"""A tiny dataset and a run trained on it for seconds: enough to go through every step, not to learn much."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellseg_host.synth import SynthSettings
from cellseg_host.synth.write import write_fields


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory):
    """Six training, three validation and three test fields of 128 × 144 px, of two modalities."""
    from cellseg_host.data.dataset import load

    root = tmp_path_factory.mktemp("data") / "tiny"
    for split, count, seed in (("train", 4, 1), ("val", 2, 2), ("test", 2, 3)):
        settings = SynthSettings(height=128, width=144, cells=12, diameter_px=20.0)
        write_fields(root, settings, count, seed, split=split, force=True)
    for split, count, seed in (("train", 2, 4), ("val", 1, 5), ("test", 1, 6)):
        settings = SynthSettings(kind="histology", height=128, width=144, cells=12, diameter_px=20.0)
        write_fields(root, settings, count, seed, split=split, force=True)
    return load(root)


@pytest.fixture(scope="session")
def tiny_settings():
    """Two epochs of a few small batches."""
    from cellseg_host.training.settings import TrainSettings

    return TrainSettings(epochs=2, steps=30, batch=4, side=64, seed=3)


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset, tiny_settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of edge-unet on the tiny dataset."""
    from cellseg_host.training.train import train

    path = tmp_path_factory.mktemp("runs") / "tiny"
    assert len(list(train(tiny_dataset, path, tiny_settings))) == 2
    return path
