"""One adapted model: its weights are in part those of the start model, also after a stop."""

import dataclasses
import shutil

import numpy as np
import pytest

from cellseg_device.model import card as cards
from cellseg_device.model.card import Separation
from cellseg_device.model.interpreter import Model
from cellseg_device.results import correction_folder
from cellseg_host.adapt import material
from cellseg_host.adapt.corrected import check
from cellseg_host.adapt.fit import fit
from cellseg_host.adapt.folds import Fold
from cellseg_host.adapt.settings import Settings
from cellseg_host.adapt.start import find
from cellseg_host.training.runs import open_run

SETTINGS = Settings(epochs=2, steps=2, side=64, batch=2, start_share=0.25)
FOLD = Fold((0, 1), (2,))


class _StopError(Exception):
    pass


@pytest.fixture(scope="module")
def start(model_path):
    return find(model_path, None, "", model_path)


@pytest.fixture(scope="module")
def made(write_corrections, tmp_path_factory):
    root = tmp_path_factory.mktemp("fit")
    corrections = correction_folder.read(write_corrections(root / "cells"))
    return material.make(root / "data", material.Sources(corrections, check(corrections), (), None, 0))


@pytest.fixture(scope="module")
def fitted(made, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    fit(folder, made, FOLD, start, SETTINGS, name="mine")
    return folder


def test_the_weights_are_in_part_those_of_the_start(fitted):
    mixed, begin, end = (open_run(fitted / name).network.get_weights() for name in ("mixed", "begin", "run"))
    assert any(not np.array_equal(one, other) for one, other in zip(begin, end, strict=True))
    for found, first, last in zip(mixed, begin, end, strict=True):
        assert np.allclose(found, 0.25 * first + 0.75 * last, atol=1e-6)


def test_what_drops_false_cells_is_that_of_the_start_model(fitted, start):
    mine, its = Model(fitted / "model.tflite").card.separation, start.card.separation
    assert (mine.confidence, mine.min_area_px, mine.join) == (its.confidence, its.min_area_px, its.join)


def test_small_cells_that_a_user_has_drawn_are_not_dropped(made, start, tmp_path):
    small = dataclasses.replace(
        start, card=dataclasses.replace(start.card, separation=Separation(0.5, min_area_px=900))
    )
    path = fit(tmp_path, made, FOLD, small, dataclasses.replace(SETTINGS, epochs=1), name="mine")
    areas = np.concatenate([np.bincount(made.labels(e).ravel())[1:] for e in made.corrected[:2]])
    assert Model(path).card.separation.min_area_px == int(np.percentile(areas, 5) / 2) < 200


def _without_provenance(path):
    """Return a model file's bytes but for the digests of runs, whose files hold the time."""
    data = path.read_bytes()
    return cards.attach(data, dataclasses.replace(cards.read_from(data), provenance={}))


@pytest.mark.slow
def test_after_a_stop_it_becomes_the_same_model(fitted, made, start, tmp_path):
    def stop(steps):
        if steps == 3:
            raise _StopError

    with pytest.raises(_StopError):
        fit(tmp_path, made, FOLD, start, SETTINGS, name="mine", on_step=stop)
    path = fit(tmp_path, made, FOLD, start, SETTINGS, name="mine")
    assert _without_provenance(path) == _without_provenance(fitted / path.name)
    assert Model(path).card.name == "mine"


@pytest.mark.slow
def test_a_stop_before_the_start_was_kept_begins_again(fitted, made, start, tmp_path):
    shutil.copytree(fitted / "run", tmp_path / "run")
    path = fit(tmp_path, made, FOLD, start, SETTINGS, name="mine")
    assert _without_provenance(path) == _without_provenance(fitted / path.name)
