"""Tissue without a nucleus: well formed, no two fields alike, and each kind shows what it is named after."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_device.image.decode import decode
from cellseg_host.commands.synth import synth
from cellseg_host.data.dataset import load
from cellseg_host.synth import SynthSettings, histology, make_field, mishaps, scenery
from cellseg_host.synth.negatives import KINDS, make_negative

PLAIN = SynthSettings("histology", 200, 240, cells=0, diameter_px=24.0, stain="he", plain=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_is_that_of_its_kind_and_seed(kind):
    one, again, other = (make_negative(kind, (64, 80), seed) for seed in (1, 1, 2))
    assert (one.shape, one.dtype) == ((64, 80, 3), np.uint8)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.std() > 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (33, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_size_can_be_made(kind, shape):
    assert make_negative(kind, shape, 3).shape == (*shape, 3)


def scene(**changes) -> np.ndarray:
    """A field of even tissue with these changes of the scenery, as float."""
    bare = scenery.Scene(grain=0.05, bundles=0.05, turn=0.0)
    rng = np.random.default_rng(7)
    return histology.make_scene(PLAIN, rng, dataclasses.replace(bare, **changes))[0].astype(float)


@pytest.mark.parametrize("holes", [{"fat": 0.5}, {"foam": 0.3}, {"lumen": 0.3}, {"clefts": 0.3}])
def test_holes_are_bright(holes):
    even, holed = scene(), scene(**holes)
    bright = (holed.min(axis=2) > 205).mean()
    assert bright > 0.02 + (even.min(axis=2) > 205).mean()


def test_red_cells_are_red_and_not_over_nuclei():
    red, green, _ = np.moveaxis(scene(red_cells=20.0), 2, 0)
    assert 0.03 < (red - green > 90).mean() < 0.9
    settings = dataclasses.replace(PLAIN, cells=30, plain=False)
    bare = scenery.Scene()
    without, _ = histology.make_scene(settings, np.random.default_rng(3), bare)
    image, layout = histology.make_scene(settings, np.random.default_rng(3), dataclasses.replace(bare, red_cells=20.0))
    deep = layout.depth_px > 4
    darker = without.astype(float) - image
    assert abs(darker[deep].mean()) < 2  # the same but for noise
    assert darker[layout.labels == 0].mean() > 6


def test_blue_only_tissue_has_no_pink():
    def pinkness(is_blue_only: bool) -> float:
        looks = (scenery.draw(np.random.default_rng(seed)) for seed in range(200))
        return float(np.mean([look.red for look in looks if look.is_blue_only == is_blue_only]))

    assert pinkness(True) < 0.3 * pinkness(False)


@pytest.mark.parametrize("name", mishaps.MISHAPS)
def test_a_mishap_changes_part_of_the_slide(name):
    density = np.full((160, 200, 3), 0.2, np.float32)
    changed = mishaps.MISHAPS[name](np.random.default_rng(5), density.copy(), 20.0)
    assert (changed.shape, changed.dtype) == (density.shape, np.float32)
    share = (np.abs(changed - density).max(axis=2) > 0.02).mean()
    assert 0.002 < share < 0.95
    assert changed.max() > 0.3


def test_no_ink_lies_over_nuclei():
    drawn = [scenery.draw(np.random.default_rng(seed)).mishaps for seed in range(100)]
    assert {name for names in drawn for name in names} == set(mishaps.MISHAPS) - {"pen"}


def test_fields_differ_in_stain_more_than_plain_ones():
    def spread(plain: bool) -> float:
        settings = dataclasses.replace(PLAIN, height=64, width=64, plain=plain)
        return float(np.std([make_field(settings, seed)[0].mean(axis=(0, 1)) for seed in range(12)], axis=0).mean())

    assert spread(False) > 1.5 * spread(True)


def test_scenery_leaves_the_nuclei_where_they_are():
    settings = dataclasses.replace(PLAIN, cells=20)
    plain, full = (make_field(dataclasses.replace(settings, plain=plain), 9) for plain in (True, False))
    assert np.array_equal(plain[1], full[1])
    assert not np.array_equal(plain[0], full[0])


def test_command_makes_every_kind_of_tissue(tmp_path: Path):
    arguments = ["--kind", "tissue", "-n", "7", "--seed", "4", "--size", "50x40", "--split", "train"]
    made = CliRunner().invoke(synth, [str(tmp_path / "out"), *arguments])
    assert made.exit_code == 0, made.output
    dataset = load(tmp_path / "out")
    kinds = list(KINDS)
    for index, entry in enumerate(dataset.split("train")):
        kind = kinds[index % 6]
        assert entry.id == f"tissue-4-{index:04d}-{kind.replace(' ', '-')}"
        image = make_negative(kind, (40, 50), (4, 1) if index >= 6 else 4)
        assert np.array_equal(decode(dataset.image_bytes(entry)).pixels, image)
        assert (entry.cells, entry.modality) == (0, "histology")
    refused = CliRunner().invoke(synth, [str(tmp_path / "other"), "--kind", "tissue", "--cells", "3"])
    assert refused.exit_code == 2
    assert "--kind tissue has no nuclei" in refused.output
