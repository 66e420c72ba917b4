"""Better is a higher mean AP@0.5 with counts that are not further off."""

import math

import pytest

from cellseg_host.adapt.verdict import Verdict, joined
from cellseg_host.evaluation.evaluate import ImageScore


def score(ap50, counted, true=10, name="a"):
    return ImageScore(name, "corrected", "corrected", true, counted, 5, 0.5, 0.5, 0.5, (ap50, *[0.2] * 9))


def verdict(before, after):
    return Verdict(tuple(score(*pair) for pair in before), tuple(score(*pair) for pair in after))


@pytest.mark.parametrize(
    ("before", "after", "is_better"),
    [
        ([(0.5, 8)], [(0.6, 9)], True),
        ([(0.5, 8)], [(0.6, 8)], True),
        ([(0.5, 8)], [(0.6, 12)], True),  # as far off as before
        ([(0.5, 8)], [(0.6, 7)], False),
        ([(0.5, 8)], [(0.5, 10)], False),
        ([(0.5, 8)], [(0.4, 10)], False),
        ([(0.9, 10), (0.1, 10)], [(0.7, 10), (0.4, 10)], True),  # the mean counts, not each image
        ([(0.5, 13), (0.5, 7)], [(0.6, 12), (0.6, 9)], True),  # image by image, where errors do not cancel
        ([(0.5, 10), (0.5, 10)], [(0.6, 12), (0.6, 8)], False),
    ],
)
def test_better_is_found_better_and_not_counted_worse(before, after, is_better):
    assert verdict(before, after).is_better is is_better


def test_one_cell_in_a_hundred_may_be_counted_worse():
    def after(counted):
        return Verdict((score(0.5, 300, true=300),), (score(0.6, counted, true=300),))

    assert after(297).is_better
    assert after(303).is_better
    assert not after(296).is_better


def test_the_interval_is_that_of_the_paired_change():
    found = verdict([(0.2, 10), (0.4, 10), (0.6, 10)], [(0.3, 10), (0.5, 10), (0.7, 10)])
    gain = found.gains["ap50"]
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.1, 0.1, 0.1))
    assert math.isnan(verdict([(0.2, 10)], [(0.3, 10)]).gains["ap50"].low)


def test_verdicts_of_folds_are_joined_over_their_images():
    one, two = verdict([(0.2, 8)], [(0.4, 9)]), verdict([(0.6, 11), (0.7, 9)], [(0.6, 10), (0.7, 10)])
    found = joined([one, two])
    assert found.new.images == 3
    assert found.old.ap50 == pytest.approx(0.5)
    assert found.numbers() == "AP@0.5 0.500 to 0.567, count error, image by image, 13.3% to 3.3%"
    assert [pair[1].ap50 for pair in found.worst_first] == [0.4, 0.6, 0.7]
