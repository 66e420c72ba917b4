"""Why a count may be wrong: each number does what it says, whatever the light, the camera and the kind of stain."""

import cv2
import numpy as np
import pytest

from cellseg_device.cells import quality
from cellseg_device.cells.measure import measure
from cellseg_device.image.normalise import histograms
from cellseg_device.image.pixels import Image
from cellseg_device.units import Length


def field(dtype=np.uint8, dark=False, blur=0.0, noise=0.0):
    """Discs of diameter 30 on a plain background, and their labels."""
    labels = np.zeros((240, 320), np.uint16)
    for index, (row, col) in enumerate((r, c) for r in range(40, 240, 80) for c in range(40, 320, 80)):
        cv2.circle(labels, (col, row), 15, index + 1, -1)
    pixels = np.where(labels > 0, 40.0, 180.0) if dark else np.where(labels > 0, 180.0, 40.0)
    if blur:
        pixels = cv2.GaussianBlur(pixels, (0, 0), blur)
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape)
    return (np.clip(pixels, 0, 255) * (np.iinfo(dtype).max // 255)).astype(dtype), labels


def assessed(pixels, labels, ratio_per_px=1 / 30, pixel_size_um=None, **options):
    return quality.assess(Image(pixels, pixel_size_um), labels, measure(labels, pixels), ratio_per_px, **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("noise", [0, 15])
def test_a_sharp_even_field_has_no_flag(dtype, dark, noise):
    found = assessed(*field(dtype, dark, noise=noise))
    assert found.flags == ""
    assert found.edge_sharpness == pytest.approx(1, abs=0.05)
    assert found.uneven_light < 0.1
    assert found.diameter_ratio == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("noise", [0, 15])
def test_blur_lowers_the_sharpness_until_it_is_flagged(dark, noise):
    found = [assessed(*field(dark=dark, blur=sigma, noise=noise)) for sigma in (0, 1, 2, 4, 8)]
    sharpness = [one.edge_sharpness for one in found]
    assert sharpness == sorted(sharpness, reverse=True)
    assert [one.flags for one in found[:3]] == ["", "", ""]
    assert found[-1].flags == "out of focus"


@pytest.mark.parametrize(
    ("top", "dtype", "share"),
    [
        (255, np.uint8, 0.25),
        (254, np.uint8, 0),
        (4095, np.uint16, 0.25),
        (65535, np.uint16, 0.25),
        (4000, np.uint16, 0),
    ],
)
def test_saturation_is_reported_for_cameras_of_any_depth(top, dtype, share):
    pixels = np.full((40, 40), 100, dtype)
    pixels[:20, :20] = top
    assert quality.saturated_fraction(histograms(pixels).sum(axis=0)) == share


def test_a_slanted_background_is_uneven_light():
    pixels, labels = field()
    slant = np.linspace(0, 1, 320)
    found = [assessed((pixels * 0.4 + rise * slant).astype(np.uint8), labels) for rise in (0, 20, 60, 120)]
    light = [one.uneven_light for one in found]
    assert light == sorted(light)
    assert "uneven light" not in found[0].flags
    assert "uneven light" in found[-1].flags


def test_uneven_light_is_reported_on_an_empty_field_too():
    noise = np.random.default_rng(0).normal(100, 2, (200, 300))
    empty = np.zeros(noise.shape, np.uint16)
    assert quality.uneven_light(noise.astype(np.uint8), empty) < 0.3
    assert quality.uneven_light((noise + np.linspace(0, 80, 300)).astype(np.uint8), empty) > 0.7


@pytest.mark.parametrize(("ratio_per_px", "words"), [(1 / 10, "cells larger"), (1 / 90, "cells smaller")])
def test_cells_far_from_the_models_are_flagged(ratio_per_px, words):
    assert assessed(*field(), ratio_per_px).flags.startswith(words)


def test_crowding_and_the_border_are_flagged():
    labels = np.repeat(np.repeat(np.arange(1, 10, dtype=np.uint16).reshape(3, 3), 20, 0), 20, 1)
    found = assessed((labels * 20).astype(np.uint8), labels, 1 / 20)
    assert "crowded" in found.flags
    assert "many cells cut by the border" in found.flags
    assert found.at_border_fraction == pytest.approx(8 / 9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (5, 7, 3)])
@pytest.mark.parametrize("value", [0, 255])
def test_images_of_any_size_are_judged(shape, value):
    pixels = np.full(shape, value, np.uint8)
    for labels in (np.zeros(shape[:2], np.uint16), np.ones(shape[:2], np.uint16)):
        found = assessed(pixels, labels)
        assert np.isfinite([found.focus, found.saturated_fraction, found.uneven_light]).all()
        assert ("overexposed" in found.flags) == (value == 255)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Length(30, "px"), ""),
        (Length(25, "px"), ""),
        (Length(36, "px"), ""),
        (Length(37, "px"), "cells measure 30 px, not 37 (see --diameter)"),
        (Length(20, "px"), "cells measure 30 px, not 20 (see --diameter)"),
        (Length(16, "um"), ""),
        (Length(9, "um"), "cells measure 15 µm, not 9 (see --diameter)"),
    ],
)
def test_a_diameter_that_is_not_that_of_the_cells_is_flagged(given, words):
    found = assessed(*field(), ratio_per_px=1 / 30, pixel_size_um=0.5, given=given)
    assert found.flags == words


def test_a_diameter_is_not_doubted_for_a_handful_of_cells():
    pixels, labels = field()
    few = np.where(labels < 5, labels, 0).astype(np.uint16)
    assert "--diameter" not in assessed(pixels, few, given=Length(90, "px")).flags


@pytest.mark.parametrize(("is_scaled", "words"), [(False, "cells larger than the model expects"), (True, "")])
def test_large_cells_are_flagged_unless_the_image_was_scaled_for_them(is_scaled, words):
    flags = assessed(*field(), ratio_per_px=1 / 10, is_scaled=is_scaled).flags
    assert flags.split(" (")[0] == words


NOTHING = "nothing found although the image has contrast"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("noise", [0, 8])
def test_a_field_of_which_every_cell_is_missed_is_flagged(dtype, dark, noise):
    pixels, labels = field(dtype, dark, noise=noise)
    assert assessed(pixels, np.zeros_like(labels)).flags == NOTHING
    assert NOTHING not in assessed(pixels, labels).flags


@pytest.mark.parametrize("size", [(1, 1), (9, 2), (240, 320), (1500, 1400)], ids=str)
@pytest.mark.parametrize("noise", [1, 10])
def test_noise_hot_pixels_and_slow_shading_are_no_contrast(size, noise):
    rng = np.random.default_rng(0)
    slope = np.add.outer(np.linspace(0, 25, size[0]), np.linspace(60, 100, size[1]))
    pixels = np.clip(slope + rng.normal(0, noise, size), 0, 255).astype(np.uint8)
    pixels[rng.random(size) < 0.002] = 250
    assert NOTHING not in assessed(pixels, np.zeros(size, np.uint16)).flags


def test_what_lies_outside_the_field_has_no_part_in_the_flags():
    pixels, labels = field(noise=3)
    inside = np.zeros_like(pixels)
    inside[:120] = 255
    labels = np.where(inside > 0, labels, 0).astype(np.uint16)
    spoilt = np.where(inside > 0, pixels, np.random.default_rng(1).choice([0, 255], pixels.shape)).astype(np.uint8)
    found, expected = (
        quality.assess(Image(p, field=inside), labels, measure(labels, p, None, inside), 1 / 30)
        for p in (spoilt, pixels)
    )
    assert found == expected
    assert found.flags == ""
