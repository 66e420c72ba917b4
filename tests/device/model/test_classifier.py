"""A classifier is run on its own, and refused where its graph and its card do not fit each other."""

import dataclasses

import gates
import numpy as np
import pytest

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards
from cellseg_device.model.classifier import Classifier
from cellseg_device.model.interpreter import Model


def written(path, flatbuffer, card):
    path.write_bytes(cards.attach(flatbuffer, card))
    return path


def filled(*colour, shape=(32, 48)):
    return np.full((*shape, 3), colour, np.uint8)


def test_the_probabilities_are_the_softmax_of_the_logits(tmp_path):
    classifier = Classifier(gates.write_gate(tmp_path / "tint.tflite"))
    assert classifier.classes == len(gates.KINDS)
    for colour in ((10, 10, 10), (230, 230, 230), (220, 120, 60), (60, 120, 220)):
        found = classifier.probabilities(filled(*colour))
        logits = np.array(gates.WEIGHTS) @ [*(np.array(colour) / 255), 1]
        expected = np.exp(np.clip(logits, -32, 32))
        assert found == pytest.approx(expected / expected.sum(), abs=0.05)
        assert found.sum() == pytest.approx(1)


def test_grey_is_shown_in_three_channels(tmp_path):
    classifier = Classifier(gates.write_gate(tmp_path / "tint.tflite"))
    grey = np.random.default_rng(0).integers(0, 256, (40, 24), dtype=np.uint8)
    assert np.array_equal(classifier.probabilities(grey), classifier.probabilities(np.dstack([grey] * 3)))


def test_a_presence_classifier_has_two_classes(tmp_path):
    classifier = Classifier(gates.write_presence_gate(tmp_path / "presence.tflite", least=0.5))
    assert classifier.classes == 2
    dark, bright = (classifier.probabilities(filled(v, v, v)) for v in (20, 230))
    assert dark[0] > 0.9 < bright[1]
    assert classifier.probabilities(filled(128, 128, 128)) == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_float_classifier_answers_alike(tmp_path):
    path = written(
        tmp_path / "float.tflite",
        gates.classifier(dtype="float32"),
        gates.card_of(gates.kinds_gate(), quantization="float32"),
    )
    quantized = Classifier(gates.write_gate(tmp_path / "tint.tflite"))
    for colour in ((10, 10, 10), (220, 120, 60)):
        found = Classifier(path).probabilities(filled(*colour))
        assert found == pytest.approx(quantized.probabilities(filled(*colour)), abs=0.05)


def test_an_answer_that_is_not_finite_is_refused(tmp_path):
    flatbuffer = gates.classifier([(np.nan, 0, 0, 0), (0, 0, 0, 1)], dtype="float32")
    card = gates.card_of(None, quantization="float32")
    with pytest.raises(ModelError, match=r"not finite: quantize it again"):
        Classifier(written(tmp_path / "nan.tflite", flatbuffer, card)).probabilities(filled(1, 2, 3))


@pytest.mark.parametrize(
    ("flatbuffer", "card", "reason"),
    [
        (
            gates.classifier(gates.WEIGHTS[:2]),
            gates.card_of(gates.kinds_gate()),
            "the card names 4 classes, but the graph has 2",
        ),
        (gates.classifier(), gates.card_of(gates.presence_gate(), quantity="presence"), "1×1×1×4: a classifier's is"),
        (gates.classifier(gates.WEIGHTS[:1]), gates.card_of(None), "1×1×1×1: a classifier's is"),
        (gates.classifier(tile=(64, 64)), gates.card_of(gates.kinds_gate()), "takes 64×64 px only.+without --tile"),
        (
            gates.classifier(gates.WEIGHTS[:1], tile=(64, 64)),
            gates.card_of(gates.presence_gate(32), quantity="presence"),
            "takes 64×64 px only.+without --tile",
        ),
    ],
    ids=["classes", "shape", "one", "tile", "squares"],
)
def test_a_graph_that_does_not_fit_its_card_is_refused(tmp_path, flatbuffer, card, reason):
    path = written(tmp_path / "other.tflite", flatbuffer, card)
    with pytest.raises(ModelError, match=reason) as caught:
        Classifier(path)
    assert caught.value.message.startswith(str(path))


def test_squares_of_a_fixed_size_are_taken(tmp_path):
    card = gates.card_of(gates.presence_gate(64), quantity="presence")
    path = written(tmp_path / "fixed.tflite", gates.classifier(gates.WEIGHTS[:1], tile=(64, 64)), card)
    assert Classifier(path).tile == (64, 64)


def test_an_output_that_is_not_there_is_refused(tmp_path):
    card = gates.card_of(gates.kinds_gate())
    card = dataclasses.replace(card, outputs=(dataclasses.replace(card.outputs[0], index=3),))
    with pytest.raises(ModelError, match="names output 3, but the graph has 1"):
        Classifier(written(tmp_path / "other.tflite", gates.classifier(), card))


def test_neither_takes_the_place_of_the_other(tmp_path, model_path):
    with pytest.raises(ModelError, match="predicts where cells are, not what an image shows"):
        Classifier(model_path)
    with pytest.raises(ModelError, match="counting needs a model with maps"):
        Model(gates.write_gate(tmp_path / "tint.tflite"))
