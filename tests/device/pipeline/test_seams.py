"""Tiles must not show: the maps are those of the whole image, bit for bit, and so are the labels."""

import dataclasses

import numpy as np
import pytest

from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline import predict, segment, tiling
from cellseg_device.watching.bench import known_field

HEIGHT, WIDTH = 700, 900


@pytest.fixture(scope="module")
def model(model_path):
    from cellseg_device.model.interpreter import Model

    return Model(model_path)  # one of our own, since a test changes its card


@pytest.fixture(scope="module")
def field():
    """Nuclei everywhere, purple on white with speckles, so that no channel may be mixed up."""
    grey = decode(known_field(HEIGHT, WIDTH)).pixels[..., 0] / 255
    speckles = np.random.default_rng(0).random(grey.shape) < 0.01
    return np.dstack([250 - 140 * grey, np.where(speckles, 20, 245 - 210 * grey), 250 - 90 * grey]).astype(np.uint8)


def run(pixels, model):
    maps = predict.predict_maps(Image(pixels), model)
    return maps, segment.label(maps, pixels.shape[:2], model.maps, model.card.separation)


def use_tiles_of(monkeypatch, tile):
    plans = []

    def plan(height, width, limit, margin, stride):
        plans.append(tiling.plan_fixed(height, width, tile, margin, stride))
        return plans[-1]

    monkeypatch.setattr(predict.tiling, "plan_free", plan)
    return plans


def assert_same(found, expected):
    for quantity, values in expected[0].items():
        assert np.array_equal(found[0][quantity], values), quantity
    assert np.array_equal(found[1], expected[1])


def assert_same_partition(labels, expected):
    """The same cells, whatever their numbers."""
    pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
    assert np.array_equal(labels > 0, expected > 0)
    for numbers in pairs:
        assert len(np.unique(numbers)) == len(numbers)


@pytest.fixture(scope="module")
def whole(field, model):
    assert (HEIGHT + 16) * (WIDTH + 16) < predict.MAX_WHOLE_PX  # one tile
    result = run(field, model)
    assert result[1].max() > 50
    return result


def test_the_memory_limit_makes_tiles_and_changes_nothing(monkeypatch, field, model, whole):
    monkeypatch.setattr(predict, "MAX_WHOLE_PX", 0)
    monkeypatch.setattr(predict, "MAX_TILE_PX", 400_000)
    assert len(tiling.plan_free(HEIGHT, WIDTH, 400_000, model.card.margin, model.card.stride).tiles) > 1
    assert_same(run(field, model), whole)


@pytest.mark.parametrize("tile", [(256, 320), (416, 304), (704, 256)])
def test_every_tiling_gives_the_same_bits(monkeypatch, field, model, whole, tile):
    plans = use_tiles_of(monkeypatch, tile)
    assert_same(run(field, model), whole)
    assert len(plans[0].tiles) >= 4


@pytest.mark.parametrize("tile", [None, (256, 320)])
@pytest.mark.parametrize("shift", [(128, 160), (16, 0), (208, 304)])
def test_a_shifted_image_gives_the_same_labels_inside(monkeypatch, model, tile, shift):
    # Nuclei with space around clumps: where all of the image hangs together, a seed at its border can reach anywhere
    field = decode(known_field(HEIGHT, WIDTH)).pixels
    # Without the join, which asks for the median of all pieces: at the border there are others
    alone = dataclasses.replace(model.card.separation, join=None)
    monkeypatch.setattr(model, "card", dataclasses.replace(model.card, separation=alone))
    _, expected = run(field, model)
    if tile:
        use_tiles_of(monkeypatch, tile)
    down, right = shift
    _, labels = run(np.roll(field, shift, (0, 1)), model)
    away = 112  # from every border: the receptive field and a cell
    inside = expected[away : HEIGHT - down - away, away : WIDTH - right - away]
    assert len(np.unique(inside)) > 20
    assert_same_partition(labels[down + away : HEIGHT - away, right + away : WIDTH - away], inside)


def test_the_margin_has_a_stride_to_spare(monkeypatch, field, model, whole):
    card = model.card
    use_tiles_of(monkeypatch, (256, 320))
    monkeypatch.setattr(model, "card", dataclasses.replace(card, margin=card.margin - card.stride))
    assert_same(run(field, model), whole)


def test_without_a_margin_the_seams_show(monkeypatch, field, model, whole):
    use_tiles_of(monkeypatch, (256, 320))
    monkeypatch.setattr(model, "card", dataclasses.replace(model.card, margin=0))
    assert not np.array_equal(run(field, model)[0]["foreground"], whole[0]["foreground"])


@pytest.mark.parametrize("shape", [(1, 1), (1, 333), (333, 1), (17, 31), (255, 257)])
def test_images_of_odd_sizes_keep_their_size(field, model, shape):
    maps, labels = run(np.ascontiguousarray(field[: shape[0], : shape[1]]), model)
    assert labels.shape == shape
    assert labels.dtype == np.uint16
    for quantity, values in maps.items():
        reduction = model.maps[quantity].reduction
        assert all(side * reduction % model.card.stride == 0 for side in values.shape)


def test_the_order_of_images_does_not_matter(field, model, whole):
    run(field[:100, :90], model)
    run(np.zeros((33, 47), np.uint16), model)
    assert_same(run(field, model), whole)


def test_sixteen_bits_of_the_same_picture_give_the_same_labels(field, model, whole):
    assert_same(run(field.astype(np.uint16), model), whole)
