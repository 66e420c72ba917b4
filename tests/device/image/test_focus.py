"""The focus score: what it is, that blur lowers it, and that the light does not matter."""

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg_device.image import focus

SAMPLES = sorted((Path(__file__).resolve().parents[3] / "models" / "samples").glob("*.png"))


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_blur_lowers_it_step_by_step(path):
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    scores = [focus.score(pixels)]
    scores += [focus.score(cv2.GaussianBlur(pixels, (0, 0), sigma)) for sigma in (0.7, 1, 1.5, 2, 3, 4, 6, 8)]
    assert len(SAMPLES) == 5
    assert all(sharper > 1.02 * softer for sharper, softer in itertools.pairwise(scores))


@pytest.mark.parametrize("shape", [(40, 51), (40, 51, 3), (3, 1), (1, 3), (2, 7, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_it_is_brenners_gradient_over_the_mean(shape, dtype):
    pixels = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    values = pixels.astype(float)
    columns, rows = values[:, 2:] - values[:, :-2], values[2:] - values[:-2]
    pairs = columns[..., 0].size + rows[..., 0].size if values.ndim == 3 else columns.size + rows.size
    expected = np.sqrt(((columns**2).sum() + (rows**2).sum()) / pairs / (values.mean((0, 1)) ** 2).sum())
    assert focus.score(pixels) == pytest.approx(expected, rel=1e-9)


def test_the_light_its_colour_and_the_depth_do_not_matter(draw_blobs):
    grey = draw_blobs() // 2
    score = focus.score(grey)
    assert focus.score(grey * 2) == pytest.approx(score, rel=1e-9)
    assert focus.score(grey.astype(np.uint16) * 257) == pytest.approx(score, rel=1e-9)
    assert focus.score(np.dstack([grey] * 3)) == pytest.approx(score, rel=1e-9)
    assert focus.score(np.dstack([grey, 0 * grey, 0 * grey])) == pytest.approx(score, rel=1e-9)
    assert focus.score(grey[::-1, ::-1]) == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 2), (1, 1, 3), (2, 2, 3)])
def test_without_pairs_of_pixels_or_light_it_is_zero(shape):
    assert focus.score(np.full(shape, 9, np.uint8)) == 0
    assert focus.score(np.zeros((20, 20), np.uint16)) == 0
    assert focus.score(np.full((20, 20), 65535, np.uint16)) == 0
