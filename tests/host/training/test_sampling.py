"""How often the images of each set and modality are drawn."""

import dataclasses

import pytest

from cellseg_host.training.sampling import groups, sampling_weights


def test_rarer_modalities_come_up_more_often(tiny_dataset):
    entries = tiny_dataset.split("train")
    weights = sampling_weights(entries)
    assert weights.sum() == pytest.approx(1)
    of = {m: weights[[e.modality == m for e in entries]] for m in {e.modality for e in entries}}
    few, many = sorted(of.values(), key=len)
    assert len(few) < len(many)
    assert few[0] > many[0]
    assert few.sum() < many.sum()


def test_the_share_of_a_set_and_modality_is_as_the_root_of_its_images(tiny_dataset):
    (entry,) = tiny_dataset.split("train")[:1]
    sizes = {("a", "fluorescence"): 36, ("a", "histology"): 4, ("b", "histology"): 9}
    entries = [
        dataclasses.replace(entry, set=name, modality=modality)
        for (name, modality), count in sizes.items()
        for _ in range(count)
    ]
    weights = sampling_weights(entries)
    shares = {(e.set, e.modality): 0.0 for e in entries}
    for e, weight in zip(entries, weights, strict=True):
        shares[e.set, e.modality] += weight
    assert list(shares.values()) == pytest.approx([6 / 11, 2 / 11, 3 / 11])
    assert len({*weights.round(12)}) == 3
    said = {(g.set, g.modality): (g.images, g.share) for g in groups(entries)}
    assert said == {key: (sizes[key], pytest.approx(share)) for key, share in shares.items()}
