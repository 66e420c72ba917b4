import dataclasses

import cv2
import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_host.augment import NONE, Augmentation, Sample, geometry, light, random_view
from cellseg_host.training import targets

BENT = dataclasses.replace(NONE, elastic_px=8, grid=0.5, optical=0.3, probability=1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def sample(draw_blobs, draw_labels) -> Sample:
    labels = draw_labels(96, 128)
    return Sample(draw_blobs(96, 128), labels, {n: targets.TARGETS[n](labels) for n in targets.WARPED})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "augmentation", [Augmentation(), NONE, Augmentation(elastic_px=8, grid=0.5, optical=0.3, hue=0.5, probability=1)]
)
def test_views_are_what_the_network_takes(sample, channels, augmentation):
    if channels == 3:
        sample = Sample(np.repeat(sample.levels[..., None], 3, axis=2), sample.labels, sample.maps)
    for seed in range(10):
        image, labels, maps, _ = random_view(sample, 64, augmentation, rng(seed))
        assert (image.shape, labels.shape) == ((64, 64, 3), (64, 64))
        assert (image.dtype, labels.dtype) == (np.float32, np.uint16)
        assert 0 <= image.min() <= image.max() <= 1
        assert set(np.unique(labels)) <= set(np.unique(sample.labels))
        assert list(maps) == ["distance", "centre"]
        for drawn in maps.values():
            assert (drawn.shape, drawn.dtype) == ((64, 64), np.float32)
            assert not drawn[labels == 0].any()


@pytest.mark.parametrize("augmentation", [Augmentation(), BENT])
def test_the_same_seed_gives_the_same_view_and_another_one_another(sample, augmentation):
    first, second, other = (random_view(sample, 64, augmentation, rng(seed))[0] for seed in (5, 5, 6))
    assert (first == second).all()
    assert (first != other).any()


def test_only_the_place_changes_when_all_is_off(sample):
    ramp = np.tile(np.arange(128, dtype=np.uint8), (96, 1))
    image, labels, *_ = random_view(Sample(ramp, sample.labels), 96, NONE, rng())
    col = next(c for c in range(128 - 96 + 1) if (sample.labels[:, c : c + 96] == labels).all())
    # the place lies between pixels, by less than one
    assert np.allclose(image[..., 0], ramp[:, col : col + 96] / 255, atol=1 / 255)


@pytest.mark.parametrize("shape", [(20, 30), (1, 1), (1, 50)])
@pytest.mark.parametrize("augmentation", [Augmentation(), BENT])
def test_an_image_smaller_than_the_view_is_mirrored(shape, augmentation):
    labels = np.full(shape, 3, np.uint16)
    levels = np.full(shape, 100, np.uint8)
    image, labels, *_ = random_view(Sample(levels, labels), 64, augmentation, rng(1))
    assert image.shape == (64, 64, 3)
    assert (labels == 3).all()


