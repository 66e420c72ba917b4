"""A classifier of kinds by the commands that a user gives: quantize, evaluate, and what compare says of it."""

import csv
import json
import shutil

import pytest
from click.testing import CliRunner

from cellseg_device.model.card import read_from
from cellseg_host.commands.compare import compare
from cellseg_host.commands.evaluate import evaluate
from cellseg_host.commands.quantize import quantize


def run(command, *arguments, code=0):
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def kind_model(kind_run, light_and_dark, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "kind.tflite"
    answers = ("--follow", "smear=flag:nuclei", "--looks-like", "smear=a blood smear", "--looks-like", "other=specks")
    text = run(quantize, kind_run[0], "--data", light_and_dark.root, "--out", out, *answers)
    return out, text


def test_quantize_prints_which_kinds_are_confused_and_what_to_do_next(kind_model, light_and_dark):
    out, text = kind_model
    assert "12 images of train for the ranges, 3 of val for thresholds and scores" in text
    assert "balanced_accuracy" in text
    assert "images by their kind (rows) and the kind that is found" in text
    assert text.splitlines()[-1].startswith(f"next: cellseg-host evaluate {out} {light_and_dark.root}")
    gate = read_from(out.read_bytes()).gate
    assert [(c.name, c.follows, c.model, c.looks_like) for c in gate.classes] == [
        ("other", "segment", None, "specks"),
        ("smear", "flag", "nuclei", "a blood smear"),
    ]


def test_evaluate_prints_and_writes_what_follows(kind_model, light_and_dark, tmp_path):
    document = json.loads(run(evaluate, kind_model[0], light_and_dark.root, "--out", tmp_path / "out", "--json"))
    assert document["summary"]["images"] == 3
    assert document["summary"]["accuracy"] == 1
    assert document["handling"] == {"images": 3, "other_model": 0, "unflagged": 0, "flagged": 0, "emptied": 0}
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == document
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["found"] for row in rows] == [row["kind"] for row in rows]
    for row in rows:
        assert float(row["p_other"]) + float(row["p_smear"]) == pytest.approx(1, abs=1e-3)
    text = run(evaluate, kind_model[0], light_and_dark.root)
    assert "smear, " in text
    assert "not flagged" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--follow", "smear"), "--follow smear: write KIND=segment|empty|flag"),
        (("--follow", "smear=flga"), "there is no answer 'flga': did you mean 'flag'?"),
        (("--follow", "smear=empty:nuclei"), "no model segments what counts as empty: leave out ':nuclei'"),
        (("--looks-like", "smear="), "--looks-like smear=: write KIND=TEXT"),
    ],
)
def test_answers_that_are_none_are_refused(kind_run, light_and_dark, flags, words):
    assert words in run(quantize, kind_run[0], "--data", light_and_dark.root, *flags, code=2)


def test_a_kind_that_it_does_not_know_is_refused(kind_model, light_and_dark, tmp_path):
    data = shutil.copytree(light_and_dark.root, tmp_path / "data")
    manifest = (data / "manifest.csv").read_text()
    assert ",other," in manifest
    (data / "manifest.csv").write_text(manifest.replace(",other,", ",dust,"))
    assert "is of the kind 'dust', but the model tells other, smear apart" in run(evaluate, kind_model[0], data, code=2)


def test_compare_refuses_it(kind_model, tiny_dataset, tmp_path):
    arguments = (kind_model[0], "--data", tiny_dataset.root, "--out", tmp_path / "report")
    assert "tells kinds of samples apart" in run(compare, *arguments, code=2)
