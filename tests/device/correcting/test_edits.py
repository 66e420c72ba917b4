"""Edits of labels: each equals what plain NumPy and flood filling make of it, and is undone and made again exactly."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import points_in_poly

from cellseg_device.correcting import edits
from cellseg_device.errors import InputError

SHAPES = [(1, 1), (1, 37), (41, 1), (2, 2), (48, 64)]


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def some_labels(rng, shape, count=9):
    """Overlapping discs, numbered with gaps; some are in several pieces."""
    labels = np.zeros(shape, np.uint16)
    rows, cols = np.indices(shape)
    for number in rng.permutation(np.arange(1, 3 * count))[:count]:
        row, col, radius = rng.integers(shape[0]), rng.integers(shape[1]), rng.integers(2, 12)
        labels[(rows - row) ** 2 + (cols - col) ** 2 <= radius**2] = number
    return labels


def some_point(rng, shape):
    return float(rng.uniform(-0.5, shape[0] - 0.51)), float(rng.uniform(-0.5, shape[1] - 0.51))


def flooded(mask, connectivity=8):
    """Pieces of a mask, from 1 by their first pixel: by looking at one pixel after the other."""
    found = np.zeros(mask.shape, int)
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1), *([(-1, -1), (-1, 1), (1, -1), (1, 1)] if connectivity == 8 else [])]
    number = 0
    for start in zip(*np.nonzero(mask), strict=True):
        if found[start]:
            continue
        number += 1
        ahead = [start]
        found[start] = number
        while ahead:
            row, col = ahead.pop()
            for down, right in steps:
                near = row + down, col + right
                inside = 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]
                if inside and mask[near] and not found[near]:
                    found[near] = number
                    ahead.append(near)
    return found


def checked(labels, edit, expected):
    """Make an edit, compare it, undo it and make it again."""
    before = labels.copy()
    made = edit(labels)
    assert np.array_equal(labels, expected)
    if made is None:
        assert np.array_equal(before, expected)
        return
    rows, cols = np.nonzero(before != labels)
    assert made.box == (rows.min(), cols.min(), np.ptp(rows) + 1, np.ptp(cols) + 1)
    made.apply(labels)
    assert np.array_equal(labels, before)
    made.apply(labels)
    assert np.array_equal(labels, expected)


def unchanged(labels, edit, words):
    before = labels.copy()
    with pytest.raises(InputError, match=words):
        edit(labels)
    assert np.array_equal(labels, before)


def separated(labels, cells):
    """Labels in which each of these cells that is in pieces is several cells."""
    labels, following = labels.copy(), max(int(labels.max()), 0) + 1
    for cell in sorted(cells):
        pieces = flooded(labels == cell)
        sizes = np.bincount(pieces.ravel())[1:]
        for number, size in enumerate(sizes, 1):
            if number == np.argmax(sizes) + 1:
                continue
            labels[pieces == number] = 0 if size < edits.CRUMB_PX else following
            following += size >= edits.CRUMB_PX
    return labels


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cell_is_removed_and_two_are_joined(rng, shape):
    for _ in range(60):
        labels = some_labels(rng, shape)
        first, second = some_point(rng, shape), some_point(rng, shape)
        one, two = (int(labels[round(row), round(col)]) for row, col in (first, second))
        if one:
            expected = np.where(labels == one, 0, labels)
            checked(labels.copy(), lambda raster, at=first: edits.remove(raster, at), expected)
        else:
            unchanged(labels, lambda raster, at=first: edits.remove(raster, at), "there is no cell")
        join = lambda raster, a=first, b=second: edits.join(raster, a, b)  # noqa: E731
        if one and two and one != two:
            checked(labels.copy(), join, np.where(labels == two, one, labels))
            spread = np.zeros(np.add(labels.shape, 2), bool)
            for down in range(3):
                for right in range(3):
                    spread[down : down + shape[0], right : right + shape[1]] |= labels == one
            assert edits.do_touch(labels, one, two) == bool((spread[1:-1, 1:-1] & (labels == two)).any())
        else:
            unchanged(labels, join, "there is no cell|in one cell")


def under(shape, points, radius):
    """Pixels at most so far from a way."""
    near = np.zeros(shape, bool)
    for row in range(shape[0]):
        for col in range(shape[1]):
            here = np.array([row, col], float)
            ends = points[1:] or points
            for begin, end in zip(map(np.array, points), map(np.array, ends), strict=False):
                length = float(np.sum((end - begin) ** 2))
                part = min(max(float(np.dot(here - begin, end - begin)) / length, 0), 1) if length else 0
                near[row, col] |= np.sum((here - begin - part * (end - begin)) ** 2) <= radius**2
    return near


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("has_field", [False, True])
def test_brush_and_eraser_change_what_is_under_them_and_what_they_cut_becomes_cells(rng, shape, has_field):
    for _ in range(12):
        labels = some_labels(rng, shape)
        points = [some_point(rng, shape) for _ in range(rng.integers(1, 4))]
        radius = float(rng.uniform(0.8, 4))
        near = under(shape, points, radius)
        field = np.where(np.indices(shape)[1] < shape[1] * 0.7, 255, 0).astype(np.uint8) if has_field else None
        present = [int(n) for n in np.unique(labels) if n]
        whole = {n for n in present if flooded(labels == n).max() == 1}
        cell = int(rng.choice([0, *present]))
        number = cell or max([0, *present]) + 1
        painted = near & (field > 0) if has_field else near
        touched = {int(n) for n in np.unique(labels[painted & (labels != number)])} | {number}
        expected = np.where(painted, number, labels).astype(np.uint16)
        if np.array_equal(expected, labels):
            touched = set()
        # Numbers of new cells follow the brush's own
        top = max(int(labels.max()), number)
        plain = expected.copy()
        expected = separated(np.where(plain == 0, 0, plain), touched & (whole | {number} - set(present)))
        if expected.max() > plain.max() and plain.max() < top:
            expected = np.where(expected > plain.max(), expected + top - plain.max(), expected)
        if has_field and near.any() and not painted.any():
            unchanged(
                labels.copy(),
                lambda raster, p=points, r=radius, c=cell, f=field: edits.brush(raster, p, r, c, field=f),
                "outside of the region in which cells are counted",
            )
            continue
        brush = lambda raster, p=points, r=radius, c=cell, f=field: edits.brush(raster, p, r, c, field=f)  # noqa: E731
        checked(labels.copy(), brush, expected)
        # The eraser, on all and on one
        for only in {0, cell}:
            gone = near & (labels > 0) & ((labels == only) if only else True)
            plain = np.where(gone, 0, labels).astype(np.uint16)
            touched = {int(n) for n in np.unique(labels[gone])}
            expected = separated(plain, touched & whole)
            if expected.max() > plain.max() and plain.max() < labels.max():
                expected = np.where(expected > plain.max(), expected + labels.max() - plain.max(), expected)
            erase = lambda raster, p=points, r=radius, o=only: edits.erase(raster, p, r, o)  # noqa: E731
            checked(labels.copy(), erase, expected.astype(np.uint16))


def test_the_largest_piece_keeps_the_number_and_crumbs_go():
    labels = np.zeros((20, 60), np.uint16)
    labels[5:15, 2:50] = 4
    made = edits.erase(labels, [(2.0, 20.0), (18.0, 20.0)], 1.0)
    assert made is not None
    assert (np.unique(labels[:, :19]).tolist(), np.unique(labels[:, 22:]).tolist()) == ([0, 5], [0, 4])
    edits.erase(labels, [(2.0, 4.0), (18.0, 4.0)], 1.0)  # leaves 10 pixels at the left
    assert np.unique(labels[:, :4]).tolist() == [0]


def test_a_cell_of_several_pieces_stays_one():
    labels = np.zeros((20, 60), np.uint16)
    labels[5:15, 2:12] = labels[5:15, 30:50] = 4
    edits.erase(labels, [(2.0, 40.0), (18.0, 40.0)], 1.0)
    assert np.unique(labels).tolist() == [0, 4]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_takes_what_is_free_within(rng, shape):
    added = 0
    for _ in range(60):
        labels = some_labels(rng, shape, count=4)
        corners = [(rng.uniform(-3, shape[0] + 3), rng.uniform(-3, shape[1] + 3)) for _ in range(rng.integers(3, 8))]
        field = (rng.random(shape) < 0.95).astype(np.uint8) * 255
        pixels = np.stack(np.indices(shape), -1).reshape(-1, 2)
        free = points_in_poly(pixels, corners).reshape(shape) & (labels == 0) & (field > 0)
        outline = lambda raster, c=corners, f=field: edits.outline(raster, c, field=f)  # noqa: E731
        if not free.any():
            unchanged(labels, outline, "no room for a cell")
            continue
        added += 1
        pieces = flooded(free)
        largest = int(np.argmax(np.bincount(pieces.ravel())[1:])) + 1
        checked(labels.copy(), outline, np.where(pieces == largest, labels.max() + 1, labels).astype(np.uint16))
    assert added > 10 or max(shape) < 3
    unchanged(labels, lambda raster: edits.outline(raster, [(0, 0), (1, 1)]), "three points")


def test_a_cut_goes_along_the_line_and_keeps_the_area():
    labels = np.zeros((40, 60), np.uint16)
    labels[10:30, 10:50] = 7
    labels[10:30, 50:55] = 9
    line = [(5.0, 22.0), (35.0, 22.0)]
    expected = labels.copy()
    expected[10:30, 10:22] = 10  # the line's pixels go to the piece with the larger number, on its right
    checked(labels, lambda raster: edits.cut(raster, line), expected)


def test_a_cut_by_any_straight_line_parts_its_sides(rng):
    rows, cols = np.indices((60, 60))
    cuts = 0
    for _ in range(150):
        labels = np.where((rows - 30) ** 2 + (cols - 28) ** 2 <= 20**2, 3, 0).astype(np.uint16)
        labels[:, 50:] = 5
        before = labels.copy()
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-12, 12)
        along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
        middle = np.array([30, 28]) + offset * across
        line = [tuple(np.clip(middle - 25 * along, 0, 59)), tuple(np.clip(middle + 25 * along, 0, 59))]
        begin, end = (np.rint(point) for point in line)
        made = edits.cut(labels, line)
        assert made is not None
        cuts += 1
        cell = before == 3
        assert np.array_equal(labels > 0, before > 0)
        assert np.array_equal(labels == 5, before == 5)
        assert set(np.unique(labels[cell])) == {3, 6}
        assert np.count_nonzero(labels == 3) >= np.count_nonzero(labels == 6) >= edits.CRUMB_PX
        assert flooded(labels == 3).max() == flooded(labels == 6).max() == 1
        side = (end - begin)[0] * (cols - begin[1]) - (end - begin)[1] * (rows - begin[0])
        far = np.abs(side) / np.hypot(*(end - begin)) > 2
        for is_side in (side > 0, side < 0):
            assert len(np.unique(labels[cell & far & is_side])) == 1
        made.apply(labels)
        assert np.array_equal(labels, before)
    assert cuts == 150


def test_a_line_that_cuts_nothing_is_refused():
    labels = np.zeros((40, 60), np.uint16)
    labels[10:30, 10:50] = 7
    words = "the line cuts no cell in two: draw it from one side of a cell to the other"
    for line in ([(5, 20), (20, 20)], [(2, 2), (2, 50)], [(9, 5), (9, 55)], [(11, 5), (10, 55)]):
        unchanged(labels, lambda raster, drawn=line: edits.cut(raster, drawn), words)
    unchanged(labels, lambda raster: edits.cut(raster, [(5, 5)]), "has no length")
    unchanged(labels, lambda raster: edits.cut(raster, [(-90, -90), (-80, -90)]), "outside of the image")


def test_two_points_divide_a_cell_at_the_valley_between_them(rng):
    rows, cols = np.indices((40, 70))
    for valley in (20, 31, 44):
        labels = np.where((rows - 20) ** 2 / 15**2 + (cols - 33) ** 2 / 28**2 <= 1, 8, 0).astype(np.uint16)
        landscape = np.minimum(3 * np.abs(cols - valley), 100).astype(np.int8)
        before = labels.copy()
        made = edits.divide(labels, (20.0, 10.0), (18.0, 55.0), landscape)
        assert made is not None
        cell = before == 8
        left = np.unique(labels[cell & (cols < valley - 1)])
        right = np.unique(labels[cell & (cols > valley + 1)])
        assert {int(*left), int(*right)} == {8, 9}
        assert labels[20, 10] == left[0]
        assert labels[18, 55] == right[0]
        assert np.array_equal(labels > 0, before > 0)
        made.apply(labels)
        assert np.array_equal(labels, before)
    labels[0, 0] = 3
    for first, second, words in (
        ((20.0, 10.0), (0.0, 0.0), "in two cells"),
        ((20.0, 10.0), (20.2, 10.3), "in one pixel"),
        ((20.0, 10.0), (1.0, 50.0), "there is no cell"),
    ):
        unchanged(labels, lambda raster, a=first, b=second: edits.divide(raster, a, b, landscape), words)


def add(point, foreground, landscape=None, field=None, most_px=400):
    return lambda raster: edits.add(
        raster, point, foreground, landscape, threshold=0, prominence=10, most_px=most_px, field=field
    )


def test_a_click_adds_what_the_map_shows_there(rng):
    added = 0
    for _ in range(60):
        labels = some_labels(rng, (48, 64), count=4)
        foreground = np.full(labels.shape, -120, np.int8)
        rows, cols = np.indices(labels.shape)
        peak = int(rng.integers(-90, 120))
        centre = rng.integers(10, 38), rng.integers(10, 54)
        distance = np.hypot(rows - centre[0], cols - centre[1])
        foreground = np.maximum(foreground, np.where(distance < 9, peak, -128)).astype(np.int8)
        foreground[(distance < 2.5) & (distance > 1)] = -128  # a ring-shaped hole
        field = np.where(cols < 40, 255, 0).astype(np.uint8)
        point = float(centre[0]), float(centre[1] + 4)
        here = round(point[0]), round(point[1])
        edit = add(point, foreground, field=field)
        if labels[here] or not field[here]:
            unchanged(labels, edit, "there is a cell already|outside of the region")
            continue
        level = 0 if peak >= 0 else (peak - 128) // 2
        free = (foreground >= level) & (labels == 0) & (field > 0)
        pieces = flooded(free)
        outside = flooded(pieces != pieces[here], connectivity=4)
        at_rim = set(outside[0]) | set(outside[-1]) | set(outside[:, 0]) | set(outside[:, -1])
        filled = ~np.isin(outside, sorted(at_rim - {0})) & (labels == 0) & (field > 0)
        parts = flooded(filled)
        largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
        expected = np.where(parts == largest, labels.max() + 1, labels).astype(np.uint16)
        checked(labels.copy(), edit, expected)
        added += 1
    assert added > 20


def test_a_click_adds_one_of_two_that_touch():
    rows, cols = np.indices((40, 60))
    foreground = np.where((np.hypot(rows - 20, cols - 20) < 10) | (np.hypot(rows - 20, cols - 36) < 10), 90, -120)
    landscape = np.maximum(100 - 8 * np.hypot(rows - 20, cols - 20), 100 - 8 * np.hypot(rows - 20, cols - 36))
    labels = np.zeros((40, 60), np.uint16)
    made = edits.outline(labels, [(1, 1), (1, 5), (5, 5), (5, 1)])
    assert made is not None
    edit = add((20.0, 20.0), foreground.astype(np.int8), np.maximum(landscape, -128).astype(np.int8))
    assert edit(labels) is not None
    assert (labels[20, 20], labels[20, 36], labels[20, 26]) == (2, 0, 2)
    assert 250 < np.count_nonzero(labels == 2) < 330


def test_where_the_map_shows_nothing_or_too_much_it_is_said():
    labels = np.zeros((40, 60), np.uint16)
    nothing, everything = np.full(labels.shape, -128, np.int8), np.full(labels.shape, 100, np.int8)
    unchanged(labels, add((3.0, 3.0), nothing), "nothing is recognised there: draw the cell's outline")
    unchanged(labels, add((3.0, 3.0), everything), "too large for one cell: draw the cell's outline")
    unchanged(labels, add((3.0, 90.0), everything), "outside of the image")


def test_new_cells_get_the_next_free_number_up_to_the_largest():
    labels = np.zeros((300, 300), np.uint16)
    assert edits.free_number(labels) == 1
    labels[0, 0] = 65_534
    assert edits.free_number(labels) == 65_535
    labels[0, 1] = 65_535
    labels[0, 2:5] = 1, 2, 4
    assert edits.free_number(labels) == 3
    full = np.arange(90_000, dtype=np.int64).reshape(300, 300).clip(0, 65_535).astype(np.uint16)
    unchanged(full, lambda raster: edits.outline(raster, [(1, 1), (1, 9), (9, 9)]), "no room|no more can be")
    full[100:, 100:] = 0
    full[0, :10] = 0
    made = edits.outline(full, [(150.2, 150.2), (150.2, 160.2), (160.2, 160.2)])
    assert (made is not None, full[152, 158]) == (True, 1)


def test_all_labels_are_replaced_at_once(rng):
    labels, others = some_labels(rng, (48, 64)), some_labels(rng, (48, 64))
    checked(labels, lambda raster: edits.replace(raster, others), others)
    assert edits.replace(labels, others) is None
    unchanged(labels, lambda raster: edits.replace(raster, others[:-1]), "another size than the image")


@pytest.mark.parametrize("what", ["brush", "outline"])
def test_a_way_that_would_take_minutes_is_refused(what):
    labels = np.zeros((3000, 4000), np.uint16)
    way = [(0.0, 0.0), (2999.0, 3999.0)] * 2500
    with pytest.raises(InputError, match="is too long: draw it"):
        edits.brush(labels, way, 1.0, 0) if what == "brush" else edits.outline(labels, way)
    assert not labels.any()
