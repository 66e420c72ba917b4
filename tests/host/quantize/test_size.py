"""The size of cells that a model copes with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cellseg_device.pipeline.predict import LARGE_RATIO
from cellseg_host.data.dataset import load
from cellseg_host.quantize import size
from cellseg_host.quantize.size import MOST_LOST, RATIOS
from cellseg_host.synth import SynthSettings
from cellseg_host.synth.write import write_fields


def losses(*means: float, images: int = 20) -> list[np.ndarray]:
    return [np.full(images, mean) for mean in means]


def test_the_largest_ratio_before_scores_fall() -> None:
    flat, lost = [0.0] * 6, [0.2] * 3
    assert size.largest_ratio(losses(*flat, *lost)) == RATIOS[4]  # a size counts with its neighbours
    assert size.largest_ratio(losses(*[0.0] * 9)) == RATIOS[-1]
    assert size.largest_ratio(losses(*[0.2] * 9)) == RATIOS[3]
    assert size.largest_ratio(losses(*[MOST_LOST * 0.99] * 9)) == RATIOS[-1]


def test_one_bad_size_among_good_ones_is_noise() -> None:
    assert size.largest_ratio(losses(*[0.0] * 5, 1.5 * MOST_LOST, 0.0, 0.0, 0.0)) == RATIOS[-1]


def test_sizes_that_hardly_any_image_has_are_not_reached() -> None:
    few = [*losses(*[0.0] * 6), *losses(0.0, 0.0, 0.0, images=2)]
    assert size.largest_ratio(few) == RATIOS[6]


@pytest.mark.slow
def test_the_released_model_copes_with_cells_of_about_45_px(tmp_path, model) -> None:
    write_fields(tmp_path / "fields", SynthSettings(height=200, width=240, cells=25, diameter_px=20.0), 12, 5)
    dataset = load(tmp_path / "fields")
    found = size.cell_diameter_px(model, dataset, dataset.entries)
    assert 30 < found * LARGE_RATIO < 65


def test_too_few_images_say_nothing(tiny_dataset, model) -> None:
    assert size.cell_diameter_px(model, tiny_dataset, tiny_dataset.entries[:9]) == model.card.cell_diameter_px
    empty = [dataclasses.replace(entry, cells=0, median_diameter_px=0.0) for entry in tiny_dataset.entries * 3]
    assert size.cell_diameter_px(model, tiny_dataset, empty) == model.card.cell_diameter_px
