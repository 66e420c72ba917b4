"""What a gate sees of an image, and which class it takes it to be."""

import cv2
import gates
import numpy as np
import pytest

from cellseg_device.errors import ModelError
from cellseg_device.image.pixels import Image
from cellseg_device.pipeline import predict
from cellseg_device.pipeline.gate import classify, made_small, open_gate, views

RNG = np.random.default_rng(0)


@pytest.fixture
def tint(tmp_path):
    return open_gate(gates.write_gate(tmp_path / "tint.tflite"))


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ((30, 30, 30), "fluorescence"),
        ((200, 200, 200), "chamber"),
        ((220, 150, 120), "smear"),
        ((90, 120, 220), "blank"),
    ],
)
def test_an_image_is_of_the_class_that_is_most_likely(tint, colour, name):
    verdict = classify(Image(gates.tinted(*colour)), tint)
    assert verdict.found.name == name
    assert 0.5 < verdict.probability <= 1
    assert verdict.probability == round(verdict.probability, 4)


def test_the_gate_sees_what_the_network_sees(tint):
    """One channel, what surrounds the field filled up, and levels between percentiles."""
    pixels = gates.tinted(220, 150, 120)
    assert classify(Image(pixels, channel=1), tint).found.name in ("fluorescence", "chamber")  # grey has no tint
    field = np.zeros(pixels.shape[:2], np.uint8)
    cv2.circle(field, (80, 60), 55, 255, -1)
    blue = np.where(field[..., None] > 0, pixels, np.array([0, 0, 255], np.uint8))
    assert classify(Image(blue, field=field), tint).found.name == "smear"
    faint = (gates.tinted(30, 30, 30)[..., 0].astype(np.uint16) + 1000) * 3
    assert classify(Image(faint), tint).found.name == "fluorescence"


def test_levels_are_those_of_the_table(model):
    colour = gates.tinted(90, 80, 70)
    for pixels in (colour, colour[..., 0], colour[..., 0].astype(np.uint16) * 200):
        image = Image(pixels)
        shown, table = predict.shown(image, model.card)
        assert np.array_equal(predict.levels(image, model.card), table[shown])


@pytest.mark.parametrize("shape", [(120, 160), (1200, 1600), (65, 63), (64, 64), (10, 5), (1, 5000), (5000, 1), (1, 1)])
def test_a_field_is_made_small_and_never_enlarged(shape):
    small = made_small(np.full((*shape, 3), 7, np.uint8), 64)
    assert small.shape[:2] == shape if max(shape) <= 64 else max(small.shape[:2]) == 64
    assert min(small.shape[:2]) == max(round(64 * min(shape) / max(shape, default=0)), 1) or max(shape) <= 64
    assert (small == 7).all()


def test_made_small_is_the_mean_of_the_area():
    levels = RNG.integers(0, 256, (256, 320), dtype=np.uint8)
    means = levels.reshape(64, 4, 80, 4).mean(axis=(1, 3))
    assert np.abs(made_small(levels, 80) - means).max() <= 0.5


def test_the_views_are_whole_strides_continued_by_their_mirror_image():
    levels = RNG.integers(0, 256, (50, 61, 3), dtype=np.uint8)
    (view,) = views(levels, gates.kinds_gate(side_px=64), 8)
    assert view.shape == (56, 64, 3)
    assert np.array_equal(view[:50, :61], levels)
    assert np.array_equal(view[50:], view[43:49][::-1])


@pytest.mark.parametrize("shape", [(32, 32), (33, 100), (96, 64), (20, 45), (5, 5)])
def test_squares_cover_the_image(shape):
    levels = np.arange(shape[0] * shape[1]).reshape(shape)
    coded = np.dstack([levels // 256, levels % 256, levels * 0]).astype(np.uint8)
    squares = list(views(coded, gates.presence_gate(32), 8))
    assert all(square.shape == (32, 32, 3) for square in squares)
    assert len(squares) == -(-shape[0] // 32) * -(-shape[1] // 32)
    assert {tuple(value) for square in squares for value in square.reshape(-1, 3)} == {
        tuple(value) for value in coded.reshape(-1, 3)
    }


def test_the_square_that_most_likely_shows_a_cell_decides(tmp_path, draw_blobs):
    presence = open_gate(gates.write_presence_gate(tmp_path / "presence.tflite"))
    lonely = np.clip(RNG.normal(12, 2, (128, 160)), 0, 255).astype(np.uint8)
    lonely[100:120, 130:150] = 200
    assert classify(Image(lonely), presence).found.name == "cells"
    lonely[100:120, 130:150] = 12
    lonely[::20, ::20] = 200  # so that the ground is not stretched
    verdict = classify(Image(lonely), presence)
    assert (verdict.found.name, verdict.found.follows) == ("empty", "empty")


def test_a_classifier_that_does_not_say_what_follows_is_no_gate(tmp_path, model_path):
    path = tmp_path / "plain.tflite"
    from cellseg_device.model import card as cards

    path.write_bytes(cards.attach(gates.classifier(), gates.card_of(None)))
    with pytest.raises(ModelError, match=r"so it is no gate: quantize it again with 'cellseg-host quantize'"):
        open_gate(path)
    with pytest.raises(ModelError, match="a gate is a classifier"):
        open_gate(model_path)
