import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cellseg_host.evaluation import roc

TRUTH = np.array([True, True, False, True, False, False])
PROBABILITY = np.array([0.9, 0.8, 0.8, 0.6, 0.3, 0.1])

# Probabilities on a coarse grid, so that there are ties
cases = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=60).map(
    lambda pairs: (np.array([t for t, _ in pairs]), np.array([p / 10 for _, p in pairs]))
)


def test_a_curve_drawn_by_hand():
    curve = roc.roc(TRUTH, PROBABILITY)
    assert curve.threshold.tolist() == [np.inf, 0.9, 0.8, 0.6, 0.3, 0.1]
    assert curve.true_positive_rate == pytest.approx([0, 1 / 3, 2 / 3, 1, 1, 1])
    assert curve.false_positive_rate == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert curve.auc == pytest.approx(7.5 / 9)  # of nine pairs seven are in order and one is a tie


@given(cases)
def test_the_area_is_the_chance_that_a_pair_is_in_order(case):
    truth, probability = case
    auc = roc.roc(truth, probability).auc
    if truth.all() or not truth.any():
        assert auc is None
    else:
        u = stats.mannwhitneyu(probability[truth], probability[~truth], method="asymptotic").statistic
        assert auc == pytest.approx(u / (truth.sum() * (~truth).sum()))


@given(cases)
def test_every_point_of_the_curves_is_what_its_threshold_gives(case):
    truth, probability = case
    curve, precision = roc.roc(truth, probability), roc.precision_recall(truth, probability)
    for index, threshold in enumerate(curve.threshold[1:]):
        counts = roc.at_threshold(truth, probability, threshold)
        if truth.any():
            assert curve.true_positive_rate[index + 1] == counts.sensitivity.value == precision.recall[index]
        if not truth.all():
            assert curve.false_positive_rate[index + 1] == pytest.approx(1 - counts.specificity.value)
        assert precision.precision[index] == counts.ppv.value
    assert (precision.average_precision is None) == (not truth.any())


def test_average_precision_is_the_mean_precision_at_each_hit():
    """Without ties: precision at ranks 1, 2 and 4 of the hits."""
    truth = np.array([True, True, False, True, False])
    curve = roc.precision_recall(truth, np.array([0.9, 0.8, 0.7, 0.6, 0.5]))
    assert curve.average_precision == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_the_confusion_matrix_and_its_shares():
    counts = roc.at_threshold(TRUTH, PROBABILITY, 0.6)
    four = (counts.true_positives, counts.false_positives, counts.true_negatives, counts.false_negatives)
    assert four == (3, 1, 2, 0)
    assert counts.accuracy.value == pytest.approx(5 / 6)
    assert (counts.sensitivity.value, counts.specificity.value) == pytest.approx((1, 2 / 3))
    assert (counts.ppv.value, counts.npv.value) == pytest.approx((3 / 4, 1))


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_wilsons(hits, of, low, high):
    """As in R. Newcombe, Statistics in Medicine 17, 857–872 (1998), table I."""
    assert roc.Proportion(hits, of).interval == pytest.approx((low, high), abs=5e-5)


def test_no_case_no_share():
    assert roc.Proportion(0, 0).value is None
    assert roc.Proportion(0, 0).interval is None


@pytest.mark.parametrize("value", [True, False])
def test_one_kind_only_is_no_crash(value):
    truth, probability = np.full(3, value), np.array([0.2, 0.5, 0.7])
    assert roc.roc(truth, probability).auc is None
    assert roc.best_threshold(truth, probability) == 0.5
    counts = roc.at_threshold(truth, probability, 0.5)
    assert (counts.sensitivity.value is None) != value
    assert (counts.specificity.value is None) == value
    assert (roc.precision_recall(truth, probability).average_precision is None) != value


def test_no_case_at_all_is_no_crash():
    nothing = np.array([], bool), np.array([])
    assert roc.roc(*nothing).auc is None
    assert roc.precision_recall(*nothing).average_precision is None
    assert roc.at_threshold(*nothing, 0.5).accuracy.value is None


@given(cases)
def test_the_best_threshold_has_the_largest_j(case):
    truth, probability = case
    if truth.all() or not truth.any():
        return

    def j(threshold):
        counts = roc.at_threshold(truth, probability, threshold)
        return counts.sensitivity.value + counts.specificity.value - 1

    best = roc.best_threshold(truth, probability)
    assert j(best) == pytest.approx(max(j(t) for t in np.linspace(0, 1, 21)))


def test_the_best_threshold_lies_between_the_kinds():
    assert roc.best_threshold(np.array([False, True]), np.array([0.2, 0.6])) == pytest.approx(0.4)
