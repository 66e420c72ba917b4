import numpy as np
import pytest
import tensorflow as tf

from cellseg_device.model.card import Card, Output
from cellseg_host.augment import NONE, Augmentation, Sample
from cellseg_host.training import feed, targets

HEADS = ("foreground", "distance", "centre", "outline")


@pytest.fixture(scope="module")
def samples(draw_blobs, draw_labels) -> list[Sample]:
    found = []
    for seed in range(3):
        labels = draw_labels(96, 128)
        found.append(Sample(draw_blobs(96, 128, seed), labels, {n: targets.TARGETS[n](labels) for n in targets.WARPED}))
    return found


def even(samples: list[Sample]) -> np.ndarray:
    return np.full(len(samples), 1 / len(samples))


def blank(seed: int = 0) -> Sample:
    levels = np.random.default_rng(seed).integers(0, 40, (96, 128), np.uint8)
    return Sample(levels, np.zeros((96, 128), np.uint16))


def test_only_the_maps_that_the_heads_need_are_drawn(tiny_dataset):
    card = Card("any", "float32", (Output("foreground", 0, "logit"),), 16, 64, 1.0, 99.9, 20.0)
    entries = tiny_dataset.split("val")
    for heads, expected in (
        (("foreground",), []),
        (HEADS, ["distance", "centre"]),
        (("centre", "foreground"), ["centre"]),
        (("presence",), []),
    ):
        for sample in feed.load_samples(tiny_dataset, entries, card, heads):
            assert list(sample.maps) == expected
            assert sample.levels.dtype == np.uint8
            assert sample.levels.shape[:2] == sample.labels.shape == (128, 144)


def test_a_batch_has_an_image_a_target_for_each_head_and_the_gaps(samples):
    views = feed.views(samples, even(samples), HEADS, Augmentation(), side=64, batch=4, count=3, seed=(0, 0))
    assert views.element_spec[1]["outline"].shape == (4, 64, 64, 1)  # static, so that a graph can be built
    batches = list(views)
    assert len(batches) == 3
    for image, drawn, border in batches:
        assert image.shape == (4, 64, 64, 3)
        assert border.shape == (4, 64, 64, 1)
        assert tuple(sorted(drawn)) == tuple(sorted(HEADS))
        for target in drawn.values():
            assert target.dtype == tf.float32
            assert target.shape == (4, 64, 64, 1)
            assert 0 <= target.numpy().min() < target.numpy().max() <= 1
        outside = drawn["foreground"].numpy() == 0
        assert not drawn["distance"].numpy()[outside].any()
        assert not drawn["centre"].numpy()[outside].any()


def test_targets_fit_the_view_that_they_come_with(samples):
    bent = Augmentation(elastic_px=6, grid=0.3, optical=0.2, probability=1)
    labels = samples[0].labels
    bright = [Sample((labels > 0).astype(np.uint8) * 255, labels, samples[0].maps)]
    plain = {"contrast": (1, 1), "gamma": (1, 1), "brightness": 0, "blur_px": 0, "noise": 0, "invert": 0}
    for augmentation in (NONE, Augmentation(**plain), Augmentation(**{**vars(bent), **plain})):
        image, drawn, _ = next(
            iter(feed.views(bright, even(bright), HEADS, augmentation, side=64, batch=8, count=1, seed=(1, 0)))
        )
        seen = image.numpy()[..., :1] > 0.5
        assert (seen == (drawn["foreground"].numpy() > 0.5)).mean() > 0.97


@pytest.mark.parametrize("heads", [("foreground", "distance"), ("presence",)])
def test_the_same_seed_gives_the_same_views_and_another_epoch_others(samples, heads):
    def first(seed: tuple[int, int]) -> np.ndarray:
        views = feed.views(
            [*samples, blank()], even([*samples, 0]), heads, Augmentation(), side=32, batch=4, count=2, seed=seed
        )
        return np.concatenate([image.numpy() for image, _, _ in views])

    assert (first((3, 1)) == first((3, 1))).all()
    assert (first((3, 1)) != first((3, 2))).any()
    assert (first((3, 1)) != first((4, 1))).any()


@pytest.mark.parametrize("blanks", [1, 9])
def test_half_of_the_views_of_a_classifier_have_a_cell_whatever_the_share_of_blank_images(samples, blanks):
    mixed = [*samples, *(blank(seed) for seed in range(blanks))]
    views = feed.views(mixed, even(mixed), ("presence",), NONE, side=64, batch=16, count=16, seed=(0, 0))
    present = []
    for _, drawn, _ in views:
        assert drawn["presence"].shape == (16, 1, 1, 1)
        present += list(drawn["presence"].numpy().ravel())
    assert set(present) == {0.0, 1.0}
    assert np.mean(present) == pytest.approx(0.5, abs=0.12)


def test_presence_is_true_of_the_view_and_not_of_the_image(samples):
    lone = np.zeros((96, 128), np.uint16)
    lone[40:50, 60:70] = 1
    one = [Sample((lone * 255).astype(np.uint8), lone)]
    image, drawn, _ = next(
        iter(feed.views(one, even(one), ("presence",), NONE, side=32, batch=64, count=1, seed=(0, 0)))
    )
    bright = image.numpy().max(axis=(1, 2, 3)) > 0.5
    assert 0.2 < bright.mean() < 0.8  # views without the cell were found in the image that has one
    assert ((drawn["presence"].numpy().ravel() == 1) == bright).mean() > 0.9  # but for a last row of pixels


@pytest.mark.parametrize("full", [True, False])
def test_where_all_images_are_of_one_kind_so_are_the_views(samples, full):
    same = [Sample(np.zeros((64, 64), np.uint8), np.full((64, 64), int(full), np.uint16))]
    _, drawn, _ = next(iter(feed.views(same, even(same), ("presence",), NONE, side=32, batch=8, count=1, seed=(0, 0))))
    assert (drawn["presence"].numpy() == full).all()


def test_class_weights_make_both_classes_weigh_the_same():
    mostly, half = np.zeros((10, 10), np.uint16), np.zeros((4, 10), np.uint16)
    mostly[0] = 5  # a tenth
    half[:2] = 1
    samples = [Sample(np.zeros(m.shape, np.uint8), m) for m in (mostly, half)]
    share = 0.75 * 0.1 + 0.25 * 0.5
    background, foreground = feed.class_weights(samples, np.array([0.75, 0.25]))
    assert share * foreground == pytest.approx((1 - share) * background)
    assert share * foreground + (1 - share) * background == pytest.approx(1)


@pytest.mark.parametrize("value", [0, 1])
def test_class_weights_of_a_single_class_are_one(value):
    sample = Sample(np.zeros((4, 4), np.uint8), np.full((4, 4), value, np.uint16))
    assert feed.class_weights([sample], np.ones(1)) == (1.0, 1.0)
