"""Images are held out so that none that judges was learnt from, and crops of one image stay together."""

import pytest

from cellseg_host.adapt.folds import MANY, plan


def held(found):
    return [place for fold in found.folds for place in fold.held]


@pytest.mark.parametrize("number", range(2, MANY))
def test_few_images_are_each_held_out_once(number):
    found = plan([""] * number, [5] * number, 0)
    assert len(found.folds) == min(number, 3)
    assert sorted(held(found)) == list(range(number))
    assert found.final.train == tuple(range(number))
    assert found.models == len(found.folds) + 1
    sizes = [len(fold.held) for fold in found.folds]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("number", [20, 21, 40, 1000])
def test_of_many_images_a_quarter_is_held_out_and_the_judged_model_is_kept(number):
    found = plan([""] * number, [5] * number, 0)
    (fold,) = found.folds
    assert len(fold.held) == -(-number // 4)
    assert found.final is None
    assert found.models == 1


@pytest.mark.parametrize("number", [3, 7, 19, 20, 60])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_none_is_learnt_from_and_held_out_at_once(number, seed):
    for fold in plan([f"field {n % 4}" for n in range(number)], [1] * number, seed).folds:
        assert sorted([*fold.train, *fold.held]) == list(range(number))
        assert fold.train
        assert fold.held


@pytest.mark.parametrize("number", [8, 30])
def test_crops_of_one_image_stay_together(number):
    sources = [f"field {n % 4}" for n in range(number)]
    found = plan(sources, [3] * number, 0)
    assert not found.is_one_source
    for fold in found.folds:
        assert not {sources[n] for n in fold.train} & {sources[n] for n in fold.held}


@pytest.mark.parametrize("number", [6, 30])
def test_crops_of_a_single_image_are_divided_all_the_same_and_it_is_said(number):
    found = plan(["field"] * number, [3] * number, 0)
    assert found.is_one_source
    assert found.folds


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("number", [4, 12, 24])
def test_every_model_learns_from_some_cells_and_is_judged_by_some(number, seed):
    cells = [7, 9] + [0] * (number - 2)
    for fold in plan([""] * number, cells, seed).folds:
        assert any(cells[place] for place in fold.train)
        assert any(cells[place] for place in fold.held)


@pytest.mark.parametrize("cells", [[9], [9, 0, 0], [0, 0]])
def test_without_two_images_with_cells_nothing_can_be_held_out(cells):
    found = plan([""] * len(cells), cells, 0)
    assert found.folds == ()
    assert found.final.train == tuple(range(len(cells)))


def test_a_source_of_most_images_is_not_held_out():
    sources = ["large"] * 18 + ["small"] * 6
    (fold,) = plan(sources, [1] * 24, 0).folds
    assert {sources[place] for place in fold.held} == {"small"}


def test_the_seed_decides():
    plans = [plan([""] * 12, [1] * 12, seed) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
