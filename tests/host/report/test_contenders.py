import dataclasses
from pathlib import Path

import pytest

from cellseg_device.errors import InputError, ModelError
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card, Output
from cellseg_host.report.contenders import Contender, conversions, names, open_all
from cellseg_host.report.cost import Cost

CARD = Card("t", "float32", (Output("foreground", 0, "logit"),), 4, 0, 0.0, 100.0, 10.0)


def contender(quantization, provenance):
    card = dataclasses.replace(CARD, quantization=quantization, provenance=provenance)
    return Contender(quantization, Path("a"), Path("a"), card, 1, Cost(1, 1.0))


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["/m/a.tflite", "/m/b.tflite"], ["a", "b"]),
        (["/m/a.tflite", "/n/a.tflite"], ["m/a.tflite", "n/a.tflite"]),
        (["/runs/a", "/runs/a.tflite", "/runs/c.v2"], ["a", "a.tflite", "c.v2"]),
        (["/x/m/a.tflite", "/y/m/a.tflite", "/b"], ["x/m/a.tflite", "y/m/a.tflite", "b"]),
    ],
)
def test_names_are_as_short_as_they_can_be(places, expected):
    assert names([Path(p) for p in places]) == expected


def test_precisions_of_one_network_are_paired():
    run = {"settings": {"seed": 1}, "data": {"sha256": "x"}, "code": {}}
    other = run | {"settings": {"seed": 2}}
    given = [
        contender("int8", run),
        contender("float32", run | {"quantization": {}}),
        contender("int8", other),
        contender("dynamic", run),
        contender("float32", {}),
        contender("int8", {}),
    ]
    assert conversions(given) == [(1, 3), (1, 0)]


def test_two_quantizations_without_the_float_are_paired_too():
    run = {"settings": {"seed": 1}, "data": {"sha256": "x"}}
    assert conversions([contender("int8", run), contender("dynamic", run), contender("int8", run)]) == [
        (1, 0),
        (1, 2),
    ]


def test_a_mean_of_runs_is_no_conversion_of_one_of_them():
    run = {"settings": {"seed": 1}, "data": {"sha256": "x"}}
    mean = run | {"average": [{"run": "one", "sha256": "1"}, {"run": "two", "sha256": "2"}]}
    assert conversions([contender("float32", run), contender("int8", mean)]) == []
    assert conversions([contender("float32", mean), contender("int8", mean)]) == [(0, 1)]


def test_a_model_is_named_once(tiny_dataset, model_path, tmp_path):
    link = tmp_path / "link.tflite"
    link.symlink_to(model_path)
    with pytest.raises(InputError, match="listed twice"):
        open_all([model_path, link], tiny_dataset, tmp_path)


def test_classifiers_and_segmenters_are_not_compared(tiny_dataset, model_path, tmp_path):
    data = model_path.read_bytes()
    card = dataclasses.replace(cards.read_from(data), outputs=(Output("presence", 0, "logit"),))
    (tmp_path / "yes.tflite").write_bytes(cards.attach(data, card))
    with pytest.raises(InputError, match=r"yes.tflite classifies whole images, .*nuclei.tflite draws cells"):
        open_all([model_path, tmp_path / "yes.tflite"], tiny_dataset, tmp_path)


@pytest.mark.parametrize("text", [b"", b"....TFL3", b"hello"])
def test_a_file_that_is_no_model_is_named(tiny_dataset, tmp_path, text):
    (tmp_path / "no.tflite").write_bytes(text)
    with pytest.raises(ModelError, match=r"/no\.tflite(: | is not a \.tflite model)"):
        open_all([tmp_path / "no.tflite"], tiny_dataset, tmp_path)


def test_a_folder_that_is_no_run_is_named(tiny_dataset, tmp_path):
    with pytest.raises(InputError, match="is not a finished training run"):
        open_all([tmp_path], tiny_dataset, tmp_path)


def test_a_run_takes_part_as_its_float_model(tiny_dataset, tiny_run, model_path, tmp_path):
    said = []
    run, model = open_all([tiny_run, model_path], tiny_dataset, tmp_path, said.append)
    assert [run.name, model.name] == ["tiny", "nuclei"]
    assert run.card.quantization == "float32"
    assert run.size_bytes == len(run.file.read_bytes()) > 3 * model.size_bytes
    assert run.cost.macs_per_px == pytest.approx(3922.75)  # a plain edge-unet; the released one is of low rank
    assert model.cost.macs_per_px == pytest.approx(2666)
    assert len(run.epochs) == 2
    assert model.epochs == ()
    assert any(str(tiny_run) in line for line in said)
    assert {p.name for p in tiny_run.iterdir()} >= {"run.json", "model.keras"}
    assert not list(tiny_run.glob("*.tflite"))
