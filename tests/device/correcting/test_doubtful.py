"""Which parts of images are suggested for correction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_device.correcting import doubtful
from cellseg_device.correcting.doubtful import doubts, most_doubtful, suggested
from cellseg_device.results.ledger import Ledger


def test_unusual_sizes_and_shapes_are_doubtful():
    diameter = np.array([10.0, 10, 10, 10, 20, 5, 10, 10])
    circularity = np.array([0.9, 0.9, 0.9, 0.85, 0.9, 0.9, 0.4, np.nan])
    assert doubts(diameter, circularity) == pytest.approx([0, 0, 0, 0, 1, 1, 0.5, 0])
    assert len(doubts(np.zeros(0), np.zeros(0))) == 0


POINT = st.tuples(st.floats(0, 599), st.floats(0, 899), st.floats(0, 1))


@given(st.lists(POINT, max_size=12), st.integers(40, 600), st.integers(40, 900))
@settings(max_examples=150, deadline=None)
def test_the_part_has_as_much_doubt_as_any_that_is_tried(points, height, width):
    inside = [(row, col, doubt) for row, col, doubt in points if row < height and col < width]
    row, col, doubt = (np.array(values) for values in zip(*inside, strict=True)) if inside else (np.zeros(0),) * 3
    (top, left, rows, cols), most = most_doubtful(row, col, doubt, (height, width))
    assert (rows, cols) == (min(256, height), min(256, width))
    assert 0 <= top <= height - rows
    assert 0 <= left <= width - cols

    def within(top, left):
        return sum(d for r, c, d in inside if top <= r < top + rows and left <= c < left + cols)

    assert most == pytest.approx(within(top, left))
    tops = {min(start, height - rows) for start in range(0, height, 128)}
    lefts = {min(start, width - cols) for start in range(0, width, 128)}
    assert most == pytest.approx(max(within(t, left) for t in tops for left in lefts))


def test_a_third_is_drawn_by_chance_and_none_comes_twice(device, samples, tmp_path, write_image):
    for number in range(7):
        write_image(tmp_path / f"{number}.png", seed=number)
    assert device("watch", tmp_path, "--once").returncode == 0
    out = tmp_path / "cellseg-results"
    ledger = Ledger(out / "cellseg.sqlite", is_for_reading=True)
    entries = list(ledger.entries("done"))
    ledger.close()
    parts = suggested(out, entries, 6)
    assert [part.is_random for part in parts] == [False, False, True, False, False, True]
    assert len({part.image for part in parts}) == 6
    chosen = [part.doubt for part in parts if not part.is_random]
    assert chosen == sorted(chosen, reverse=True)
    assert suggested(out, entries, 6) == parts
    assert all(part.crop[2:] == (96, 128) for part in parts)
    (out / "3.cells.csv").write_text("label\nx\n")
    (out / "4.cells.csv").unlink()
    assert {part.image for part in suggested(out, entries, 9)} == {f"{n}.png" for n in (0, 1, 2, 5, 6)}
    assert suggested(out, [], 6) == []
    assert doubtful.chance("a.png") != doubtful.chance("b.png")
