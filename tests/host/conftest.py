"""A tiny dataset and a run trained on it for seconds: enough to go through every step, not to learn much."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
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


@pytest.fixture(scope="session")
def light_and_dark(tmp_path_factory: pytest.TempPathFactory):
    """Fields without labels, of two kinds: bright specks on dark ("other"), and dark ones on bright ("smear")."""
    from cellseg_host.data.dataset import Entry, load, save_png, write_manifest

    root = tmp_path_factory.mktemp("kinds") / "specks"
    (root / "images").mkdir(parents=True)
    rng, entries = np.random.default_rng(0), []
    for number in range(18):
        kind, size = ("smear", "other")[number % 2], (100, 120 + number)
        field = np.full(size, 40, np.uint8)
        for place in rng.integers(0, 100, (12, 2)).tolist():
            cv2.circle(field, place, 5, 220, cv2.FILLED)
        split = ("train", "train", "train", "train", "val", "test")[number // 3]
        entries.append(Entry(f"field{number}", "ab"[number % 4 // 2], split, "brightfield", kind, *size, None, 0.0))
        save_png(root / "images" / f"field{number}.png", field if kind == "other" else 255 - field)
    write_manifest(root, entries)
    return load(root)


@pytest.fixture(scope="session")
def kind_run(light_and_dark, tmp_path_factory: pytest.TempPathFactory):
    """A run of kind-net that has learnt to tell these apart, and its epochs."""
    from cellseg_host.augment import NONE
    from cellseg_host.training.settings import TrainSettings
    from cellseg_host.training.train import train

    path = tmp_path_factory.mktemp("runs") / "kind"
    clear = dataclasses.replace(NONE, scale=(0.8, 1.2))
    settings = TrainSettings(arch="kind-net", epochs=2, steps=150, batch=8, side=64, augmentation=clear)
    settings = dataclasses.replace(settings, monitor="accuracy", keep="last")
    return path, list(train(light_and_dark, path, settings))
