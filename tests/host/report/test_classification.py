import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellseg_host.evaluation import roc
from cellseg_host.report import classification
from cellseg_host.report.accuracy import accuracy, difference
from cellseg_host.report.classification import METRICS, Cases, auc_of, average_precision_of, confusion
from cellseg_host.report.classifiers import ClassifierComparison
from cellseg_host.report.settings import Settings
from cellseg_host.report.statistics import resamples

cases_strategy = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=40).map(
    lambda pairs: make([t for t, _ in pairs], [p / 8 for _, p in pairs])
)


def make(truth, probability, image=None, threshold=0.5):
    count = len(truth)
    numbers = np.arange(count) if image is None else np.asarray(image)
    return Cases(np.array(truth, bool), np.array(probability, np.float64), numbers, threshold)


def same(found, expected):
    return math.isnan(found) if expected is None else found == pytest.approx(expected)


@given(cases_strategy)
def test_unweighted_they_are_those_of_roc(cases):
    ones = np.ones((1, len(cases.truth)))
    assert same(auc_of(cases)(ones)[0], roc.roc(cases.truth, cases.probability).auc)
    expected = roc.precision_recall(cases.truth, cases.probability).average_precision
    assert same(average_precision_of(cases)(ones)[0], expected)


@given(cases_strategy, st.integers(0, 100))
def test_a_weight_is_how_often_an_image_is_drawn(cases, seed):
    weights = resamples(len(cases.truth), 1, seed)
    drawn = np.repeat(np.arange(len(cases.truth)), weights[0].astype(int))
    truth, probability = cases.truth[drawn], cases.probability[drawn]
    assert same(auc_of(cases)(weights)[0], roc.roc(truth, probability).auc)
    assert same(average_precision_of(cases)(weights)[0], roc.precision_recall(truth, probability).average_precision)


def test_rates_at_the_threshold():
    cases = make([1, 1, 1, 0, 0], [0.9, 0.5, 0.2, 0.6, 0.1])
    assert confusion(cases) == {
        "true_positives": 2,
        "false_positives": 1,
        "true_negatives": 1,
        "false_negatives": 1,
    }
    found = {k: v.value for k, v in accuracy(METRICS, cases, resamples(5, 1000)).items()}
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["ppv"] == pytest.approx(2 / 3)
    assert found["npv"] == pytest.approx(1 / 2)
    assert found["accuracy"] == pytest.approx(3 / 5)
    strict = accuracy(METRICS, make(cases.truth, cases.probability, threshold=0.8), resamples(5, 1000))
    assert strict["specificity"].value == 1


def test_views_of_one_image_are_drawn_together():
    """Ten copies of each view say no more than one: the interval stays as wide."""
    rng = np.random.default_rng(0)
    truth = rng.random(40) > 0.5
    probability = np.clip(truth * 0.3 + rng.random(40) * 0.7, 0, 1)
    weights = resamples(40, 1000)
    once = accuracy(METRICS, make(truth, probability), weights)
    copies = make(np.repeat(truth, 10), np.repeat(probability, 10), np.repeat(np.arange(40), 10))
    often = accuracy(METRICS, copies, weights)
    for key, found in once.items():
        assert (often[key].low, often[key].high) == (pytest.approx(found.low), pytest.approx(found.high)), key


def test_all_of_one_kind_leaves_what_is_undefined_open():
    found = accuracy(METRICS, make([1, 1, 1], [0.9, 0.8, 0.1]), resamples(3, 1000))
    assert math.isnan(found["auc"].value)
    assert math.isnan(found["specificity"].value)
    assert found["sensitivity"].value == pytest.approx(2 / 3)
    right, wrong = make([1, 0], [0.9, 0.1]), make([1, 0], [0.1, 0.9])
    assert difference(METRICS, right, wrong, resamples(2, 1000))["auc"].value == 1


def test_many_views_are_worked_on_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    cases = make(rng.random(50) > 0.4, rng.random(50))
    weights = resamples(50, 100)
    whole = auc_of(cases)(weights)
    monkeypatch.setattr(classification, "_MAX_CELLS", 7 * 50)
    assert np.allclose(auc_of(cases)(weights), whole, equal_nan=True)


def test_a_model_without_a_value_leaves_another_the_best():
    silent, right = make([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.1]), make([1, 1, 0, 0], [0.9, 0.8, 0.6, 0.1])
    for answers in ((silent, right), (right, silent)):
        compared = ClassifierComparison(
            contenders=(),
            dataset="data",
            settings=Settings(),
            answers=answers,
            timings=(),
            views=("a", "b", "c", "d"),
            image_of=("a", "b", "c", "d"),
            side=32,
        )
        assert compared.best["ppv"] == 0.667  # the silent one calls nothing positive
        assert compared.best["auc"] == 1.0
