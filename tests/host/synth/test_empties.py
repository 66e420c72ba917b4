"""Fields without a nucleus: well formed, no two alike, and the bundled model finds nothing in them."""

import cv2
import numpy as np
import pytest

from cellseg_device.pipeline import segment
from cellseg_host.synth.empties import KINDS, TEST_SEEDS, TEST_SHAPE, make_empty

FLAT = ("saturated", "black")


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_is_that_of_its_seed(kind):
    one, again, other = (make_empty(kind, (64, 80), seed) for seed in (1, 1, 2))
    assert one.shape[:2] == (64, 80)
    assert one.dtype in (np.uint8, np.uint16)
    assert np.array_equal(one, again)
    assert np.array_equal(one, other) == (kind in FLAT)
    assert (np.ptp(one) == 0) == (kind in FLAT)


def test_kinds_have_chances_of_their_own():
    dark, hot = (make_empty(kind, (32, 32), 0).astype(int) for kind in ("dark noise", "hot pixels"))
    assert np.corrcoef(dark.ravel(), np.minimum(hot, 120).ravel())[0, 1] < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (33, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_size_can_be_made(kind, shape):
    assert make_empty(kind, shape, 3).shape[:2] == shape


# False cells in the first field of a kind; in all fifty fields two have some (models/nuclei.md)
KNOWN = {"tissue without nuclei": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundled_model_counts_nothing(model, kind):
    pixels = make_empty(kind, TEST_SHAPE, TEST_SEEDS[0])
    stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".png", stored)[1].tobytes()
    assert segment.segment(data, model).counts.count <= KNOWN.get(kind, 0)