@pytest.mark.parametrize("name", ["elastic_px", "grid", "optical"])
def test_distortions_move_image_labels_and_maps_alike(name):
    rows, cols = np.mgrid[:160, :160]
    labels = ((rows // 20 + cols // 20) % 2).astype(np.uint16)
    sample = Sample((labels * 200).astype(np.uint8), labels, {"mask": labels.astype(np.float32)})
    augmentation = dataclasses.replace(NONE, probability=1, **{name: getattr(BENT, name)})
    plain = random_view(sample, 128, NONE, rng(2))[1]
    image, bent, maps, _ = random_view(sample, 128, augmentation, rng(2))
    assert 0.02 < (bent != plain).mean() < 0.6
    assert ((image[..., 0] > 100 / 255) == (bent > 0)).mean() > 0.97  # they differ by rounding on edges only
    assert ((maps["mask"] > 0.5) == (bent > 0)).mean() > 0.97


def test_a_distortion_is_put_together_with_the_affine_map_into_one_interpolation():
    everything = dataclasses.replace(Augmentation(), elastic_px=4, grid=0.3, optical=0.2, probability=1)
    place = geometry.draw((200, 300), 64, everything, rng(0))
    x, y = place.bent
    # Where an image holds its own coordinates, a view of it holds where its pixels come from
    cols, rows = np.meshgrid(np.arange(300, dtype=np.float32), np.arange(200, dtype=np.float32))
    within = (x > 0) & (x < 299) & (y > 0) & (y < 199)
    assert within.mean() > 0.5
    assert np.allclose(place.warp(cols)[within], x[within], atol=0.05)
    assert np.allclose(place.warp(rows)[within], y[within], atol=0.05)
    straight = cv2.transform(np.dstack([x, y]), place.matrix) - np.dstack(np.meshgrid(*[np.arange(64)] * 2))
    assert 1 < np.abs(straight).max() < 32  # pixels of the view by which it is bent


@pytest.mark.parametrize("side", [32, 64, 256])
@pytest.mark.parametrize("strongest", [{"elastic_px": 8}, {"grid": 0.9}, {"optical": 0.3}])
def test_the_strongest_distortion_does_not_fold_a_view(side, strongest):
    augmentation = dataclasses.replace(NONE, **strongest, probability=1)
    folded = []
    for seed in range(20):
        x, y = geometry.draw((512, 512), side, augmentation, rng(seed)).bent
        (dx_down, dx_right), (dy_down, dy_right) = np.gradient(x), np.gradient(y)
        folded.append((dx_right * dy_down - dx_down * dy_right <= 0).mean())
    assert np.mean(folded) < 1e-4


def test_probability_is_the_share_of_views_that_are_distorted():
    augmentation = dataclasses.replace(NONE, optical=0.3, probability=0.25)
    bent = [geometry.draw((64, 64), 32, augmentation, rng(seed)).bent is not None for seed in range(1000)]
    assert np.mean(bent) == pytest.approx(0.25, abs=0.05)
    never = dataclasses.replace(BENT, blur_px=9, noise=0.5, probability=0)
    assert geometry.draw((64, 64), 32, never, rng()).bent is None
    levels = rng().integers(0, 255, (32, 32, 3), np.uint8)
    assert np.allclose(light.draw(levels, never, rng()), levels / 255, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
def test_grey_and_coloured_views_are_inverted_alike(shape):
    levels = rng().integers(0, 255, shape, np.uint8)
    as_rgb = levels if levels.ndim == 3 else np.dstack([levels] * 3)
    always = light.draw(levels, dataclasses.replace(NONE, invert=1), rng())
    assert np.allclose(always, 1 - as_rgb / 255, atol=1e-6)


def test_a_tint_shows_grey_in_one_colour_and_leaves_colours():
    augmentation = dataclasses.replace(NONE, tint=1)
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = set()
    for seed in range(30):
        tinted = light.draw(ramp, augmentation, rng(seed))
        colour = tinted[15, 15]
        assert colour.max() == 1
        assert np.allclose(tinted, ramp[..., None] / 255 * colour, atol=1e-6)
        colours.add(tuple(np.round(colour, 2)))
    assert len(colours) > 20
    assert any(np.count_nonzero(colour) == 1 for colour in colours)
    pink = np.full((4, 4, 3), (150, 100, 120), np.uint8)
    assert np.allclose(light.draw(pink, augmentation, rng()), pink / 255, atol=1e-6)
    assert np.allclose(light.draw(ramp, NONE, rng()), ramp[..., None] / 255, atol=1e-6)


def test_hue_and_saturation_leave_grey_and_brightness_as_they_are():
    augmentation = dataclasses.replace(NONE, hue=0.5, saturation=1)
    grey = np.full((4, 4, 3), 90, np.uint8)
    pink = np.full((4, 4, 3), (150, 100, 120), np.uint8)
    means = set()
    for seed in range(20):
        assert np.allclose(light.draw(grey, augmentation, rng(seed)), 90 / 255, atol=1e-6)
        turned = light.draw(pink, augmentation, rng(seed))
        assert turned.mean() == pytest.approx(pink.mean() / 255, abs=1e-5)
        means.add(tuple(np.round(turned[0, 0], 2)))
    assert len(means) > 15


def test_a_third_of_a_turn_of_the_hue_moves_each_channel_on_to_the_next():
    class Highest(np.random.Generator):
        def uniform(self, low=0.0, high=1.0, size=None):
            return high if size is None else np.full(size, high)

    augmentation = dataclasses.replace(NONE, hue=1 / 3)
    red = np.full((2, 2, 3), (200, 50, 30), np.uint8)
    turned = light.draw(red, augmentation, Highest(np.random.PCG64(0)))
    assert np.allclose(turned[0, 0] * 255, (30, 200, 50), atol=1e-3)


def test_colour_changes_the_gain_of_each_channel():
    augmentation = dataclasses.replace(NONE, colour=0.2)
    white = np.full((2, 2, 3), 128, np.uint8)
    gains = np.array([light.draw(white, augmentation, rng(seed))[0, 0] for seed in range(200)]) * 255 / 128
    assert 0.8 <= gains.min() < 0.83
    assert 1.17 < gains.max() <= 1.2
    assert abs(np.corrcoef(gains.T)[0, 1]) < 0.3


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"noise": -0.1}, "'noise' must be a number from 0 to 1, not -0.1"),
        ({"probability": 1.5}, "'probability'"),
        ({"hue": float("nan")}, "'hue'"),
        ({"elastic_px": 80}, "'elastic_px' must be a number from 0 to 8"),
        ({"colour": True}, "'colour'"),
        ({"scale": (1.8, 0.6)}, "'scale' must be two numbers, the smaller first"),
        ({"scale": (0, 1)}, "'scale'"),
        ({"gamma": (1.0,)}, "'gamma'"),
        ({"gamma": 1.0}, "'gamma'"),
        ({"contrast": ("low", "high")}, "'contrast'"),
        ({"rotate": 1}, "'rotate' must be true or false"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused_by_its_name(wrong, named):
    with pytest.raises(InputError, match=f"augmentation {named}"):
        Augmentation(**wrong)


def test_settings_of_older_runs_have_no_distortion():
    older = {"scale": [0.5, 2], "colour": 0.2, "blur_px": 1.0, "noise": 0.1}
    read = Augmentation(**{k: tuple(v) if isinstance(v, list) else v for k, v in older.items()})
    assert (read.elastic_px, read.grid, read.optical, read.hue) == (0, 0, 0, 0)
    assert read.probability == pytest.approx(1 / 3)
