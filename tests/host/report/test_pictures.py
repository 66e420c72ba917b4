import numpy as np
import pytest

from cellseg_device.image.pixels import Image
from cellseg_host.data.dataset import Entry
from cellseg_host.evaluation.evaluate import ImageScore, Scored
from cellseg_host.report import pictures
from cellseg_host.report.pictures import Showcase, show, worst_window
from cellseg_host.report.scoring import ScoredImage


def labels_with(*boxes, size=(64, 64)):
    labels = np.zeros(size, np.uint16)
    for number, (row, col, side) in enumerate(boxes, 1):
        labels[row : row + side, col : col + side] = number
    return labels


def scored(name, *ap50):
    """An image on which the models have these scores."""
    true = labels_with((5, 5, 10))
    models = tuple(Scored(ImageScore(name, "s", "m", 1, 1, 1, a, a, a, (a,) * 10), true) for a in ap50)
    return ScoredImage(
        Entry(name, "s", "test", "m", "m", *true.shape, 1, 10.0), Image(np.full(true.shape, 9, np.uint8)), true, models
    )


def names(groups):
    return {title: [s.entry.id for s in shown] for title, shown in groups.items()}


def test_best_worst_and_disputed_images_are_kept():
    showcase = Showcase(each=2)
    values = {"a": (0.9, 0.9), "b": (0.1, 0.1), "c": (0.5, 0.5), "d": (0.2, 0.9), "e": (0.8, 0.8), "f": (0.0, 0.1)}
    for name, ap50 in values.items():
        showcase.add(scored(name, *ap50))
    assert names(showcase.groups()) == {"best": ["a", "e"], "worst": ["f", "b"], "disputed": ["d"]}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
def test_no_image_is_shown_twice(count):
    showcase = Showcase(each=3)
    rng = np.random.default_rng(count)
    for number in range(count):
        showcase.add(scored(f"i{number}", *rng.random(2)))
    shown = [name for group in names(showcase.groups()).values() for name in group]
    assert len(shown) == len(set(shown)) == min(count, 9)


def test_one_model_disputes_nothing():
    showcase = Showcase()
    for number in range(8):
        showcase.add(scored(f"i{number}", number / 8))
    assert showcase.groups()["disputed"] == []


def test_the_window_is_where_the_models_err():
    true = labels_with((150, 10, 20), (20, 240, 30), size=(200, 300))
    missed = true.copy()
    missed[true == 2] = 0
    rows, cols = worst_window(true, [missed], 100)
    assert rows.stop - rows.start == cols.stop - cols.start == 100
    assert rows.start <= 20
    assert cols.start <= 240
    assert cols.stop >= 270


def test_where_nothing_is_the_window_is_the_middle():
    assert worst_window(np.zeros((50, 90), np.uint16), [], 30) == (slice(10, 40), slice(30, 60))
    assert worst_window(np.zeros((50, 90), np.uint16), [], 160) == (slice(0, 50), slice(20, 70))


def test_matched_missed_and_added_cells_have_their_colours():
    true = labels_with((4, 4, 12), (40, 4, 12))
    predicted = labels_with((4, 5, 12), (40, 40, 12))
    model = Scored(ImageScore("a", "s", "m", 2, 2, 1, 0, 0, 0, (0.3,) * 10), predicted)
    image = Image(np.zeros((64, 64), np.uint8))
    shown = show(ScoredImage(Entry("a", "s", "test", "m", "m", 64, 64, 2, 12.0), image, true, (model,)))
    scale = pictures.PANEL_PX / 64

    def colours(panel, row, col):
        window = panel[int(row * scale) : int((row + 13) * scale), int(col * scale) : int((col + 13) * scale)]
        return {tuple(int(v) for v in c) for c in window.reshape(-1, 3)} - {(0, 0, 0)}

    (panel,) = shown.models
    assert colours(panel, 4, 5) == {pictures.MATCHED_COLOUR}
    assert colours(panel, 40, 4) == {pictures.MISSED_COLOUR}
    assert colours(panel, 40, 40) == {pictures.EXTRA_COLOUR}
    assert colours(shown.truth, 4, 4) == colours(shown.truth, 40, 4) == {pictures.MISSED_COLOUR}
    assert not shown.plain.any()
