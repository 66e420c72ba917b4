import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import ImageScore, summarise
from cellseg_host.report import statistics
from cellseg_host.report.accuracy import accuracy, difference
from cellseg_host.report.segmentation import METRICS
from cellseg_host.report.statistics import bland_altman, bootstrap, mean_of, ratio_of, resamples

shares = hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(0, 1))


def scores(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        ImageScore(f"i{n}", "s", "m", true, counted, min(true, counted) // 2, *rng.random(3), tuple(rng.random(10)))
        for n, (true, counted) in enumerate(rng.integers(0, 50, (count, 2)).tolist())
    ]


def test_a_resample_draws_as_many_images_as_there_are():
    weights = resamples(7, 500, seed=1)
    assert weights.shape == (500, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert weights.mean() == 1
    assert (weights == resamples(7, 500, seed=1)).all()
    assert (weights != resamples(7, 500, seed=2)).any()


def test_weights_are_draws():
    """The mean under weights is the mean of the images that were drawn."""
    values, weights = np.array([1.0, 2.0, 4.0]), np.array([[0.0, 2.0, 1.0]])
    assert mean_of(values)(weights)[0] == pytest.approx(np.mean([2, 2, 4]))
    assert ratio_of(values, [1, 1, 2])(weights)[0] == pytest.approx(8 / 4)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = bootstrap(mean_of(values), resamples(400, 4000))
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


@given(shares)
def test_an_interval_holds_the_value_and_lies_in_the_range(values):
    found = bootstrap(mean_of(values), resamples(len(values), 1000))
    assert values.min() - 1e-9 <= found.low <= found.high <= values.max() + 1e-9
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9 or np.ptp(values) > 0


@given(shares)
def test_a_model_does_not_differ_from_itself(values):
    statistic = statistics.difference_of(mean_of(values), mean_of(values))
    found = bootstrap(statistic, resamples(len(values), 1000))
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert not found.excludes_zero


def test_pairing_takes_out_what_images_have_in_common():
    """One model is better by a hundredth on every image: beyond doubt, though both vary far more."""
    values = np.random.default_rng(0).random(50) * 0.9
    weights = resamples(50)
    change = bootstrap(statistics.difference_of(mean_of(values + 0.01), mean_of(values)), weights)
    assert change.low == pytest.approx(0.01)
    assert change.excludes_zero
    assert bootstrap(mean_of(values), weights).high - bootstrap(mean_of(values), weights).low > 0.1


def test_one_image_gives_no_interval():
    found = bootstrap(mean_of([0.7]), resamples(1))
    assert found.value == 0.7
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert not found.excludes_zero


def test_a_ratio_of_nothing_is_none():
    found = bootstrap(ratio_of([0, 0], [0, 0]), resamples(2))
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    partly = bootstrap(ratio_of([1, 0, 0], [2, 0, 0]), resamples(3))
    assert (partly.value, partly.low, partly.high) == (0.5, 0.5, 0.5)


def test_the_metrics_are_those_of_evaluate():
    some = scores(9)
    summary, found = summarise(some), accuracy(METRICS, some, resamples(9))
    for metric in METRICS:
        assert found[metric.key].value == pytest.approx(getattr(summary, metric.key)), metric.key
        assert found[metric.key].low <= found[metric.key].high
    change = difference(METRICS, some, scores(9, 1), resamples(9))
    assert change["ap50"].value == pytest.approx(summary.ap50 - summarise(scores(9, 1)).ap50)


def test_count_errors_of_images_without_cells():
    empty = [
        ImageScore("a", "s", "m", 0, 3, 0, 0, 0, 0.5, (0.0,) * 10),
        ImageScore("b", "s", "m", 0, 0, 0, 1, 1, 1, (1.0,) * 10),
    ]
    found = accuracy(METRICS, empty, resamples(2))
    assert found["total_count_error"].value == summarise(empty).total_count_error == 3
    assert found["ap50"].value == 0.5
    assert found["precision"].value == summarise(empty).precision == 0
    for key in ("recall", "mean_count_error"):
        assert math.isnan(found[key].value)
        assert getattr(summarise(empty), key) is None


def test_bland_and_altman_by_hand():
    found = bland_altman([10, 20, 30, 40], [12, 20, 33, 39])
    assert found.mean.tolist() == [11, 20, 31.5, 39.5]
    assert found.difference.tolist() == [2, 0, 3, -1]
    assert found.bias == 1
    spread = 1.96 * math.sqrt((1 + 1 + 4 + 4) / 3)
    assert (found.low, found.high) == (pytest.approx(1 - spread), pytest.approx(1 + spread))


def test_limits_hold_95_percent_of_normal_differences():
    rng = np.random.default_rng(0)
    true = rng.integers(50, 100, 5000)
    found = bland_altman(true, true + rng.normal(2, 5, 5000))
    assert np.mean((found.difference > found.low) & (found.difference < found.high)) == pytest.approx(0.95, abs=0.01)


def test_the_agreement_of_a_single_image_is_its_difference():
    found = bland_altman([5], [8])
    assert (found.bias, found.low, found.high) == (3, 3, 3)


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.integers(0, 20)), st.integers(1, 8))
def test_bins_hold_every_value_once(values, bins):
    edges = statistics.quantile_edges(values, bins)
    place = statistics.bin_of(values, edges)
    assert len(edges) - 1 <= bins
    assert place.min() >= 0
    assert place.max() <= len(edges) - 2
    for value, index in zip(values, place, strict=True):
        assert edges[index] <= value <= edges[index + 1]


def test_bins_hold_about_equally_many():
    values = np.random.default_rng(0).random(600)
    counts = np.bincount(statistics.bin_of(values, statistics.quantile_edges(values, 6)))
    assert counts.tolist() == [100] * 6
    assert not len(statistics.quantile_edges([], 4))
    assert len(metrics.THRESHOLDS) == 10
