"""How often the images of each set and modality are drawn."""

import dataclasses

import pytest

from cellseg_device.errors import InputError
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


def entries_of(tiny_dataset, sizes):
    (entry,) = tiny_dataset.split("train")[:1]
    return [
        dataclasses.replace(entry, set=name, modality=modality)
        for (name, modality), count in sizes.items()
        for _ in range(count)
    ]


def test_a_set_has_the_share_that_is_given_and_the_others_share_the_rest(tiny_dataset):
    sizes = {("mine", "a"): 4, ("mine", "b"): 16, ("other", "a"): 9, ("third", "a"): 36}
    entries = entries_of(tiny_dataset, sizes)
    shares = {(g.set, g.modality): g.share for g in groups(entries, {"mine": 0.7})}
    assert shares == {
        ("mine", "a"): pytest.approx(0.7 * 2 / 6),
        ("mine", "b"): pytest.approx(0.7 * 4 / 6),
        ("other", "a"): pytest.approx(0.3 * 3 / 9),
        ("third", "a"): pytest.approx(0.3 * 6 / 9),
    }
    assert sampling_weights(entries, {"mine": 0.7}).sum() == pytest.approx(1)


@pytest.mark.parametrize("shares", [{"mine": 0.7}, {"mine": 1.0}])
def test_without_another_set_one_has_all_draws(tiny_dataset, shares):
    entries = entries_of(tiny_dataset, {("mine", "a"): 4})
    assert sampling_weights(entries, shares) == pytest.approx([0.25] * 4)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"mind": 0.5}, "there is no set 'mind'"),
        ({"mine": 0.0}, "mine=0: is not a share above 0"),
        ({"mine": 1.0}, "nothing is left for the other sets: let the shares add up to less than 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(tiny_dataset, shares, message):
    entries = entries_of(tiny_dataset, {("mine", "a"): 4, ("other", "a"): 4})
    with pytest.raises(InputError, match=message):
        groups(entries, shares)
