"""The join of touching pieces is learnt from contacts whose truth is known."""

import dataclasses

import numpy as np
import pytest

from cellseg_device.cells import instances
from cellseg_device.model.card import Join, Output, Separation
from cellseg_device.model.interpreter import MapSpec
from cellseg_device.pipeline.segment import label
from cellseg_host.quantize import joining, separation
from cellseg_host.quantize.joining import Examples

SPECS = {
    "foreground": MapSpec(Output("foreground", 0, "logit"), 2, 1, 1 / 8, 5),
    "distance": MapSpec(Output("distance", 1, "logit"), 1, 2, 1 / 32, -7),
}


def drawn(count, valley):
    """Pairs of halves with a valley of this depth (logits) between them, each pair one or two true cells."""
    foreground = np.full((20 * count, 40), -20, np.int8)
    distance = np.full((10 * count, 20), -100, np.int8)
    for number in range(count):
        foreground[20 * number + 4 : 20 * number + 16, 4:36] = 29  # (29 - 5) / 8 = 3 logits
        distance[10 * number + 2 : 10 * number + 8, 2:18] = 90
        distance[10 * number + 2 : 10 * number + 8, 9:11] = 90 - round(valley * 32)
    return {"foreground": foreground, "distance": distance}


def truth(count, one):
    labels = np.zeros((20 * count, 40), np.uint16)
    for number in range(count):
        labels[20 * number + 4 : 20 * number + 16, 4:20] = 2 * number + 1
        labels[20 * number + 4 : 20 * number + 16, 20:36] = 2 * number + (1 if one else 2)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16)


@pytest.mark.parametrize("one", [True, False])
def test_examples_say_what_is_seen_and_what_is_true(one):
    found = joining.examples([drawn(3, 1.5)], [truth(3, one)], SPECS, Separation(prominence=0.5))
    assert found.same.tolist() == [one] * 3
    depth, foreground, width, median, whole = found.features.T
    assert depth == pytest.approx(1.5)
    assert foreground == pytest.approx(3)
    assert width == pytest.approx(6 / np.sqrt(48))
    assert median == pytest.approx(np.log(48))
    assert whole == pytest.approx(np.log(2))


def test_without_an_image_there_is_no_example():
    found = joining.examples([], [], SPECS, Separation())
    assert found.features.shape == (0, 5)
    assert joining.fit(found) is None


def test_an_image_of_too_many_pieces_teaches_nothing(monkeypatch):
    monkeypatch.setattr(instances, "MAX_CELLS", 5)
    maps, labels = [drawn(3, 1.5), drawn(2, 1.5)], [truth(3, True), truth(2, True)]
    assert joining.examples(maps, labels, SPECS, Separation(prominence=0.5)).same.tolist() == [True] * 2


def test_the_fit_is_the_regression_that_made_the_examples():
    rng = np.random.default_rng(0)
    features = rng.normal((1, 2, 1, 4, 0), (0.5, 1, 0.3, 0.6, 0.4), (20_000, 5))
    weights = np.array([-2.0, 0.5, 1.0, 0.7, -1.2])
    same = rng.random(20_000) < 1 / (1 + np.exp(1.5 - features @ weights))
    found = dataclasses.astuple(joining.fit(Examples(features, same)))
    assert found == pytest.approx((-1.5, *weights), abs=0.2)


def test_one_kind_of_contacts_teaches_nothing():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(500, 5))
    assert joining.fit(Examples(features, np.ones(500, bool))) is None
    assert joining.fit(Examples(features, np.arange(500) < 19)) is None


def test_a_feature_that_never_varies_does_no_harm():
    rng = np.random.default_rng(2)
    features = np.column_stack([rng.normal(size=(500, 4)), np.full(500, 3.0)])
    join = joining.fit(Examples(features, features[:, 0] < 0))
    assert join.depth < 0
    assert all(np.isfinite(dataclasses.astuple(join)))


def test_what_was_learnt_joins_shallow_halves_and_leaves_deep_ones():
    known = [(drawn(30, valley), truth(30, valley < 1)) for valley in (0.6, 0.8, 1.6, 2.0)]
    found = joining.examples([m for m, _ in known], [t for _, t in known], SPECS, Separation(prominence=0.4))
    separation = Separation(prominence=0.4, join=joining.fit(found))
    assert [label(m, t.shape, SPECS, separation).max() for m, t in known] == [30, 30, 60, 60]


def test_tuning_learns_the_join_and_drops_what_is_weak():
    known = [(drawn(30, valley), truth(30, valley < 1)) for valley in (0.6, 1.6)]
    for maps, _ in known:  # and a pale smudge, which is no cell
        maps["foreground"][18:22, 4:16] = 12
    best = separation.tune(known, known, SPECS)
    assert isinstance(best.join, Join)
    for maps, labels in known:
        assert np.array_equal(label(maps, labels.shape, SPECS, best), labels)


@pytest.mark.parametrize("usual", [None, Join(-1.0, 0.5, 0.0, 0.0, 0.0, 0.0)])
def test_where_too_few_contacts_are_known_the_usual_join_is_kept(usual):
    few = [(drawn(3, 0.6), truth(3, True))]
    assert separation.tune(few, few, SPECS, usual=usual).join == usual
