"""The table from raw values to levels: in integers, and the same as written down plainly."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_device.image.normalise import MIN_RANGE_COUNTS, apply_table, histograms, level_table, network_view

PERCENTILES = [(0, 100), (1, 99.9), (0.1, 99.8), (49.9, 50.1)]


def histogram_of(pixels):
    return histograms(pixels).sum(axis=0)


def plain_table(counts, low_percentile, high_percentile):
    """As the docstring says it, in Python's own integers."""
    total = sum(counts)

    def value_at(percentile):
        rank = min(total * round(percentile * 1000) // 100_000, total - 1)
        seen = 0
        for value, count in enumerate(counts):
            seen += count
            if seen > rank:
                return value
        raise AssertionError

    low, high = value_at(low_percentile), value_at(high_percentile)
    span = max(high - low, MIN_RANGE_COUNTS)
    return [min(max((255 * (v - low) + span // 2) // span, 0), 255) for v in range(len(counts))]


counts_of_bytes = st.dictionaries(st.integers(0, 255), st.integers(1, 10**8), min_size=1).map(
    lambda some: [some.get(value, 0) for value in range(256)]
)


@given(counts_of_bytes, st.sampled_from(PERCENTILES))
def test_the_table_is_the_plain_one_monotone_and_in_range(counts, percentiles):
    table = level_table(np.array(counts), *percentiles)
    assert table.dtype == np.uint8
    assert table.tolist() == plain_table(counts, *percentiles)
    assert (np.diff(table.astype(int)) >= 0).all()


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(st.integers(0, 65535), st.integers(1, 10**8), min_size=1, max_size=20))
def test_sixteen_bits_give_the_plain_table_too(some):
    counts = np.zeros(65536, np.int64)
    counts[list(some)] = list(some.values())
    assert level_table(counts, 1, 99.9).tolist() == plain_table(counts.tolist(), 1, 99.9)


def test_the_percentiles_become_the_ends():
    table = level_table(np.bincount(np.arange(50, 150), minlength=256), 0, 100)
    assert (table[50], table[149]) == (0, 255)
    assert table[:50].max() == 0
    assert table[149:].min() == 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("value", [0, 1, 200, 255])
def test_a_constant_image_is_level_zero(dtype, value):
    table = level_table(histogram_of(np.full((4, 5), value, dtype)), 1, 99.9)
    assert table[value] == 0


def test_faint_noise_is_not_stretched_to_full_contrast():
    table = level_table(histogram_of(np.array([[100, 101, 102]], np.uint8)), 0, 100)
    assert table[102] == 32


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (7, 5, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_histogram_counts_every_value_of_a_small_image(shape, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    expected = np.bincount(pixels.ravel(), minlength=np.iinfo(dtype).max + 1)
    assert np.array_equal(histogram_of(pixels), expected)
    assert np.array_equal(histogram_of(np.asfortranarray(pixels)), expected)


@pytest.mark.parametrize("shape", [(12_000, 100), (100, 12_000), (1500, 1500, 3)])
def test_histogram_of_a_large_image_is_of_its_rows(shape):
    pixels = np.broadcast_to((np.arange(shape[0]) % 251).astype(np.uint8).reshape(-1, *[1] * (len(shape) - 1)), shape)
    counted = histogram_of(np.ascontiguousarray(pixels)).sum()
    assert 400_000 * (shape[2] if len(shape) == 3 else 1) < counted < 1_600_000 * 3
    assert counted < pixels.size


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("out_dtype", [np.int8, np.float32])
@pytest.mark.parametrize("shape", [(1, 1), (6, 9), (6, 9, 3)])
def test_every_pixel_is_looked_up_and_grey_fills_the_three_channels(dtype, out_dtype, shape):
    rng = np.random.default_rng(1)
    size = np.iinfo(dtype).max + 1
    pixels = rng.integers(0, size, shape).astype(dtype)
    table = rng.integers(-128, 128, size).astype(out_dtype)
    out = np.empty((*shape[:2], 3), out_dtype)
    apply_table(table, pixels, out)
    expected = table[pixels] if pixels.ndim == 3 else np.repeat(table[pixels][..., None], 3, axis=2)
    assert np.array_equal(out, expected)


def test_a_window_of_an_image_goes_into_a_window_of_another():
    pixels = np.random.default_rng(2).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    table = np.arange(255, -1, -1, dtype=np.uint8)
    out = np.zeros((40, 40, 3), np.uint8)
    apply_table(table, pixels[3:13, 4:14], out[5:15, 6:16])
    assert np.array_equal(out[5:15, 6:16], 255 - pixels[3:13, 4:14])
    out[5:15, 6:16] = 0
    assert not out.any()


def test_one_table_for_all_tiles_gives_the_same_levels_as_the_whole(draw_blobs):
    pixels = cv2.merge([draw_blobs()] * 3)
    table = level_table(histogram_of(pixels), 1, 99.9)
    whole = np.empty(pixels.shape, np.uint8)
    apply_table(table, pixels, whole)
    part = np.empty((40, 50, 3), np.uint8)
    apply_table(table, pixels[10:50, 20:70], part)
    assert np.array_equal(part, whole[10:50, 20:70])


def coloured(grey, colour):
    return np.stack([(grey * share).astype(grey.dtype) for share in colour], axis=-1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colour", [(0, 0, 1), (0.1, 1, 0.2), (1, 0.05, 0.05)])
def test_of_an_image_in_one_colour_that_channel_is_seen(colour, dtype):
    grey = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 50)).astype(dtype)
    pixels = coloured(grey, colour)
    found, counts = network_view(pixels, histograms(pixels), 1, 99.9)
    assert np.array_equal(found, grey)
    assert found.flags.c_contiguous
    assert np.array_equal(counts, histogram_of(grey))


@pytest.mark.parametrize("colour", [(1, 1, 1), (0, 1, 1), (0.4, 0.3, 1), (0, 0, 0), (0, 0, 0.05)])
def test_an_image_of_several_colours_or_none_is_seen_as_it_is(colour):
    pixels = coloured(np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8), colour)
    found, counts = network_view(pixels, histograms(pixels), 1, 99.9)
    assert found is pixels
    assert np.array_equal(counts, histogram_of(pixels))


@pytest.mark.parametrize("pixels", [np.full((1, 1, 3), 7, np.uint8), np.full((1, 1), 7, np.uint8)])
def test_the_smallest_image_is_seen_as_it_is(pixels):
    assert network_view(pixels, histograms(pixels), 1, 99.9)[0] is pixels
