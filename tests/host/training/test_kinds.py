"""Classifiers of kinds: what they learn from, their views, and training on fields that are bright or dark."""

import dataclasses

import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_host.augment import NONE, Augmentation, Sample
from cellseg_host.data.dataset import Entry
from cellseg_host.training import kinds, sampling
from cellseg_host.training.settings import TrainSettings


def entry(name, kind, of="a", split="train", size=(40, 60), cells=None):
    return Entry(name, of, split, "brightfield", kind, *size, cells, 0.0)


def test_the_classes_are_the_kinds_of_the_training_images(light_and_dark):
    assert kinds.named(light_and_dark) == ("other", "smear")
    settings = kinds.with_classes(TrainSettings(arch="kind-net", options={"filters": (8, 8)}), light_and_dark)
    assert settings.options == {"filters": (8, 8), "classes": 2}


def test_a_single_kind_and_one_without_training_images_are_refused(light_and_dark):
    some = tuple(e for e in light_and_dark.entries if e.kind == "smear")
    with pytest.raises(InputError, match="all training images are of the kind 'smear'"):
        kinds.named(dataclasses.replace(light_and_dark, entries=some))
    more = (*light_and_dark.entries, entry("x", "tissue", split="val"))
    with pytest.raises(InputError, match="no training image is of the kind 'tissue'"):
        kinds.named(dataclasses.replace(light_and_dark, entries=more))


def test_each_kind_is_drawn_as_often_and_in_it_each_set_by_the_root_of_its_size():
    entries = [entry(f"s{i}", "smear", "one" if i < 9 else "other") for i in range(10)] + [entry("t", "tissue")]
    weights = sampling.balanced_weights(entries)
    assert weights.sum() == pytest.approx(1)
    assert weights[10] == pytest.approx(0.5)
    assert weights[9] == pytest.approx(0.5 / 4)  # √1 beside √9
    assert weights[:9].sum() == pytest.approx(0.5 * 3 / 4)


def test_views_are_parts_of_the_field_made_small_with_their_kind():
    fields = [Sample(np.full((300, 400), level, np.uint8), np.zeros((300, 400), np.uint16)) for level in (50, 200)]
    made = kinds.views(fields, np.array([0, 2]), np.array([0.5, 0.5]), NONE, side=256, batch=8, count=2, seed=(0, 0))
    seen = set()
    for image, targets, border in made:
        assert image.shape == (8, 160, 160, 3)
        assert targets["kind"].shape == (8, 1, 1, 3)
        assert not border.numpy().any()
        found = targets["kind"].numpy()[:, 0, 0].argmax(axis=1)
        assert (np.rint(image.numpy()[:, 0, 0, 0] * 255) == np.where(found == 0, 50, 200)).all()
        assert targets["kind"].numpy().sum(axis=3) == pytest.approx(1)
        seen |= set(found.tolist())
    assert seen == {0, 2}


def test_the_same_seed_gives_the_same_views(light_and_dark):
    card_like = [Sample(np.arange(6400, dtype=np.uint8).reshape(80, 80), np.zeros((80, 80), np.uint16))] * 2
    drawn = [
        next(
            iter(
                kinds.views(
                    card_like,
                    np.array([0, 1]),
                    np.array([0.5, 0.5]),
                    Augmentation(),
                    side=64,
                    batch=4,
                    count=1,
                    seed=seed,
                )
            )
        )[0].numpy()
        for seed in ((0, 1), (0, 1), (0, 2))
    ]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()


def test_it_learns_from_fields_without_labels(kind_run):
    _, epochs = kind_run
    assert list(epochs[-1].scores) == ["val_loss", "balanced_accuracy", "accuracy", "recall_other", "recall_smear"]
    best = epochs[-1]
    assert best.scores["accuracy"] == 1
    assert best.scores["val_loss"] < 0.6


def test_its_card_names_the_kinds(kind_run):
    from cellseg_host.training.runs import open_run

    run = open_run(kind_run[0])
    gate = run.card().gate
    assert [(c.name, c.follows, c.model, c.looks_like) for c in gate.classes] == [
        ("other", "segment", None, "other"),
        ("smear", "segment", None, "smear"),
    ]
    assert (gate.side_px, gate.sees) == (64, "field")
    assert run.settings.options == {"classes": 2}
    assert run.info["data"]["train_images"] == 12
