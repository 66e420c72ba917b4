import dataclasses
import math

import pytest

from cellseg_device.model import card as cards
from cellseg_host.evaluation.evaluate import ImageScore, by_group
from cellseg_host.report.statistics import Interval
from cellseg_host.report.verdict import share, verdict

AP50 = Interval(0.794, 0.749, 0.837)


@pytest.fixture(scope="module")
def card(model_path):
    """Of an int8 model whose float network was a little better."""
    metrics = {"split": "val of x (9 images)", "float32": {"ap50": 0.812}, "int8": {"ap50": 0.811}}
    return dataclasses.replace(cards.read_from(model_path.read_bytes()), metrics=metrics)


def summaries(*cells):
    """Of one image with true, counted and matched cells."""
    return by_group([ImageScore("a", "s", "m", *cells, 0.5, 0.5, 0.5, (0.5,) * 10)])


def test_the_first_sentence_says_all_in_short(card):
    said = verdict(card, summaries(3270, 3043, 2668), AP50)
    assert said[:2] == [
        (
            "The int8 model nuclei finds 82 of 100 cells, and 88 of 100 that it counts are cells: AP@0.5 is "
            "0.79 (0.75 to 0.84)."
        ),
        (
            "It counts 3,043 cells where 3,270 are true, 6.9% too few; the count of a single image is off by "
            "6.9% on average."
        ),
    ]


def test_few_cells_are_not_said_in_hundreds_and_one_image_has_no_interval(card):
    one = verdict(card, summaries(12, 13, 12), Interval(0.9, math.nan, math.nan))
    assert one[0] == "The int8 model nuclei finds all 12 cells, and 12 of 13 that it counts are cells: AP@0.5 is 0.90."
    assert one[1].startswith("It counts 13 cells where 12 are true, 8.3% too many;")
    assert one[2] == "Conversion to int8: AP@0.5 was 0.812 before and 0.811 after, on val of x (9 images)."


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ((0, 0, 0), "rightly counts none in images without a cell"),
        ((0, 7, 0), "counts 7 in images without a cell"),
        ((5, 0, 0), "finds 0 of 5 cells: AP"),
    ],
)
def test_nothing_true_and_nothing_counted(card, cells, words):
    said = verdict(card, summaries(*cells), AP50)
    assert words in said[0]
    assert "nan" not in " ".join(said).lower()
    assert "None" not in " ".join(said)


def test_a_loss_is_compared_with_what_chance_does(card):
    alike = verdict(card, summaries(10, 10, 10), AP50)[2]
    assert alike.startswith("It is as accurate as its float network, within chance: AP@0.5 was 0.812 before and 0.811 ")
    assert alike.endswith("the choice of images alone moves it by ±0.04.")
    worse = dataclasses.replace(card, metrics=card.metrics | {"int8": {"ap50": 0.7}})
    lost = verdict(worse, summaries(10, 10, 10), AP50)[2]
    assert lost.startswith(
        "It lost by its conversion to int8, more than chance explains: AP@0.5 was 0.812 before and 0.700"
    )


@pytest.mark.parametrize("change", [{"metrics": {}}, {"quantization": "float32"}])
def test_a_model_without_a_float_twin_is_compared_with_none(card, change):
    assert len(verdict(dataclasses.replace(card, **change), summaries(10, 10, 10), AP50)) == 2


def test_modalities_are_compared(card):
    good = ImageScore("a", "s", "fluorescence", 10, 10, 10, 0.9, 0.9, 0.9, (0.9,) * 10)
    poor = [ImageScore(str(i), "s", "histology", 10, 8, 5, 0.4, 0.4, 0.4, (0.4,) * 10) for i in range(2)]
    said = verdict(card, by_group([good, *poor]), AP50)
    assert said[-1] == "Best on fluorescence (AP@0.5 0.90, 1 image), weakest on histology (AP@0.5 0.40, 2 images)."


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (1000, 1000, "all 1,000"),
        (999, 1000, "99 of 100"),
        (1, 1000, "1 of 100"),
        (0, 1000, "0 of 100"),
        (99, 99, "all 99"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_none(part, whole, words):
    assert share(part, whole) == words
