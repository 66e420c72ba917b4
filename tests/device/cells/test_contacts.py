"""Touching pieces: what is measured where they touch, and which become one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellseg_device.cells import contacts, instances, runs
from cellseg_device.cells.contacts import Contacts
from cellseg_device.cells.instances import Limits

TWO = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 1, 2, 0]], np.uint16)


def features(pieces, distance, foreground):
    """The definition, pair by pair and pixel by pixel."""
    found = {}
    for row, col in np.ndindex(pieces.shape):
        for r, c in ((row, col + 1), (row + 1, col)):
            if r < pieces.shape[0] and c < pieces.shape[1] and 0 < pieces[row, col] != pieces[r, c] > 0:
                pair = tuple(sorted((int(pieces[row, col]), int(pieces[r, c]))))
                both = ((row, col), (r, c))
                found.setdefault(pair, []).append([min(int(m[at]) for at in both) for m in (distance, foreground)])
    area = {n: int((pieces == n).sum()) for n in np.unique(pieces) if n}
    peak = {n: int(distance[pieces == n].max()) for n in area}
    large = [a for a in area.values() if a >= 6]
    median = np.median(large) if large else 1
    rows = {}
    for pair, values in sorted(found.items()):
        lows, sures = zip(*values, strict=True)
        a, b = (area[n] for n in pair)
        depth = min(peak[n] for n in pair) - max(lows)
        width = len(values) / np.sqrt(min(a, b))
        rows[pair] = [depth, np.mean(sures), width, np.log(median), np.log((a + b) / median)]
    return rows


@st.composite
def fields(draw):
    pieces = draw(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 5)))
    maps = [draw(arrays(np.int8, pieces.shape, elements=st.integers(-128, 127))) for _ in range(2)]
    return pieces, *maps


@settings(max_examples=200, deadline=None)
@given(fields())
def test_contacts_are_measured_as_defined(field):
    found = contacts.find(field[0], runs.find(field[0]), *field[1:])
    expected = features(*field)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == list(expected)
    assert found.features.shape == (len(expected), 5)
    np.testing.assert_allclose(found.features, np.array([*expected.values()]).reshape(-1, 5), rtol=1e-12)


def test_numbers_as_large_as_they_get_are_kept_apart():
    pieces = np.array([[65_535, 65_534, 1, 65_535]], np.uint16)
    found = contacts.find(pieces, runs.find(pieces), *np.zeros((2, 1, 4), np.int8))
    assert found.first.tolist() == [1, 1, 65_534]
    assert found.second.tolist() == [65_534, 65_535, 65_535]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.data())
def test_all_that_hangs_together_gets_the_smallest_number(count, data):
    pairs = data.draw(st.lists(st.tuples(st.integers(1, count), st.integers(1, count), st.booleans()), max_size=40))
    first, second = (np.array([p[i] for p in pairs], np.int64) for i in (0, 1))
    same = np.array([p[2] for p in pairs], bool)
    group = list(range(count + 1))
    for a, b, together in pairs:
        if together:
            low, high = sorted((group[a], group[b]))
            group = [low if g == high else g for g in group]
    assert contacts.joined(count, Contacts(first, second, np.zeros((len(pairs), 5))), same).tolist() == group


@pytest.mark.parametrize(("bias", "cells"), [(1.0, 1), (-1.0, 2)])
def test_the_join_decides_whether_a_cut_stays(bias, cells):
    foreground = np.where(TWO > 0, 50, -50).astype(np.int8)
    distance = np.array([[9, 9, 9, 9], [90, 20, 20, 90], [9, 9, 9, 9]], np.int8)
    labels = instances.separate(foreground, distance, TWO.shape, Limits(0, 30, join=(bias, 0, 0, 0, 0, 0)))
    assert labels.max() == cells
    assert np.array_equal(labels > 0, TWO > 0)


@pytest.mark.parametrize(("weights", "cells"), [((69, -1, 0, 0, 0, 0), 2), ((71, -1, 0, 0, 0, 0), 1)])
def test_the_valley_is_weighed_by_its_depth(weights, cells):
    foreground = np.where(TWO > 0, 50, -50).astype(np.int8)
    distance = np.array([[9, 9, 9, 9], [100, 20, 20, 90], [9, 9, 9, 9]], np.int8)
    assert instances.separate(foreground, distance, TWO.shape, Limits(0, 30, join=weights)).max() == cells


@pytest.mark.parametrize("with_distance", [True, False])
@pytest.mark.parametrize(("confidence", "left"), [(-128, 2), (0, 2), (30, 2), (31, 1), (60, 1), (61, 0)])
def test_cells_of_a_weak_foreground_are_dropped(confidence, left, with_distance):
    foreground = np.full((6, 12), -100, np.int8)
    foreground[1:5, 1:5] = 60
    foreground[1:5, 7:9], foreground[1:5, 9:11] = 20, 40
    distance = foreground if with_distance else None
    labels = instances.separate(foreground, distance, foreground.shape, Limits(0, 255, confidence))
    assert labels.max() == left
    assert np.array_equal(labels[:, :6] > 0, foreground[:, :6] > 0) == (left > 0)
