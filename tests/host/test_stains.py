"""Colour deconvolution: what was mixed is recovered, and levels go to densities and back."""

import numpy as np
import pytest

from cellseg_host import stains


def test_levels_go_to_densities_and_back():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    density = stains.densities(levels)
    assert density[-1, -1] == 0
    assert density[0, 0] == pytest.approx(1)
    assert (np.diff(density.ravel()) < 0).all()
    assert np.allclose(stains.levels_through(density), levels / 255, atol=1e-5)


@pytest.mark.parametrize("counter", [stains.EOSIN, stains.DAB])
def test_a_mixture_is_taken_apart(counter):
    amounts = np.random.default_rng(0).uniform(0, 0.25, (20, 30, 2))
    density = amounts @ [np.array(v) / np.linalg.norm(v) for v in (stains.HAEMATOXYLIN, counter)]
    levels = np.rint(255 * stains.levels_through(density.astype(np.float32))).astype(np.uint8)
    found = stains.densities(levels) @ stains.separation(stains.HAEMATOXYLIN, counter).T
    assert np.allclose(found[..., :2], amounts, atol=0.02)
    assert np.abs(found[..., 2]).max() < 0.02


def test_the_residual_is_what_neither_dye_explains():
    first, second, rest = stains.mixing(stains.HAEMATOXYLIN, stains.EOSIN).T
    assert first @ rest == pytest.approx(0, abs=1e-12)
    assert second @ rest == pytest.approx(0, abs=1e-12)
    assert np.allclose(stains.separation() @ rest, (0, 0, 1))
    assert np.allclose(np.linalg.norm([first, second, rest], axis=1), 1)
