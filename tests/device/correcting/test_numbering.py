"""New labels keep the numbers of the cells that are still there."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cellseg_device.correcting.numbering import renumbered
from cellseg_device.results.formats.label_images import consecutive

SHAPE = (7, 8)
CELLS = arrays(np.uint16, SHAPE, elements=st.sampled_from([0, 0, 1, 2, 3, 9]))


def matches(labels, former):
    """New number to former one, by the definition."""
    found = {}
    for new in set(np.unique(labels)) - {0}:
        for old in set(np.unique(former)) - {0}:
            both, either = ((labels == new) & (former == old)).sum(), ((labels == new) | (former == old)).sum()
            if 2 * both > either:
                found[new] = old
    return found


@given(CELLS, CELLS)
@settings(max_examples=300, deadline=None)
def test_a_cell_keeps_its_number_if_most_of_it_is_the_same(drawn, former):
    labels = consecutive(drawn)
    made = renumbered(labels, former)
    pairs = matches(labels, former)
    assert np.array_equal(consecutive(made.labels) > 0, labels > 0)
    numbers = {new: set(np.unique(made.labels[labels == new])) for new in set(np.unique(labels)) - {0}}
    assert all(len(found) == 1 for found in numbers.values())
    given_numbers = [found.pop() for found in numbers.values()]
    assert len(set(given_numbers)) == len(given_numbers)
    by_new = dict(zip(numbers, given_numbers, strict=True))
    assert {new: by_new[new] for new in pairs} == pairs
    others = [number for new, number in by_new.items() if new not in pairs]
    assert all(number > former.max() for number in others)
    assert sorted(made.added) == sorted(others)
    assert made.removed == len(set(np.unique(former)) - {0}) - len(pairs)
    assert set(made.changed) == {old for new, old in pairs.items() if not np.array_equal(labels == new, former == old)}


def test_what_is_the_same_stays_the_same():
    former = np.array([[0, 3, 3], [7, 7, 0]], np.uint16)
    made = renumbered(consecutive(former), former)
    assert np.array_equal(made.labels, former)
    assert (made.added, made.removed, made.changed) == ((), 0, ())


def test_numbers_that_are_free_are_used_where_there_are_no_larger_ones():
    former = np.array([[65535, 65535, 0, 0]], np.uint16)
    made = renumbered(np.array([[1, 1, 2, 3]], np.uint16), former)
    assert made.labels.tolist() == [[65535, 65535, 1, 2]]
