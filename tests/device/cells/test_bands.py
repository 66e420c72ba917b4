"""What is done in bands of rows comes out as if it were done at once, to the last bit."""

import dataclasses
import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellseg_device.cells import bands, instances, quality
from cellseg_device.cells.counting import Counting, select, sum_up
from cellseg_device.cells.instances import Limits
from cellseg_device.cells.measure import measure
from cellseg_device.cells.region import Region
from cellseg_device.image.pixels import Image
from cellseg_device.units import Length

SHAPES = st.tuples(st.integers(1, 120), st.integers(1, 120))
LIMITS = {
    "plain": Limits(0, 20),
    "all": Limits(10, 30, 14, (-1.7, -1.1, 0.01, 0.79, 0.1, -1.03), 5),
    "nothing": Limits(128),
}


def hills(seed, height, width):
    """A map of hills that touch, int8; the same on every machine, since it is smoothed in integers."""
    rng = np.random.default_rng(seed)
    field = rng.integers(0, 256, (height, width)).astype(np.uint8)
    for _ in range(3):
        field = cv2.blur(field, (7, 7))
    return np.clip((field.astype(int) - int(np.median(field))) * 6, -128, 127).astype(np.int8)


def maps(seed, shape, reduction):
    """The foreground and the landscape of an image of this shape, padded as to whole strides."""
    height, width = (-(-n // 16) * 16 for n in shape)
    landscape = np.maximum(hills(seed, height, width), hills(seed + 1, height, width))
    return hills(seed, height, width), np.ascontiguousarray(landscape[::reduction, ::reduction])


def all_results(seed, shape, reduction, limits, channels, scaled):
    """Whatever is computed in bands, in bytes."""
    foreground, landscape = maps(seed, shape, reduction)
    labels = instances.separate(foreground, landscape, shape, limits)
    again = instances.rescale(labels, foreground, limits.foreground, scaled)
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, *channels)).astype(np.uint8)
    counting = Counting(min_diameter=Length(4, "px"), region=Region("circle"))
    image = counting.applied(Image(pixels, 0.5))
    cells = measure(labels, pixels, 0.5, image.field)
    chosen = select(image, labels, cells, counting)
    counts = sum_up(image, chosen, quality.assess(image, labels, cells, 1 / 20), counting)
    columns = {name: values.tobytes() for name, values in cells.columns.items()}
    return labels.tobytes(), again.tobytes(), chosen.labels.tobytes(), columns, dataclasses.asdict(counts)


@given(height=st.integers(0, 50), width=st.integers(0, 50), multiple=st.integers(1, 4), band_px=st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_bands_are_all_rows_one_after_the_other(height, width, multiple, band_px):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND_PX", band_px)
        found = list(bands.bands(height, width, multiple))
    assert [row for rows in found for row in range(rows.start, rows.stop)] == list(range(height))
    assert all((rows.stop - rows.start) % multiple == 0 for rows in found[:-1])
    assert all((rows.stop - rows.start) * width <= max(band_px, multiple * width) for rows in found)


@given(
    seed=st.integers(0, 99),
    shape=SHAPES,
    reduction=st.sampled_from([1, 2]),
    limits=st.sampled_from([*LIMITS.values()]),
    channels=st.sampled_from([(), (3,)]),
    scaled=SHAPES,
    band_px=st.sampled_from([1, 50, 300, 2000]),
)
@settings(max_examples=60, deadline=None)
def test_bands_change_nothing(seed, shape, reduction, limits, channels, scaled, band_px):
    arguments = (seed, shape, reduction, limits, channels, scaled)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bands, "BAND_PX", 10**9)
        expected = all_results(*arguments)
        patch.setattr(bands, "BAND_PX", band_px)
        assert all_results(*arguments) == expected


@pytest.mark.parametrize("band_px", [1, 5000, 10**9])
def test_labels_are_those_of_former_versions(monkeypatch, band_px):
    monkeypatch.setattr(bands, "BAND_PX", band_px)
    digest, cells = hashlib.sha256(), 0
    for seed in range(6):
        shape = (200 + 17 * seed, 333 - 31 * seed)
        foreground, landscape = maps(seed, shape, 1 + seed % 2)
        labels = instances.separate(foreground, landscape, shape, LIMITS["plain" if seed < 3 else "all"])
        larger = instances.rescale(labels, foreground, 10, (500, 700))
        digest.update(labels.astype("<u2").tobytes() + larger.astype("<u2").tobytes())
        cells += int(labels.max())
    assert (cells, digest.hexdigest()) == (
        729,
        "0ec191abd9e637ba021d0efe8e549998ad8f56aa96a31037b8ab8829d9106c57",
    )
