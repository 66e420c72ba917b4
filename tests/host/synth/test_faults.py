"""Faults: the same each time, worse from strength to strength, and the truth where the cells are."""

import cv2
import numpy as np
import pytest

from cellseg_device.image import normalise
from cellseg_host.data.dataset import diameters_px
from cellseg_host.synth import SynthSettings, faults, make_field
from cellseg_host.synth.fault import Field, in_bytes, in_range
from cellseg_host.synth.faults import FAULTS, STRENGTHS, faulty
from cellseg_host.synth.scene_faults import beside_fibre, through_eyepiece

_MOVING = (faults.magnified, through_eyepiece, beside_fibre)
IN_PLACE = [name for name, fault in FAULTS.items() if fault.apply not in _MOVING]


def field(kind="fluorescence", bits=8, **settings):
    settings = {"height": 160, "width": 200, "cells": 15, "diameter_px": 20.0, **settings}
    pixels, labels = make_field(SynthSettings(kind, bits=bits, **settings), 5)
    return Field(pixels, labels, float(np.median(diameters_px(labels))))


@pytest.fixture(scope="module", params=[("fluorescence", 8), ("fluorescence", 16), ("histology", 8)])
def any_field(request):
    return field(*request.param)


def unlike(a, b):
    """1 - correlation of two images."""
    return 1 - np.corrcoef(in_range(a).ravel(), in_range(b).ravel())[0, 1]


@pytest.mark.parametrize("strength", range(len(STRENGTHS)), ids=STRENGTHS)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_gives_the_same_well_formed_field_each_time(any_field, name, strength):
    one, again = (faulty(any_field, name, strength, "id") for _ in range(2))
    assert np.array_equal(one.pixels, again.pixels)
    assert np.array_equal(one.labels, again.labels)
    assert one.pixels.dtype == (np.uint16 if name == "16 bit" or one.pixels.dtype == np.uint16 else np.uint8)
    assert one.pixels.ndim == any_field.pixels.ndim
    assert one.pixels.shape[:2] == one.labels.shape
    assert np.unique(one.labels).tolist() == list(range(int(one.labels.max()) + 1))


@pytest.mark.parametrize("name", IN_PLACE)
def test_cells_stay_where_they_are(any_field, name):
    assert np.array_equal(faulty(any_field, name, 2, "id").labels, any_field.labels)


@pytest.mark.parametrize("name", ["dim", "noisy", "blurred", "JPEG", "inverted"])
def test_a_stronger_fault_leaves_less_of_the_image(any_field, name):
    clean = any_field.pixels
    if name == "inverted":
        clean = np.iinfo(clean.dtype).max - clean
    far = [unlike(clean, faulty(any_field, name, strength, "id").pixels) for strength in range(3)]
    assert far[0] < far[1] < far[2]


@pytest.mark.parametrize("name", ["dim", "noisy", "inverted"])
def test_chance_is_each_images_own(any_field, name):
    one, other = (faulty(any_field, name, 1, name_of_image).pixels for name_of_image in ("a", "b"))
    assert not np.array_equal(one, other)


def test_noise_is_as_strong_as_said():
    flat = Field(np.tile(np.arange(200, dtype=np.uint8), (200, 1)), np.zeros((200, 200), np.uint16), 0)
    added = faulty(flat, "noisy", 1, "id").pixels - in_bytes(in_range(flat.pixels)).astype(float)
    assert added[:, 20:-20].std() / 191 == pytest.approx(0.08, rel=0.03)


def test_faults_do_not_depend_on_how_the_image_was_exposed():
    for name in IN_PLACE:
        one = field(FAULTS[name].modality or "fluorescence")
        brighter = Field((one.pixels.astype(np.uint16) * 100 + 300), one.labels, one.diameter_px)
        a, b = (faulty(f, name, 1, "id").pixels.astype(int) for f in (one, brighter))
        assert np.mean(np.abs(a - b) <= 1) > 0.99, name


@pytest.mark.parametrize("strength", range(3), ids=STRENGTHS)
def test_the_device_sees_sixteen_bits_as_eight(strength):
    one = field()
    deep = faulty(one, "16 bit", strength, "id").pixels
    assert deep.max() > 255
    seen = [normalise.stretched(pixels, 1, 99.9).astype(int) for pixels in (one.pixels, deep)]
    assert np.abs(seen[0] - seen[1]).max() <= 2


def test_inverted_is_darker_where_it_was_brighter():
    one = field()
    turned = faulty(one, "inverted", 0, "id").pixels
    inside = one.labels > 0
    assert one.pixels[inside].mean() > one.pixels[~inside].mean()
    assert turned[inside].mean() < turned[~inside].mean()


def test_jpeg_keeps_the_colours_in_their_order():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0] = 200
    red, _, blue = cv2.split(faulty(Field(pixels, np.zeros((32, 32), np.uint16), 0), "JPEG", 0, "id").pixels)
    assert red.min() > blue.max()


@pytest.mark.parametrize("diameter_px", [8, 12, 40, 100])
def test_magnified_has_the_diameter_and_the_truth_fits_the_image(diameter_px):
    one = field(touching=0.0)
    scaled = faults.magnified(one, diameter_px, np.random.default_rng())
    assert scaled.diameter_px == diameter_px
    assert np.median(diameters_px(scaled.labels)) == pytest.approx(diameter_px, rel=0.05)
    ratio = diameter_px / one.diameter_px
    assert scaled.labels.shape == (round(160 * ratio), round(200 * ratio))
    assert scaled.labels.max() == one.labels.max()
    # Shifted by a tenth of a cell, the truth fits less well
    near, far = (contrast(scaled.pixels, np.roll(scaled.labels, n, 1)) for n in (0, max(round(diameter_px / 5), 1)))
    assert near > far


def contrast(pixels, labels):
    inside = labels > 0
    return pixels[inside].mean() - pixels[~inside].mean()


def test_a_cell_without_a_pixel_left_is_none():
    labels = np.zeros((60, 60), np.uint16)
    labels[5:35, 5:35] = 1
    labels[51, 50] = 2
    labels[40:58, 5:25] = 3
    scaled = faults.magnified(Field(labels.astype(np.uint8), labels, 30), 8, np.random.default_rng())
    assert np.unique(scaled.labels).tolist() == [0, 1, 2]


def test_a_large_image_is_cut_to_its_middle(monkeypatch):
    monkeypatch.setattr(faults, "MAX_PX", 10_000)
    labels = np.zeros((100, 300), np.uint16)
    labels[45:55, 145:155] = 1
    labels[:5, :5] = 2
    scaled = faults.magnified(Field(labels.astype(np.uint8), labels, 10), 20, np.random.default_rng())
    assert scaled.labels.size <= 10_000
    assert scaled.labels.shape == scaled.pixels.shape == (56, 172)
    assert scaled.labels[28, 86] == scaled.labels.max() == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 3), (1, 1, 3), (9, 9, 3)])
@pytest.mark.parametrize("name", FAULTS)
def test_tiny_flat_images_without_a_cell_pass(name, shape):
    for strength in range(3):
        made = faulty(Field(np.full(shape, 7, np.uint8), np.zeros(shape[:2], np.uint16), 0), name, strength, "id")
        assert made.pixels.shape == shape
