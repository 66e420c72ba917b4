import numpy as np
import pytest

from cellseg_host import targets
from cellseg_host.augment import NONE, Augmentation, Sample, random_view


@pytest.fixture
def sample(draw_blobs, draw_labels) -> Sample:
    labels = draw_labels(96, 128)
    return Sample(draw_blobs(96, 128), labels, targets.distance(labels))


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_what_the_network_takes(sample, channels):
    if channels == 3:
        sample = Sample(np.repeat(sample.levels[..., None], 3, axis=2), sample.labels, sample.distance)
    for seed in range(20):
        image, labels, distance = random_view(sample, 64, Augmentation(), np.random.default_rng(seed))
        assert (image.shape, labels.shape, distance.shape) == ((64, 64, 3), (64, 64), (64, 64))
        assert image.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1
        assert set(np.unique(labels)) <= set(np.unique(sample.labels))
        assert not distance[labels == 0].any()


def test_the_same_seed_gives_the_same_view(sample):
    first, second = (random_view(sample, 64, Augmentation(), np.random.default_rng(5)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_only_the_place_changes_when_all_is_off(sample):
    ramp = np.tile(np.arange(128, dtype=np.uint8), (96, 1))
    image, labels, _ = random_view(Sample(ramp, sample.labels, sample.distance), 96, NONE, np.random.default_rng(0))
    col = next(c for c in range(128 - 96 + 1) if (sample.labels[:, c : c + 96] == labels).all())
    # the place lies between pixels, by less than one
    assert np.allclose(image[..., 0], ramp[:, col : col + 96] / 255, atol=1 / 255)


def test_an_image_smaller_than_the_view_is_mirrored(sample):
    small = Sample(sample.levels[:20, :30], sample.labels[:20, :30], sample.distance[:20, :30])
    image, labels, _ = random_view(small, 64, Augmentation(), np.random.default_rng(1))
    assert image.shape == (64, 64, 3)
    assert labels.any()
