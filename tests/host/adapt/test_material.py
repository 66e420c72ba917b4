"""All images of an adaptation become one data set, in which each corrected image is normalised as its field was."""

import dataclasses

import numpy as np
import pytest

from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model
from cellseg_device.results import correction_file
from cellseg_device.results.correction_file import Correction
from cellseg_host.adapt import material, replay
from cellseg_host.adapt.corrected import check
from cellseg_host.adapt.folds import Fold
from cellseg_host.adapt.settings import CORRECTED


@pytest.fixture(scope="module")
def corrections(tmp_path_factory, draw_blobs, draw_labels):
    """Three crops with levels of their field, the second with specks and a name that no file of ours would have."""
    path = tmp_path_factory.mktemp("zip") / "corrections.zip"
    labels = draw_labels(96, 128)
    speckled = labels.copy()
    speckled[0, 0] = 999
    made = [
        Correction(name, Image(draw_blobs(seed=seed), ends=ends), these)
        for seed, (name, ends, these) in enumerate(
            [("a", (3, 200), labels), ("two words é", None, speckled), ("c", None, labels * 0)]
        )
    ]
    correction_file.write(path, made)
    return correction_file.read(path)


@pytest.fixture(scope="module")
def made(corrections, tiny_dataset, tmp_path_factory):
    sources = material.Sources(corrections, check(corrections), ("empty",), tiny_dataset, 5)
    steps = []
    root = tmp_path_factory.mktemp("work") / "data"
    found = material.make(root, sources, lambda *step: steps.append(step))
    assert steps[-1] == (len(found.entries), len(found.entries)) == (sources.images, sources.images)
    return found


def test_corrected_images_keep_their_pixels_ends_names_and_cells(made, corrections):
    assert [made.name(entry.id) for entry in made.corrected] == ["a", "c", "two words é"]
    for entry, item in zip(made.corrected, corrections.items, strict=True):
        image, original = made.image(entry), corrections.image(item)
        assert np.array_equal(image.pixels, original.pixels)
        assert image.ends == original.ends
    assert made.image(made.corrected[0]).ends == (3, 200)
    assert [entry.cells for entry in made.corrected] == [30, 0, 30]
    assert made.labels(made.corrected[2]).max() == 30


def test_what_is_replayed_is_never_what_is_held_back(made, tiny_dataset):
    shown = {entry.id for entry in made.training(Fold((0, 1), (2,))).split("train")}
    assert not shown & {entry.id for entry in made.held_back}
    sets = {entry.set for entry in made.held_back}
    assert sets == {"synthetic", "replayed synthetic"}  # the tiny data set calls itself synthetic, too


def test_a_fold_learns_from_its_own_images_alone(made):
    data = made.training(Fold((0, 1), (2,)))
    own = [entry.id for entry in data.split("train") if entry.set == CORRECTED]
    assert own == [entry.id for entry in made.corrected[:2]]
    assert {entry.id for entry in data.split("val")} <= set(own)
    tuning = made.tuning(Fold((0, 1), (2,)))
    chosen = [entry.id for entry in tuning.split("val")]
    assert chosen[:2] == own
    assert len(chosen) == 3, "and half as many that are replayed"
    assert chosen[2] in {entry.id for entry in data.split("train")} - {entry.id for entry in made.corrected}
    assert [entry.id for entry in tuning.split("train")] == chosen


def test_thresholds_are_chosen_on_some_of_very_many_images(made):
    many = dataclasses.replace(
        made, entries=tuple(dataclasses.replace(made.corrected[0], id=f"c{n:04d}") for n in range(1000))
    )
    chosen = many.tuning(Fold(tuple(range(1000)), ())).split("val")
    assert 30 <= len(chosen) <= 60


def test_the_data_set_is_the_same_when_it_is_opened_again(made):
    again = material.load(made.root)
    assert again == made
    assert again.digest() == made.digest()


def test_a_data_set_without_val_images_holds_some_of_its_train_images_back(tiny_dataset):
    alone = dataclasses.replace(tiny_dataset, entries=tuple(e for e in tiny_dataset.entries if e.split == "train"))
    found = replay.chosen(alone, 0)
    assert sorted(entry.id for entry in found) == sorted(entry.id for entry in alone.entries)
    assert [entry.split for entry in found].count("test") == 1


def test_the_nucleus_model_knows_all_kinds_and_the_chamber_model_no_fluorescence(model):
    from cellseg_device.model.interpreter import bundled_path

    assert replay.known_kinds(model, 0) == ("fluorescence", "histology", "empty")
    assert "fluorescence" not in replay.known_kinds(Model(bundled_path("chamber")), 0)
