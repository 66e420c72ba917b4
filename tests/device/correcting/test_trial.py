"""A model tried on an image: where it differs, and how that is shown."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_device.correcting.trial import AFTER_COLOUR, BEFORE_COLOUR, BOTH_COLOUR, both_outlines, most_different
from cellseg_device.image.pixels import Image


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_part_has_as_many_differing_pixels_as_any_that_is_tried(height, width, seed):
    rng = np.random.default_rng(seed)
    before, after = (np.zeros((height, width), np.uint16) for _ in range(2))
    row, col = rng.integers(height), rng.integers(width)
    after[row : row + 20, col : col + 20] = 1
    top, left, rows, cols = most_different(before, after)
    assert (rows, cols) == (min(height, 256), min(width, 256))
    differs = (before > 0) != (after > 0)
    found = np.count_nonzero(differs[top : top + rows, left : left + cols])
    tops = {min(start, height - rows) for start in range(0, height, rows // 2 or 1)}
    lefts = {min(start, width - cols) for start in range(0, width, cols // 2 or 1)}
    assert found == max(np.count_nonzero(differs[t : t + rows, c : c + cols]) for t in tops for c in lefts)


def test_each_outline_has_its_colour_and_what_both_have_a_third():
    before, after = (np.zeros((30, 40), np.uint16) for _ in range(2))
    before[2:10, 2:10] = after[2:10, 2:10] = 1
    before[15:25, 2:12] = 2
    after[15:25, 20:30] = 5
    drawn = both_outlines(Image(np.zeros((30, 40), np.uint8)), before, after, (0, 0, 30, 40))
    assert tuple(drawn[2, 5]) == BOTH_COLOUR
    assert tuple(drawn[15, 5]) == BEFORE_COLOUR
    assert tuple(drawn[15, 25]) == AFTER_COLOUR
    assert tuple(drawn[5, 5]) == tuple(drawn[0, 0])
    part = both_outlines(Image(np.zeros((30, 40), np.uint8)), before, after, (10, 15, 20, 20))
    assert part.shape == (20, 20, 3)
    assert tuple(part[5, 10]) == AFTER_COLOUR
