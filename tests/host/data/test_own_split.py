"""A data set without a val split gets one of its own, the same for one seed, and it is said."""

import dataclasses

import pytest

from cellseg_host.data.dataset import Dataset
from cellseg_host.data.own_split import completed


@pytest.fixture
def made(tiny_dataset, tmp_path):
    """Make a data set of images with these numbers of cells (None: no labels), all in one split."""
    (entry, *_) = tiny_dataset.entries

    def make(cells, split="train"):
        entries = [dataclasses.replace(entry, id=f"i{n:03}", cells=c, split=split) for n, c in enumerate(cells)]
        return Dataset(tiny_dataset.root, tuple(entries))

    return make


def splits(dataset):
    found = {name: [e.id for e in dataset.entries if e.split == name] for name in ("train", "val")}
    assert sorted(found["train"] + found["val"]) == sorted(e.id for e in dataset.entries)
    return found["train"], found["val"]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("number", "wanted"), [(2, 1), (3, 1), (7, 2), (40, 10), (100, 10), (300, 30)])
def test_a_quarter_validates_and_of_many_images_a_tenth(made, number, wanted, split):
    dataset, note = completed(made([5] * number, split), 0)
    train, val = splits(dataset)
    assert len(val) == wanted
    assert not set(train) & set(val)
    missing = {"train": "val", "val": "train"}[split]
    named = ", ".join(sorted(val)[:3]) + (" …" if wanted > 3 else "")
    assert note == f"validating on {wanted} of the {number} images, {named}: the data set has no {missing} split"


def test_the_seed_decides_alone(made):
    found = [splits(completed(made([5] * 12), seed)[0]) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    order = made([5] * 12)
    turned = dataclasses.replace(order, entries=order.entries[::-1])
    assert set(splits(completed(turned, 0)[0])[1]) == set(found[0][1])


def test_each_side_has_cells(made):
    for seed in range(6):
        dataset, _ = completed(made([4, 4] + [0] * 6), seed)
        assert {e.split for e in dataset.entries if e.cells} == {"train", "val"}


@pytest.mark.parametrize(
    ("cells", "what"), [([5], "the same image"), ([5, 0, 0], "the same 3 images"), ([0, 0], "the same 2 images")]
)
def test_one_image_with_cells_validates_itself_which_proves_nothing(made, cells, what):
    dataset, note = completed(made(cells), 0)
    assert [e.id for e in dataset.labelled("train")] == [e.id for e in dataset.labelled("val")]
    assert note.startswith(f"validating on {what} as training, since the data set has no val split and too few images")
    assert note.endswith("the scores prove nothing")


def test_a_data_set_with_both_splits_or_none_of_them_is_left_alone(made, tiny_dataset):
    for dataset in (tiny_dataset, made([5, 5], "test")):
        assert completed(dataset, 0) == (dataset, "")


def test_images_without_labels_count_for_classifiers_alone(made):
    dataset = made([5, 5, 5, 5, None, None, None, None])
    assert all(e.is_labelled for e in completed(dataset, 0)[0].split("val"))
    others = made([None] * 8)
    assert completed(others, 0) == (others, "")
    assert len(completed(others, 0, without_labels=True)[0].split("val")) == 2


def test_the_digest_is_that_of_the_files_however_they_are_divided(tiny_dataset):
    train = dataclasses.replace(tiny_dataset, entries=tiny_dataset.split("train"))
    assert completed(train, 0)[0].digest() == train.digest()
    one = dataclasses.replace(train, entries=train.entries[:1])
    assert completed(one, 0)[0].digest() == one.digest()
