"""The model's answer on the known field says whether this runtime computes as the one it was evaluated with."""

import dataclasses

import gates
import pytest

from cellseg_device.model import card as cards
from cellseg_device.model.card import KnownAnswer
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import selftest
from cellseg_device.pipeline.gate import open_gate


@pytest.fixture
def answering(model, model_path):
    """The bundled model, whose card expects another answer or says another quantization."""

    def load(**fields):
        changed = Model(model_path)
        changed.card = dataclasses.replace(model.card, **fields)
        return changed

    return load


def test_the_bundled_model_gives_its_known_answer_here(model):
    assert model.card.known_answer is not None
    assert selftest.check(model) is None


def test_the_answer_is_the_same_every_time_and_with_threads(model, model_path):
    first = selftest.answer(model)
    assert first.cells > 10
    assert len(first.sha256) == 64
    assert selftest.answer(model) == first
    assert selftest.answer(Model(model_path, threads=2)) == first


def test_the_right_answer_gives_no_warning(answering, model):
    assert selftest.check(answering(known_answer=selftest.answer(model))) is None


def test_another_answer_gives_a_warning_with_both_counts(answering, model):
    found = selftest.answer(model)
    warning = selftest.check(answering(known_answer=KnownAnswer("0" * 64, 4321)))
    assert f"known field: {found.cells} cells, expected 4321" in warning
    assert "\n" not in warning
    assert "litert" in warning


def test_equal_counts_of_other_maps_are_not_enough(answering, model):
    assert selftest.check(answering(known_answer=KnownAnswer("0" * 64, selftest.answer(model).cells))) is not None


@pytest.mark.parametrize(
    "fields",
    [{"quantization": q, "known_answer": KnownAnswer("0" * 64, 1)} for q in ("float32", "float16", "dynamic")]
    + [{"known_answer": None}],
    ids=lambda fields: fields.get("quantization", "no answer"),
)
def test_what_proves_nothing_is_not_checked(answering, fields, monkeypatch):
    monkeypatch.setattr(selftest, "answer", lambda model: pytest.fail("it was run"))
    assert selftest.check(answering(**fields)) is None


def test_the_known_answer_survives_the_file(tmp_path, model, model_path):
    answer = selftest.answer(model)
    path = tmp_path / "a.tflite"
    path.write_bytes(cards.attach(model_path.read_bytes(), dataclasses.replace(model.card, known_answer=answer)))
    assert selftest.check(Model(path)) is None


@pytest.fixture
def gate(tmp_path):
    return open_gate(gates.write_gate(tmp_path / "tint.tflite"))


def test_a_gate_is_checked_against_its_known_answer(gate):
    assert selftest.check_gate(gate) is None  # its card has none
    found = selftest.gate_answer(gate)
    assert found.cells == 0, "a dark image"
    gate.card = dataclasses.replace(gate.card, known_answer=found)
    assert selftest.check_gate(gate) is None
    gate.card = dataclasses.replace(gate.card, known_answer=dataclasses.replace(found, sha256="0" * 64))
    assert "what the gate tint was evaluated with" in selftest.check_gate(gate)
    gate.card = dataclasses.replace(gate.card, quantization="float32")
    assert selftest.check_gate(gate) is None


def test_the_answer_of_a_gate_does_not_depend_on_threads(gate):
    assert selftest.gate_answer(open_gate(gate.path, threads=2)) == selftest.gate_answer(gate)
