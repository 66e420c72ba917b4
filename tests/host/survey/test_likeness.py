"""Images that are the same are found from any side; others, and images that show nothing, are not."""

import cv2
import numpy as np
import pytest

from cellseg_host.survey.likeness import alike, look
from cellseg_host.synth.field import make_field
from cellseg_host.synth.settings import SynthSettings

SETTINGS = SynthSettings(height=160, width=180, cells=15, diameter_px=22.0)


def drawn(seed):
    return make_field(SETTINGS, (5, seed))[0]


def found(*images, groups=None):
    looks = [look(image, float(np.ptp(image))) for image in images]
    return list(alike(looks, groups or [str(place) for place in range(len(images))]))


@pytest.mark.parametrize("turn", range(8))
def test_the_same_image_is_found_from_any_side(turn):
    image = drawn(0)
    other = np.rot90(image.T if turn >= 4 else image, turn % 4)
    [pair] = found(image, np.ascontiguousarray(other), drawn(1))
    assert (pair.first, pair.second) == (0, 1)
    assert pair.correlation > 0.98


@pytest.mark.parametrize(
    "changed",
    [
        lambda image: np.clip(image * 0.6 + 20, 0, 255).astype(np.uint8),
        lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0),
        lambda image: image.astype(np.uint16) * 4,
        lambda image: cv2.merge([image] * 3),
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    ],
)
def test_brightness_jpeg_depth_channels_and_size_change_nothing(changed):
    image = drawn(0)
    [pair] = found(image, changed(image))
    assert pair.correlation > 0.97


def test_other_fields_of_the_same_kind_are_not_alike():
    assert found(*(drawn(seed) for seed in range(12))) == []


def test_images_of_one_group_are_not_compared():
    image = drawn(0)
    assert found(image, image, groups=["train", "train"]) == []
    assert len(found(image, image, image, groups=["train", "train", "val"])) == 2


def test_images_that_show_nothing_are_not_alike():
    flat = np.full((160, 180), 30, np.uint8)
    noisy = [np.random.default_rng(seed).normal(100, 8, (400, 400)).astype(np.uint8) for seed in range(4)]
    assert found(flat, flat, *noisy) == []


def test_more_images_than_are_compared_at_once():
    images = [drawn(seed) for seed in range(3)]
    many = [images[0], *(np.full((40, 40), level, np.uint8) for level in range(200)), images[1]]
    looks = [look(image, float(np.ptp(image))) for image in (*many, *many)]
    pairs = list(alike(looks, ["train"] * len(many) + ["val"] * len(many)))
    assert [(pair.first, pair.second) for pair in pairs] == [(0, len(many)), (len(many) - 1, 2 * len(many) - 1)]
