"""Faults of slides and of what lies beside the cells: what each is named after, and the truth that is left."""

import cv2
import numpy as np
import pytest

from cellseg_device.cells import surround
from cellseg_host.data.dataset import diameters_px
from cellseg_host.synth import SynthSettings, make_field
from cellseg_host.synth.fault import Field, in_range
from cellseg_host.synth.faults import FAULTS, faulty
from cellseg_host.synth.scene_faults import FAULTS as SCENE

SLIDE = [name for name, fault in SCENE.items() if fault.modality == "histology"]


def field(kind="histology", **settings) -> Field:
    settings = {"height": 240, "width": 260, "cells": 30, "diameter_px": 20.0, **settings}
    stain = {"stain": "he", "plain": True} if kind == "histology" else {}
    pixels, labels = make_field(SynthSettings(kind, **stain, **settings), 5)
    return Field(pixels, labels, float(np.median(diameters_px(labels))))


def mean(pixels, where) -> np.ndarray:
    return pixels[where].astype(float).mean(axis=0)


def test_they_are_among_the_faults():
    assert list(FAULTS)[-len(SCENE) :] == list(SCENE)
    assert {fault.modality for fault in SCENE.values()} == {"histology", "fluorescence"}
    assert len({faulty(field(), name, 2, "id").pixels.tobytes() for name in SLIDE}) == len(SLIDE)


@pytest.mark.parametrize("name", [n for n in SLIDE if n != "black surround"])
def test_a_grey_slide_stays_as_it_is(name):
    grey = Field(np.arange(400, dtype=np.uint8).reshape(20, 20), np.zeros((20, 20), np.uint16), 0)
    assert np.array_equal(faulty(grey, name, 1, "id").pixels, grey.pixels)


def test_pink_only_leaves_no_blue_and_blue_only_no_pink():
    slide = field()
    inside, outside = slide.labels > 0, slide.labels == 0
    red, green, blue = mean(slide.pixels, inside)
    assert blue > red  # before: nuclei are blue …
    reds = []
    for strength in range(3):
        red, green, blue = mean(faulty(slide, "pink only", strength, "id").pixels, inside)
        reds.append(red - blue)
    assert reds[0] < reds[1] < reds[2]
    assert red > blue > green
    red, green, blue = mean(slide.pixels, outside)
    assert red - green > 20  # … and tissue is pink
    pinks = []
    for strength in range(3):
        red, green, blue = mean(faulty(slide, "blue only", strength, "id").pixels, outside)
        pinks.append(red - green)
    assert pinks[0] > pinks[1] > pinks[2]
    assert blue > red


@pytest.mark.parametrize("name", ["pink only", "blue only"])
def test_nuclei_stay_darker_than_tissue(name):
    slide = field()
    pixels = faulty(slide, name, 2, "id").pixels
    assert mean(pixels, slide.labels > 0).mean() < mean(pixels, slide.labels == 0).mean() - 15


def test_a_yellow_ground_takes_blue_light():
    slide = field()
    blues = [in_range(faulty(slide, "yellow ground", s, "id").pixels)[..., 2].mean() for s in range(3)]
    assert blues[0] > blues[1] > blues[2]
    red, green, blue = mean(faulty(slide, "yellow ground", 2, "id").pixels, slide.labels == 0)
    assert red > green - 5
    assert min(red, green) > blue


def test_bright_holes_take_their_share_and_no_nucleus():
    slide = field()
    changed = []
    for strength, share in enumerate(FAULTS["bright holes"].strengths):
        pixels = faulty(slide, "bright holes", strength, "id").pixels
        brighter = pixels.min(axis=2) > 210
        changed.append(brighter[slide.labels == 0].mean())
        assert 0.5 * share < changed[-1] < 1.6 * share
        assert not brighter[slide.labels > 0].any()
    # Round, and as large as nuclei
    _, _, stats, _ = cv2.connectedComponentsWithStats(brighter.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    assert 10 < np.sqrt(4 / np.pi * np.median(areas[areas > 20])) < 40


def test_uneven_light_darkens_corners_only():
    slide = field()
    uneven = faulty(slide, "uneven light", 2, "id").pixels.mean(axis=2)
    plain = slide.pixels.mean(axis=2)
    ratio = cv2.resize(uneven / plain, (8, 8), interpolation=cv2.INTER_AREA)
    assert ratio[[0, 0, -1, -1], [0, -1, 0, -1]].min() < 0.75 * ratio.max()


@pytest.mark.parametrize("strength", range(3))
def test_the_device_finds_the_black_surround_and_the_truth_lies_in_it(strength):
    slide = field()
    made = faulty(slide, "black surround", strength, "id")
    part = FAULTS["black surround"].strengths[strength]
    found = surround.find(made.pixels)
    assert found.shade == "dark"
    assert found.field.kind == "circle"
    assert (made.pixels.max(axis=2) > 60).mean() == pytest.approx(part, abs=0.04)
    assert not made.labels[made.pixels.max(axis=2) < 15].any()
    assert 0 < made.labels.max() <= slide.labels.max()


def test_a_bright_fibre_outshines_the_cells_and_hides_some():
    cells = field("fluorescence")
    shown, left = [], []
    for strength, brightness in enumerate(FAULTS["bright fibre"].strengths):
        made = faulty(cells, "bright fibre", strength, "id")
        inside = mean(made.pixels, made.labels > 0) - 32  # grey levels above black
        shown.append(inside)
        left.append(int(made.labels.max()))
        assert np.unique(made.labels).tolist() == list(range(left[-1] + 1))
        fibre = made.pixels >= 200
        assert 0.03 < fibre.mean() < 0.4
        assert not made.labels[fibre].any() or brightness < 2
    assert shown[0] > 1.5 * shown[1] > 2 * shown[2]
    assert min(left) < cells.labels.max()
    assert min(left) > 0.5 * cells.labels.max()
