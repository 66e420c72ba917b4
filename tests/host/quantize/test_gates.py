"""A classifier of kinds as a model file: its gate, its scores, its known answer."""

import pytest

from cellseg_device.errors import InputError
from cellseg_device.model import card as cards
from cellseg_device.model.gate_card import GateClass
from cellseg_device.pipeline import gate as gates
from cellseg_device.pipeline import selftest
from cellseg_host.quantize import pipeline
from cellseg_host.training.runs import open_run

CLASSES = {"smear": {"follows": "flag", "model": "nuclei", "looks_like": "a blood smear"}}


@pytest.fixture(scope="module")
def made(kind_run, light_and_dark):
    return pipeline.quantize(open_run(kind_run[0]), light_and_dark, name="kind", classes=CLASSES)


def test_the_card_says_what_follows_for_each_kind(made):
    card = cards.read_from(made.data)
    assert card.gate.classes == (
        GateClass("other", "segment", None, "other"),
        GateClass("smear", "flag", "nuclei", "a blood smear"),
    )
    assert card.quantization == "int8"
    assert not [o for o in made.operators if "float" in " ".join(o.dtypes)]
    assert len(made.data) < 60_000


def test_it_is_scored_on_all_images_of_the_validation_split(made, light_and_dark):
    images = len(light_and_dark.split("val"))
    assert made.card.metrics["int8"]["images"] == images == 3
    assert made.after.metrics["accuracy"] == 1
    assert made.after.metrics["confusion"] == {"other": {"other": 1, "smear": 0}, "smear": {"other": 0, "smear": 2}}


def test_the_device_opens_it_and_gives_its_known_answer(made, light_and_dark, tmp_path):
    path = tmp_path / "kind.tflite"
    path.write_bytes(made.data)
    gate = gates.open_gate(path)
    assert gate.card.known_answer
    assert selftest.check_gate(gate) is None
    for entry in light_and_dark.split("test"):
        verdict = gates.classify(light_and_dark.image(entry), gate)
        assert verdict.found.name == entry.kind
        assert verdict.probability > 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tile": (64, 64)}, "--tile: a classifier of kinds sees fields of any shape"),
        ({"classes": {"smaer": {"follows": "flag"}}}, "no class 'smaer': did you mean 'smear'?"),
    ],
)
def test_what_does_not_fit_is_refused(kind_run, light_and_dark, changes, words):
    with pytest.raises(InputError) as refused:
        pipeline.quantize(open_run(kind_run[0]), light_and_dark, **changes)
    assert words in refused.value.message


def test_classes_are_for_classifiers(tiny_run, tiny_dataset):
    with pytest.raises(InputError, match="are for classifiers"):
        pipeline.quantize(open_run(tiny_run), tiny_dataset, classes=CLASSES)
