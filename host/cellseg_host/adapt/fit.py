"""One adapted model: trained on some of the corrected images, and quantized."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cellseg_device.system import files
from cellseg_host import quantize
from cellseg_host.adapt.folds import Fold
from cellseg_host.adapt.material import Material
from cellseg_host.adapt.settings import Settings
from cellseg_host.adapt.start import Start
from cellseg_host.training import runs
from cellseg_host.training.settings import from_mapping
from cellseg_host.training.train import train

MODEL = "model.tflite"


def fit(
    folder: Path,
    material: Material,
    fold: Fold,
    start: Start,
    settings: Settings,
    *,
    name: str,
    on_step: Callable[[int], None] = lambda _: None,
) -> Path:
    """Return the int8 model that has learnt from a fold's images; continues what was begun in the folder.

    Parameters
    ----------
    folder : Path
        Gets the run and the model.
    material : Material
    fold : Fold
    start : Start
    settings : Settings
    name : str
        The model's name in its card.
    on_step : callable
        Called with the number of steps done in all.

    Raises
    ------
    InputError
        If the training fails.
    """
    path = folder / MODEL
    if path.is_file():
        return path
    run, dataset = folder / "run", material.training(fold)
    is_begun = (run / "run.json").is_file()
    if run.exists() and not is_begun:  # stopped before there was anything to go on with
        shutil.rmtree(run)
    folder.mkdir(parents=True, exist_ok=True)
    done = 0

    def count(step: int, _of: int) -> None:
        on_step(done + step)

    diameter_px = _diameter_px(material, fold)
    given = from_mapping(settings.training(start.settings(), diameter_px))
    for epoch in train(dataset, run, given, resume=is_begun, on_step=count, on_start=lambda _: None):
        done = epoch.epoch * settings.steps
    on_step(settings.epochs * settings.steps)
    data = quantize.int8_model(
        runs.open_run(run),
        dataset,
        material.tuning(fold),
        name=name,
        # By it the device decides when cells are so large that an image is to be scaled down. Corrected cells are
        # learnt at their own size, so images of such cells must not be scaled; smaller ones never are.
        diameter_px=max(start.card.cell_diameter_px, diameter_px),
    )
    files.write(path, data)
    return path


def _diameter_px(material: Material, fold: Fold) -> float:
    """Return the median diameter of the corrected cells; 0 without any."""
    corrected = [material.corrected[place] for place in fold.train]
    diameters = [entry.median_diameter_px for entry in corrected if entry.cells]
    return float(np.median(diameters)) if diameters else 0.0
