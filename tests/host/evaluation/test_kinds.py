"""How well kinds are told apart, counted by hand; and what follows from that."""

import dataclasses
import math

import pytest

from cellseg_device.model.gate_card import Gate, GateClass
from cellseg_host.evaluation import kinds
from cellseg_host.evaluation.kinds import KindScores

KINDS = ("chamber", "smear", "tissue")
GATE = Gate(
    (
        GateClass("chamber", "segment", "chamber", "a chamber"),
        GateClass("smear", "flag", "nuclei", "a blood smear"),
        GateClass("tissue", "segment", "nuclei", "tissue"),
    ),
    256,
    "field",
)


def score(kind, found, of="a", probability=0.8):
    rest = (1 - probability) / 2
    return KindScores("id", of, kind, KINDS, tuple(probability if k == found else rest for k in KINDS))


SCORES = [
    score("chamber", "chamber"),
    score("chamber", "tissue", "b"),
    score("smear", "smear"),
    score("smear", "smear", "b"),
    score("smear", "tissue"),
    score("smear", "chamber"),
]


def test_a_score_is_of_the_most_likely_kind():
    one = score("smear", "tissue", probability=0.9)
    assert one.found == "tissue"
    assert one.loss == pytest.approx(-math.log(0.05))
    assert one.row() == {
        "id": "id",
        "set": "a",
        "kind": "smear",
        "found": "tissue",
        "p_chamber": 0.05,
        "p_smear": 0.05,
        "p_tissue": 0.9,
    }


def test_accuracy_is_over_images_and_balanced_over_the_kinds_that_occur():
    found = kinds.summarise(SCORES)
    assert found.accuracy == pytest.approx(3 / 6)
    assert found.recall["chamber"] == found.recall["smear"] == 0.5
    assert "tissue" not in found.recall, "no image is of it, and JSON has no NaN"
    assert found.balanced_accuracy == pytest.approx(0.5)
    assert found.confusion["smear"] == {"chamber": 1, "smear": 2, "tissue": 1}
    assert found.loss == pytest.approx((3 * -math.log(0.8) + 3 * -math.log(0.1)) / 6)


def test_sets_are_told_apart():
    assert kinds.by_set(SCORES) == {
        ("chamber", "a"): {"chamber": 1, "smear": 0, "tissue": 0},
        ("chamber", "b"): {"chamber": 0, "smear": 0, "tissue": 1},
        ("smear", "a"): {"chamber": 1, "smear": 1, "tissue": 1},
        ("smear", "b"): {"chamber": 0, "smear": 1, "tissue": 0},
    }


def test_what_follows_from_the_wrong_kinds():
    assert kinds.handling([score("tissue", "tissue")], GATE) == kinds.Handling(1, 0, 0, 0, 0)
    assert kinds.handling([*SCORES, score("tissue", "smear")], GATE) == kinds.Handling(
        images=7, other_model=1, unflagged=2, flagged=1, emptied=0
    )
    empty = Gate((*GATE.classes[:2], GateClass("tissue", "empty", None, "nothing")), 256, "field")
    assert kinds.handling(SCORES, empty) == kinds.Handling(6, 0, 2, 0, 2)


def test_what_a_gate_is_not_sure_of_counts_as_flagged():
    sure = dataclasses.replace(GATE, sure_from=0.6)
    doubtful = [score("tissue", "tissue", probability=0.55), score("smear", "tissue", probability=0.55)]
    assert kinds.handling(doubtful, sure) == kinds.Handling(2, 0, unflagged=0, flagged=1, emptied=0)
    assert kinds.handling(SCORES, sure) == kinds.handling(SCORES, GATE)
