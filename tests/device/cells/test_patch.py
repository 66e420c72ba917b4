"""Patches of label images: exact both ways, whatever comes as JSON."""

import base64
import zlib

import numpy as np
import pytest

from cellseg_device.cells import patch


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (33, 47)])
def test_a_patch_makes_one_of_the_other_and_back(shape):
    rng = np.random.default_rng(3)
    for _ in range(50):
        before = rng.integers(0, 65_536, shape).astype(np.uint16)
        after = before.copy()
        after[rng.random(shape) < 0.1] = rng.integers(0, 65_536)
        made = patch.difference(before, after)
        if np.array_equal(before, after):
            assert made is None
            continue
        rows, cols = np.nonzero(before != after)
        tight = (rows.min(), cols.min(), rows.max() - rows.min() + 1, cols.max() - cols.min() + 1)
        assert made.box == tight
        again, labels = patch.parse(made.as_json()), before.copy()
        again.apply(labels)
        assert np.array_equal(labels, after)
        again.apply(labels)
        assert np.array_equal(labels, before)


def test_what_a_function_changes_in_a_part_is_its_patch():
    labels = np.zeros((9, 9), np.uint16)

    def change(part):
        part[1, 2] = 7

    made = patch.made(labels, np.s_[2:8, 3:8], change)
    assert (made.box, labels[3, 5]) == ((3, 5, 1, 1), 7)
    assert patch.made(labels, np.s_[2:8, 3:8], change) is None


def zipped(count):
    return base64.b64encode(zlib.compress(bytes(count))).decode()


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"box": [0, 0, 1, 1]},
        {"box": [0, 0, 1], "change": zipped(2)},
        {"box": [-1, 0, 1, 1], "change": zipped(2)},
        {"box": [0, 0, 0, 1], "change": zipped(0)},
        {"box": [0, 0, 1 << 20, 1 << 20], "change": zipped(2)},
        {"box": [0, 0, 2, 1], "change": zipped(2)},
        {"box": [0, 0, 1, 1], "change": zipped(1 << 20)},
        {"box": [0, 0, 1, 1], "change": "no base64"},
        {"box": [0, 0, 1, 1], "change": base64.b64encode(b"not deflated").decode()},
        {"box": "abcd", "change": zipped(2)},
        {"box": [0, 0, 1, 1], "change": 5},
    ],
)
def test_what_is_no_patch_is_refused(values):
    with pytest.raises(patch.PatchError, match="is not a change of labels"):
        patch.parse(values)


def test_a_patch_beyond_the_image_is_refused():
    labels = np.zeros((4, 4), np.uint16)
    with pytest.raises(patch.PatchError, match="beyond the image"):
        patch.parse({"box": [3, 3, 1, 2], "change": zipped(4)}).apply(labels)
    assert not labels.any()
