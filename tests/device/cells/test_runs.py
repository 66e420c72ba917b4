"""Runs of equal labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellseg_device.cells import runs

label_images = arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))


@given(label_images)
def test_runs_spell_the_image_out(labels):
    found = runs.find(labels)
    assert np.array_equal(np.repeat(found.label, found.length).reshape(labels.shape), labels)
    assert np.array_equal(found.start, np.cumsum(found.length) - found.length)
    assert (found.length > 0).all()


@given(label_images)
def test_no_run_crosses_the_end_of_a_row_and_none_could_be_longer(labels):
    found = runs.find(labels)
    width = labels.shape[1]
    first, last = found.start, found.start + found.length - 1
    assert np.array_equal(first // width, last // width)
    same_row = first[1:] // width == first[:-1] // width
    assert (found.label[1:][same_row] != found.label[:-1][same_row]).all()


@given(label_images)
def test_runs_of_cells_leave_the_background_out(labels):
    found = runs.find(labels).cells()
    assert (found.label > 0).all()
    assert found.length.sum() == np.count_nonzero(labels)


def test_a_known_image():
    found = runs.find(np.array([[0, 7, 7], [7, 0, 65535]], np.uint16))
    assert found.start.tolist() == [0, 1, 3, 4, 5]
    assert found.length.tolist() == [1, 2, 1, 1, 1]
    assert found.label.tolist() == [0, 7, 7, 0, 65535]


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_thin_images(shape):
    found = runs.find(np.full(shape, 3, np.uint16))
    assert found.length.tolist() == [shape[1]] * shape[0]
