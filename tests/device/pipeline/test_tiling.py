"""Plans of tiles: the kept parts cover the image once, and none lies nearer to a cut than the margin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg_device.pipeline.tiling import plan_fixed, plan_free

STRIDES = st.sampled_from([1, 2, 8, 16])


@st.composite
def fixed(draw):
    """Arguments of `plan_fixed`."""
    stride = draw(STRIDES)
    margin = draw(st.integers(0, 5)) * stride
    tile = tuple(2 * margin + draw(st.integers(1, 12)) * stride for _ in range(2))
    height, width = (draw(st.integers(1, 2 * margin + 20 * (side - 2 * margin))) for side in tile)
    return {"height": height, "width": width, "tile": tile, "margin": margin, "stride": stride}


@st.composite
def free(draw):
    """Arguments of `plan_free`; the limit leaves room for tiles that keep 128 px and twice their margins."""
    stride = draw(STRIDES)
    margin = draw(st.integers(0, 5)) * stride
    largest_of_the_small = 2 * max(4 * margin, 128) + 2 * margin + 2 * stride
    return {
        "height": draw(st.integers(1, 3000)),
        "width": draw(st.integers(1, 3000)),
        "max_tile_px": draw(st.integers(largest_of_the_small**2, 2_000_000)),
        "margin": margin,
        "stride": stride,
    }


def up(value, stride):
    return -(-value // stride) * stride


def check(plan, height, width, margin, stride):
    assert (plan.height, plan.width) == (up(height, stride), up(width, stride))
    times = np.zeros((plan.height // stride, plan.width // stride), np.uint8)
    for tile in plan.tiles:
        (top, bottom), (left, right) = tile.keep_rows, tile.keep_cols
        assert all(n % stride == 0 for n in (tile.row, tile.col, top, bottom, left, right))
        times[top // stride : bottom // stride, left // stride : right // stride] += 1
        for start, side, length, (first, last) in (
            (tile.row, plan.tile_height, plan.height, tile.keep_rows),
            (tile.col, plan.tile_width, plan.width, tile.keep_cols),
        ):
            assert 0 <= start <= first < last <= start + side
            assert start + side <= max(length, side)
            assert first == 0 or first - start >= margin
            assert last == length or start + side - last >= margin
    assert (times == 1).all()  # kept once, everywhere


@given(fixed())
def test_fixed_tiles_keep_every_pixel_once_and_away_from_cuts(arguments):
    plan = plan_fixed(**arguments)
    assert (plan.tile_height, plan.tile_width) == arguments["tile"]
    check(plan, *(arguments[name] for name in ("height", "width", "margin", "stride")))


@given(free())
def test_free_tiles_keep_every_pixel_once_and_away_from_cuts(arguments):
    plan = plan_free(**arguments)
    check(plan, *(arguments[name] for name in ("height", "width", "margin", "stride")))
    assert plan.tile_height * plan.tile_width <= arguments["max_tile_px"]
    assert plan.tile_height % arguments["stride"] == plan.tile_width % arguments["stride"] == 0


@given(free())
def test_an_image_that_fits_is_one_tile_of_its_own_size(arguments):
    padded = up(arguments["height"], arguments["stride"]) * up(arguments["width"], arguments["stride"])
    plan = plan_free(**arguments)
    assert (len(plan.tiles) == 1) == (padded <= arguments["max_tile_px"])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 300), (255, 256), (256, 256)])
def test_an_image_no_larger_than_the_tile_is_one_tile(height, width):
    plan = plan_fixed(height, width, (256, 512), 80, 16)
    (tile,) = plan.tiles
    assert (tile.row, tile.col) == (0, 0)
    assert tile.keep_rows == (0, up(height, 16))
    assert tile.keep_cols == (0, up(width, 16))


def test_one_pixel_more_than_the_tile_is_two():
    assert [tile.row for tile in plan_fixed(257, 256, (256, 256), 80, 16).tiles] == [0, 16]


@pytest.mark.parametrize(
    ("height", "width"), [(12_000, 12_000), (1, 12_000), (12_000, 1), (1200, 1600), (3040, 4056), (12_000, 17)]
)
def test_fields_as_large_as_they_come(height, width):
    plan = plan_free(height, width, 2_000_000, 80, 16)
    check(plan, height, width, 80, 16)
    assert plan.tile_height * plan.tile_width <= 2_000_000
    computed = len(plan.tiles) * plan.tile_height * plan.tile_width
    assert computed <= 1.35 * up(height, 16) * up(width, 16)  # what the overlap costs
    check(plan_fixed(height, width, (512, 512), 80, 16), height, width, 80, 16)


@pytest.mark.parametrize("margin", [0, 320, 640])
def test_margins_from_none_to_larger_than_the_limit_allows(margin):
    check(plan_free(5000, 7000, 2_000_000, margin, 160), 5000, 7000, margin, 160)


@pytest.mark.parametrize(("height", "width"), [(12_000, 12_000), (700, 900), (12_000, 100)])
@pytest.mark.parametrize("limit", [1, 16 * 16, 200 * 200])
def test_a_limit_too_small_for_the_margins_still_gives_a_plan(height, width, limit):
    plan = plan_free(height, width, limit, 80, 16)
    check(plan, height, width, 80, 16)
    assert len(plan.tiles) > 1
