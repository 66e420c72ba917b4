import pytest

from cellseg_host.evaluation.evaluate import ImageScore, by_group, summarise


def score(modality, true, counted, matched):
    return ImageScore(f"{true}-{counted}", "s", modality, true, counted, matched, 0.5, 0.5, 0.5, (0.5,) * 10)


def test_a_total_hides_what_the_mean_per_image_shows():
    """Ten too many and ten too few: the total is right, and each image is off by a fifth."""
    summary = summarise([score("m", 50, 60, 45), score("m", 50, 40, 35)])
    assert summary.total_count_error == 0
    assert summary.image_count_error == pytest.approx(0.2)
    assert summary.mean_count_error == pytest.approx(0.2)


def test_precision_recall_and_f1_are_of_all_cells_together():
    summary = summarise([score("m", 10, 8, 6), score("m", 90, 92, 84)])
    assert (summary.cells_true, summary.cells_counted, summary.cells_matched) == (100, 100, 90)
    assert summary.precision == summary.recall == pytest.approx(0.9)
    assert summary.f1 == pytest.approx(0.9)


def test_an_image_without_cells_counts_against_precision_alone():
    full = score("a", 10, 10, 8)
    groups = by_group([full, score("b", 0, 6, 0)])
    assert groups["all"].precision == 0.5
    assert groups["all"].recall == groups["a"].recall == 0.8
    assert groups["all"].f1 == pytest.approx(2 * 8 / (10 + 16))
    assert groups["all"].mean_count_error == full.relative_count_error == 0
    assert (groups["b"].precision, groups["b"].recall, groups["b"].mean_count_error) == (0, None, None)


def test_the_row_of_an_image():
    row = score("m", 4, 5, 3).row()
    assert (row["count_error"], row["precision"], row["recall"]) == (1, 3 / 5, 3 / 4)
    assert row["f1"] == pytest.approx(6 / 9)
    assert "ap" not in row
    assert row["ap95"] == row["mean_ap"] == 0.5
