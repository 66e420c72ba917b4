"""Views in another stain: identity at strength 0, bright colour views only, glass still bright and nuclei dark."""

import dataclasses

import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_host import stains
from cellseg_host.augment import NONE, Augmentation, light, stain


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def slide(nuclear: float = 0.6, counter: float = 0.2) -> np.ndarray:
    """Dark nuclei (left third), tissue (middle) and bare glass (right) in haematoxylin and eosin, RGB levels."""
    amounts = np.zeros((48, 96, 3))
    amounts[:, :32, 0] = nuclear
    amounts[:, :64, 1] = counter
    density = amounts @ stains.mixing(stains.HAEMATOXYLIN, stains.EOSIN).T
    levels = np.rint(255 * stains.levels_through(density.astype(np.float32)))
    return np.clip(levels + rng().integers(-3, 1, levels.shape), 0, 255).astype(np.uint8)


def means(view: np.ndarray) -> list[np.ndarray]:
    """Mean colours of nuclei, tissue and glass."""
    return [view[:, at : at + 28].mean(axis=(0, 1)) for at in (2, 34, 66)]


def test_strength_0_is_the_view_itself():
    levels = slide()
    assert np.array_equal(stain.draw(levels, 0, rng()), levels.astype(np.float32) / 255)


@pytest.mark.parametrize("strength", [0.01, 0.3, 1.0])
def test_a_restained_view_is_a_view(strength):
    for seed in range(30):
        view = stain.draw(slide(), strength, rng(seed))
        assert (view.shape, view.dtype) == ((48, 96, 3), np.float32)
        assert 0 <= view.min() <= view.max() <= 1


def test_a_low_strength_changes_little_and_a_high_one_much():
    levels = slide()
    far = [
        np.mean([np.abs(stain.draw(levels, strength, rng(seed)) - levels / 255).mean() for seed in range(40)])
        for strength in (0.02, 0.2, 1.0)
    ]
    assert far[0] < 0.005
    assert 4 * far[0] < far[1] < far[2] / 3


def test_views_on_a_dark_ground_are_left_as_they_are():
    dyes = np.zeros((32, 32, 3), np.uint8)
    dyes[8:20, 8:20] = (40, 90, 250)
    assert np.array_equal(stain.draw(dyes, 1, rng()), dyes.astype(np.float32) / 255)


@pytest.mark.parametrize("seed", range(20))
def test_glass_stays_bright_and_nuclei_stay_darker_than_tissue(seed):
    nuclei, tissue, glass = means(stain.draw(slide(), 1, rng(seed)))
    assert glass.max() > 0.9
    assert nuclei.mean() < tissue.mean() < glass.mean()


def test_white_stays_near_white_unless_the_ground_is_tinted():
    glass = np.array([means(stain.draw(slide(), 1, rng(seed)))[2] for seed in range(200)])
    is_white = glass.min(axis=1) > 0.85
    assert 0.6 < is_white.mean() < 0.95
    yellow = glass[(glass[:, 0] > 0.9) & (glass[:, 2] < 0.75)]
    assert len(yellow) > 5


def test_other_dyes_turn_up():
    tissues = np.array([means(stain.draw(slide(), 1, rng(seed)))[1] for seed in range(300)])
    red, green, blue = tissues.T
    brown = (red > green) & (green > blue + 0.05)
    pink = (red > green + 0.05) & (blue > green + 0.05)
    bluish = (blue > red + 0.05) & (green > red)
    assert all(kind.mean() > 0.02 for kind in (brown, pink, bluish))


def test_a_view_without_any_contrast_stays_so():
    flat = np.full((16, 16, 3), (230, 180, 210), np.uint8)
    for seed in range(10):
        assert np.ptp(stain.draw(flat, 1, rng(seed)), axis=(0, 1)).max() < 1e-5


def test_the_range_of_levels_stays_since_the_device_stretches_it():
    levels = slide()
    low, high = np.percentile(levels, (1, 99.9)) / 255
    views = [stain.draw(levels, 1, rng(seed)) for seed in range(40)]
    ends = np.array([np.percentile(view, (1, 99.9)) for view in views])
    assert np.median(np.abs(ends[:, 0] - low)) < 0.03
    assert np.abs(ends[:, 1] - high).max() < 0.03


def test_it_is_a_part_of_the_look_of_colour_views_only():
    augmentation = dataclasses.replace(NONE, stain=0.8)
    levels = slide()
    assert np.abs(light.draw(levels, augmentation, rng(1)) - levels / 255).max() > 0.02
    grey = np.ascontiguousarray(levels[..., 1])
    assert np.allclose(light.draw(grey, augmentation, rng(1)), grey[..., None] / 255, atol=1e-6)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), True])
def test_a_strength_outside_0_to_1_is_refused(wrong):
    with pytest.raises(InputError, match="augmentation 'stain' must be a number from 0 to 1"):
        Augmentation(stain=wrong)
