"""One adapted model: trained on some of the corrected images, and quantized."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cellseg_device.model.card import Separation
from cellseg_device.system import files
from cellseg_host import quantize
from cellseg_host.adapt.folds import Fold
from cellseg_host.adapt.material import Material
from cellseg_host.adapt.settings import Settings
from cellseg_host.adapt.start import Start
from cellseg_host.data.whole_folder import whole_folder
from cellseg_host.training import runs
from cellseg_host.training.averaging import mean_run
from cellseg_host.training.runs import Run
from cellseg_host.training.settings import from_mapping
from cellseg_host.training.train import train

MODEL = "model.tflite"
_FEW = 5  # percent of cells


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
    run, begin, dataset = folder / "run", folder / "begin", material.training(fold)
    is_begun = begin.is_dir()
    if run.exists() and not is_begun:  # stopped before there was anything to go on with
        shutil.rmtree(run)
    folder.mkdir(parents=True, exist_ok=True)
    done = 0

    def count(step: int, _of: int) -> None:
        on_step(done + step)

    diameter_px = _diameter_px(material, fold)
    given = from_mapping(settings.training(start.settings(), diameter_px))
    for epoch in train(dataset, run, given, resume=is_begun, on_step=count, on_start=lambda _: None):
        if epoch.epoch == 0:
            _copy(run, begin)
        done = epoch.epoch * settings.steps
    on_step(settings.epochs * settings.steps)
    data = quantize.int8_model(
        _mixed(folder / "mixed", runs.open_run(run), runs.open_run(begin), settings.start_share),
        dataset,
        material.tuning(fold),
        name=name,
        # By it the device decides when cells are so large that an image is to be scaled down. Corrected cells are
        # learnt at their own size, so images of such cells must not be scaled; smaller ones never are.
        diameter_px=max(start.card.cell_diameter_px, diameter_px),
        fixed=_kept(start.card.separation, _small_area_px(material, fold)),
    )
    files.write(path, data)
    return path


def _copy(run: Path, copy: Path) -> None:
    """Keep a run as it is before its first step: the network that it starts from."""
    with whole_folder(copy) as folder:
        for name in (runs.NETWORK, "run.json"):
            shutil.copy(run / name, folder)


def _mixed(path: Path, run: Run, begin: Run, share: float) -> Run:
    """Return a run whose weights are to this share those that it began with, so that less is forgotten."""
    if path.exists():
        shutil.rmtree(path)
    mean_run((run, begin), path, shares=(1 - share, share))
    return runs.open_run(path)


def _kept(separation: Separation, small_px: float) -> dict[str, Any]:
    """Return what of the start model's separation stays, though never a least area that would drop the user's cells.

    Chosen on images that the network has just learnt from, which shows it no false cells, it would drop too little
    (ten noisy fields of dsb2018: AP@0.5 0.785, on plain ones 0.088 lost; as it is kept here 0.805 and 0.029). What does
    depend on the new maps, foreground threshold and prominence, is chosen.
    """
    kept = {"confidence": separation.confidence, "min_area_px": int(min(separation.min_area_px, small_px / 2))}
    return kept if separation.join is None else kept | {"join": separation.join}


def _small_area_px(material: Material, fold: Fold) -> float:
    """Return the area that few corrected cells fall short of; infinity without any cell."""
    corrected = [material.corrected[place] for place in fold.train]
    areas = np.concatenate([np.bincount(material.labels(entry).ravel())[1:] for entry in corrected])
    return float(np.percentile(areas, _FEW)) if len(areas) else math.inf


def _diameter_px(material: Material, fold: Fold) -> float:
    """Return the median diameter of the corrected cells; 0 without any."""
    corrected = [material.corrected[place] for place in fold.train]
    diameters = [entry.median_diameter_px for entry in corrected if entry.cells]
    return float(np.median(diameters)) if diameters else 0.0
