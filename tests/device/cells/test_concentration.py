"""Concentrations and their intervals, against SciPy's chi-square quantiles."""

import numpy as np
import pytest
from scipy.stats import chi2

from cellseg_device.cells.concentration import concentration, poisson_interval, volume_ml


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 20, 100, 999, 12_345, 1_000_000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_interval_is_garwoods(count, confidence):
    tail = (1 - confidence) / 2
    low = chi2.ppf(tail, 2 * count) / 2 if count else 0
    assert poisson_interval(count, confidence) == pytest.approx((low, chi2.isf(tail, 2 * count + 2) / 2), rel=1e-6)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = {}
    held = 0
    for count in rng.poisson(12, 4000).tolist():
        low, high = intervals.setdefault(count, poisson_interval(count))
        held += low <= 12 <= high
    assert 0.95 <= held / 4000 <= 0.985  # at least 95 %, a little more since counts are whole


def test_a_square_millimetre_of_a_neubauer_chamber_holds_a_tenth_of_a_microlitre():
    assert volume_ml(2000 * 2000, 0.5, 0.1) == pytest.approx(1e-4)


def test_concentration_is_of_the_undiluted_sample():
    found = concentration(50, volume_ml(2000 * 2000, 0.5, 0.1), dilution=2)
    assert found.per_ml == pytest.approx(1e6)
    low, high = poisson_interval(50)
    assert (found.low_per_ml, found.high_per_ml) == pytest.approx((low * 2e4, high * 2e4))
