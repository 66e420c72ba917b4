"""Thresholds chosen on corrected images, and the verdict on them."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from cellseg_device.errors import InputError
from cellseg_device.image.decode import decode
from cellseg_device.image.pixels import Image
from cellseg_device.model import card as cards
from cellseg_device.model.card import KnownAnswer, Separation
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import selftest, tuning
from cellseg_device.pipeline.tuned_model import tuned_model
from cellseg_device.pipeline.tuning import Accuracy, Scores, search, tune


@pytest.fixture(scope="module")
def pairs(samples):
    """Six images with their true labels: parts of a sample."""
    image = decode((samples / "hoechst8.png").read_bytes()).pixels
    truth = cv2.imread(str(samples / "truth" / "hoechst8.png"), cv2.IMREAD_UNCHANGED)
    parts = [(slice(row, row + 160), slice(col, col + 160)) for row in (0, 200) for col in (0, 160, 320)]
    return [(Image(image[part]), tuning_labels(truth[part])) for part in parts]


def tuning_labels(labels):
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.uint16)


def with_card(model, path, **changes):
    """The model with another card, in another file."""
    path.write_bytes(cards.attach(model.path.read_bytes(), dataclasses.replace(model.card, **changes)))
    return Model(path)


@pytest.fixture
def spoilt(model, tmp_path):
    """The bundled model with thresholds that miss cells and cut others into pieces."""
    separation = dataclasses.replace(model.card.separation, foreground=0.995, prominence=0.05, min_area_px=60)
    return with_card(model, tmp_path / "spoilt.tflite", name="spoilt", separation=separation)


def scores_of(ap50, counted):
    """Scores of images with 10 cells each."""
    ap50, counted = np.array(ap50, float), np.array(counted, float)
    return Scores(ap50, ap50, np.full(len(ap50), 10.0), counted)


def test_a_search_chooses_by_what_is_first_then_by_confidence_then_by_area():
    tried = []

    def score(settings):
        tried.append(settings)
        for s in settings:
            ap = 0.9 - abs(s.foreground - 0.6) - abs(s.confidence - 0.84) - abs(s.min_area_px - 24) / 100
            yield scores_of([ap], [10])

    first = [Separation(0.4), Separation(0.6), Separation(0.7)]
    found = search(first, score, np.ones((1, 1)))
    assert found.chosen == (Separation(0.6, confidence=0.84, min_area_px=24),)
    assert tried[0] == first
    assert len(tried) == 3
    assert len(found.table) == sum(map(len, tried)) == len(set().union(*tried)), "each is scored once"


def test_each_part_gets_its_own_choice():
    def score(settings):
        return [scores_of([s.foreground, 1 - s.foreground], [10, 10]) for s in settings]

    found = search([Separation(0.3), Separation(0.7)], score, np.array([[1, 0], [0, 1], [1, 1.0]]))
    assert [setting.foreground for setting in found.chosen] == [0.7, 0.3, 0.3]


def test_the_first_setting_stays_where_none_is_better():
    own = Separation(0.55, 0.6, 17, 0.66)
    found = search([own, Separation(0.4)], lambda settings: [scores_of([0.5], [10]) for _ in settings], np.ones((1, 1)))
    assert found.chosen == (own,)


def test_the_count_of_a_part_decides_between_equal_outlines():
    def score(settings):
        return [scores_of([0.5, 0.5], [10, 10] if s.foreground == 0.6 else [5, 18]) for s in settings]

    found = search([Separation(0.4), Separation(0.6)], score, np.ones((1, 2)))
    assert found.chosen[0].foreground == 0.6


def test_spoilt_thresholds_are_found_again(spoilt, pairs):
    shown = []
    found = tune(spoilt, len(pairs), pairs.__getitem__, lambda done, total: shown.append((done, total)))
    assert found.is_better
    assert found.after.ap50 > found.before.ap50 + 0.1
    assert found.after.count_error < found.before.count_error
    assert found.chosen.foreground < 0.995
    assert found.chosen.join == spoilt.card.separation.join
    assert (found.images, found.cells) == (6, sum(int(labels.max()) for _, labels in pairs))
    assert [done for done, _ in shown] == sorted({done for done, _ in shown})
    assert shown[-1] == (found.settings * 6, found.settings * 6)
    assert found.ms > 0


def test_images_are_read_three_times_one_after_the_other(spoilt, pairs):
    read = []
    tune(spoilt, 2, lambda number: read.append(number) or pairs[number])
    assert read == [0, 1] * 3


def test_labels_that_the_model_made_leave_nothing_to_gain(model, pairs):
    from cellseg_device.pipeline.predict import predict
    from cellseg_device.pipeline.segment import labels_of

    own = [(image, labels_of(predict(image, model))) for image, _ in pairs[:3]]
    found = tune(model, 3, own.__getitem__)
    assert found.chosen == found.own
    assert found.before == found.after == Accuracy(1.0, 0.0)
    assert not found.is_better


@pytest.mark.parametrize(
    ("before", "after", "is_better"),
    [
        (Accuracy(0.5, 0.1), Accuracy(0.6, 0.1), True),
        (Accuracy(0.5, 0.1), Accuracy(0.6, 0.05), True),
        (Accuracy(0.5, 0.1), Accuracy(0.6, 0.11), False),
        (Accuracy(0.5, 0.1), Accuracy(0.5, 0.0), False),
        (Accuracy(0.5, 0.1), Accuracy(0.4, 0.0), False),
    ],
)
def test_better_is_a_higher_ap_with_a_count_no_further_off(before, after, is_better):
    found = tuning.Tuning(Separation(), Separation(0.6), 2, 9, before, after, 40, 1.0)
    assert found.is_better == is_better
    assert not dataclasses.replace(found, chosen=found.own).is_better


def test_an_image_is_scored_by_a_choice_that_it_had_no_part_in(model, pairs, tmp_path):
    """Of two images, each is scored by what is best on the other alone."""
    found = tune(model, 2, pairs.__getitem__)
    own = model.card.separation

    def choice(number):
        def score(settings):
            image, true = pairs[number]
            prediction = tuning.predict(image, model)
            return [tuning.scores([(true, tuning.labels_of(prediction, s))]) for s in settings]

        [chosen] = search(tuning._around(own, has_landscape=True), score, np.ones((1, 1))).chosen
        return chosen

    expected = []
    for number in (0, 1):
        image, true = pairs[number]
        labels = tuning.labels_of(tuning.predict(image, model), choice(1 - number))
        expected.append(tuning.scores([(true, labels)]).ap50[0])
    assert found.after.ap50 == np.mean(expected)


def test_one_image_and_empty_labels_are_refused(model, pairs):
    with pytest.raises(InputError, match="one corrected image cannot show"):
        tune(model, 1, pairs.__getitem__)
    empty = [(image, np.zeros_like(labels)) for image, labels in pairs[:2]]
    with pytest.raises(InputError, match="the corrected labels are empty"):
        tune(model, 2, empty.__getitem__)


def test_an_image_without_a_cell_counts_too(model, pairs):
    with_empty = [*pairs[:2], (Image(np.full((64, 64), 7, np.uint8)), np.zeros((64, 64), np.uint16))]
    found = tune(model, 3, with_empty.__getitem__)
    assert (found.images, found.cells) == (3, sum(int(labels.max()) for _, labels in pairs[:2]))


@pytest.fixture
def found(spoilt):
    chosen = dataclasses.replace(spoilt.card.separation, foreground=0.5, prominence=0.7)
    return tuning.Tuning(spoilt.card.separation, chosen, 5, 170, Accuracy(0.3, 0.4), Accuracy(0.8, 0.1), 50, 2.0)


def test_a_tuned_model_is_the_same_graph_with_a_new_card(spoilt, found, tmp_path):
    before = spoilt.path.read_bytes()
    data = tuned_model(spoilt, found, "mine", "corrections.zip")
    assert spoilt.path.read_bytes() == before
    assert cards.strip(data) == cards.strip(before)
    card = cards.read_from(data)
    assert (card.name, card.separation, card.metrics) == ("mine", found.chosen, {})
    said = card.provenance["tuning"]
    assert (said["images"], said["cells"], said["corrections"]) == (5, 170, "corrections.zip")
    assert said["before"] == {"ap50": 0.3, "count_error": 0.4}
    assert said["after"] == {"ap50": 0.8, "count_error": 0.1}
    assert said["start"]["name"] == "spoilt"
    assert said["start"]["sha256"] == spoilt.sha256
    assert said["start"]["separation"]["foreground"] == 0.995
    assert said["start"]["metrics"] == spoilt.card.metrics
    assert {**card.provenance, "tuning": None} == {**spoilt.card.provenance, "tuning": None}
    assert json.loads(card.to_json())["separation"]["foreground"] == 0.5


def test_the_known_answer_is_that_of_the_new_thresholds(model, spoilt, found, tmp_path):
    spoilt = with_card(spoilt, tmp_path / "answers.tflite", known_answer=selftest.answer(spoilt))
    path = tmp_path / "mine.tflite"
    path.write_bytes(tuned_model(spoilt, found, "mine", "a"))
    mine = Model(path)
    assert mine.card.known_answer is not None
    assert mine.card.known_answer.sha256 == spoilt.card.known_answer.sha256
    assert mine.card.known_answer.labels_sha256 != spoilt.card.known_answer.labels_sha256
    assert selftest.check(mine) is None


def test_a_computer_that_computes_otherwise_gives_no_known_answer(spoilt, found, tmp_path):
    other = with_card(spoilt, tmp_path / "other.tflite", known_answer=KnownAnswer("0" * 64, 3))
    assert cards.read_from(tuned_model(other, found, "mine", "a")).known_answer is None
    none = with_card(spoilt, tmp_path / "none.tflite", known_answer=None)
    assert cards.read_from(tuned_model(none, found, "mine", "a")).known_answer is None
