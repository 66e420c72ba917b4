"""Floats and large integers on 16 bits: linear, and not by values that no cell has."""

import numpy as np
import pytest

import cellseg_device
from cellseg_device.errors import ImageError
from cellseg_device.image.decode import decode
from cellseg_device.image.spread import to_uint16

RNG = np.random.default_rng(0)


def linear(pixels):
    low, high = float(pixels.min()), float(pixels.max())
    return np.rint((pixels.astype(np.float64) - low) * (65535 / (high - low)))


def noise(scale=1.0, dtype=np.float32):
    return (scale * np.random.default_rng(1).normal(0, 1, (200, 300))).astype(dtype)


@pytest.fixture
def field(draw_blobs):
    return draw_blobs(200, 300, count=20).astype(np.float32) / 255


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_from_the_least_to_the_greatest_value(field, dtype):
    for pixels in (field.astype(dtype), noise(dtype=dtype), (field * 1000 - 300).astype(dtype)):
        mapped, has_extremes = to_uint16(pixels)
        assert np.array_equal(mapped, linear(pixels))
        assert not has_extremes


@pytest.mark.parametrize("value", [1e3, 1e4, 1e6, -1e6, 3.4e38, -3.4e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_pixel_far_from_all_others_leaves_them_their_levels(field, value, dtype):
    field = spoilt = field.astype(dtype)
    for at in ((90, 90), (0, 0), (199, 5)):
        spoilt = field.copy()
        spoilt[at] = value
        mapped, has_extremes = to_uint16(spoilt)
        assert mapped[at] == (65535 if value > 0 else 0)
        others = np.ones(field.shape, bool)
        others[at] = False
        assert np.array_equal(mapped[others], linear(field[others]))
        assert not has_extremes


def test_dead_lines_and_many_dead_pixels_are_clipped_as_one_is(field):
    spoilt = field.copy()
    spoilt[:, 0] = spoilt[50] = 1e5
    spoilt[RNG.integers(60, 190, 100), RNG.integers(0, 300, 100)] = 10 ** RNG.uniform(2, 6, 100)
    mapped, has_extremes = to_uint16(spoilt)
    sound = (spoilt == field) & (field < 1)
    assert np.array_equal(np.argsort(mapped[sound], kind="stable"), np.argsort(field[sound], kind="stable"))
    assert len(np.unique(mapped[sound])) == len(np.unique(field[sound]))
    assert has_extremes  # over one in a thousand


@pytest.mark.parametrize("background", [0.0, 1e-3, 1e-2])
def test_a_single_bright_cell_in_a_large_dark_field_is_the_signal(background):
    pixels = noise(background)
    rows, cols = np.mgrid[:200, :300]
    pixels[np.hypot(rows - 80, cols - 120) < 3.6] += 1  # 7 px
    mapped, has_extremes = to_uint16(pixels)
    assert np.array_equal(mapped, linear(pixels))
    assert not has_extremes


def test_single_photons_are_kept():
    pixels = np.zeros((200, 300), np.float32)
    pixels[RNG.integers(0, 200, 30), RNG.integers(0, 300, 30)] = 1
    assert np.array_equal(to_uint16(pixels)[0], linear(pixels))


def test_extremes_that_lie_together_as_a_cell_does_are_said(field):
    field[20:40, 30:50] = 1e6
    assert to_uint16(field)[1]


def test_an_area_without_data_is_black_and_said(field):
    spoilt = field.copy()
    spoilt[:, :60] = -3.4028e38
    mapped, has_extremes = to_uint16(spoilt)
    assert has_extremes
    assert (mapped[:, :60] == 0).all()
    assert np.array_equal(mapped[:, 60:], linear(field[:, 60:]))


def test_what_holds_no_values_is_refused():
    with pytest.raises(ImageError, match="has 1 NaN or infinite pixel values"):
        to_uint16(np.array([[1, np.nan]]))
    with pytest.raises(ImageError, match="has no pixel values below 1e30"):
        to_uint16(np.full((5, 5), -3.4e38, np.float32))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.int64])
def test_integers_that_fit_are_kept_and_others_are_spread(dtype):
    pixels = np.arange(600, dtype=dtype).reshape(20, 30)
    assert np.array_equal(to_uint16(pixels)[0], pixels)
    shifted = pixels - 7 if np.issubdtype(dtype, np.signedinteger) else pixels + 2**31
    assert np.array_equal(to_uint16(shifted)[0], linear(shifted))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (4, 4), (5, 5), (9, 1)])
def test_small_images(shape):
    pixels = np.zeros(shape, np.float32)
    pixels.flat[-1] = 1e6
    assert np.array_equal(to_uint16(pixels)[0].ravel()[-1:], [0 if shape == (1, 1) else 65535])


def test_cells_are_those_of_the_image_without_the_extreme_pixel(samples):
    segmenter = cellseg_device.Segmenter()
    field = decode((samples / "hoechst8.png").read_bytes()).pixels.astype(np.float32) / 255
    whole = segmenter(field)
    assert whole.counts.count > 20
    for value in (1e4, 1e6, -3.4e38):
        field[5, 5] = value
        found = segmenter(field)
        assert (found.counts.count, found.counts.flags) == (whole.counts.count, whole.counts.flags)
    field[20:60, 20:60] = 1e6
    assert "extreme pixel values" in segmenter(field).counts.flags.split("; ")


@pytest.mark.parametrize("value", [-9999, -99999, 50, 1e6])
@pytest.mark.parametrize("part", ["rows", "patch", "most"])
@pytest.mark.parametrize("background", [None, 0.0])
def test_a_value_that_many_pixels_share_far_from_all_others_is_no_data(field, value, part, background):
    """As of a mask in a map or of a failed division, whatever its share, and with a background of exactly zero."""
    field = field if background is None else np.where(field < 0.2, background, field).astype(np.float32)
    gone = np.zeros(field.shape, bool)
    gone[{"rows": np.s_[:40], "patch": np.s_[100:107, 50:57], "most": np.s_[:, :240]}[part]] = True
    mapped, has_extremes = to_uint16(np.where(gone, np.float32(value), field))
    assert np.array_equal(mapped[~gone], linear(field[~gone]))
    assert not mapped[gone].any()
    assert has_extremes == (part != "patch")


@pytest.mark.parametrize("side", [9, 40])
def test_differing_extremes_are_said_with_a_background_of_exactly_zero_too(field, side):
    spoilt = np.where(field < 0.2, np.float32(0), field)
    spoilt[60 : 60 + side, 80 : 80 + side] = RNG.uniform(1e5, 1e6, (side, side))
    assert to_uint16(spoilt)[1]


def test_two_values_and_saturated_cells_are_data(field):
    mask = (field > 0.5).astype(np.float32)
    assert np.array_equal(to_uint16(mask)[0], linear(mask))
    saturated = np.minimum(field, 0.5)
    mapped, has_extremes = to_uint16(saturated)
    assert np.array_equal(mapped, linear(saturated))
    assert not has_extremes
