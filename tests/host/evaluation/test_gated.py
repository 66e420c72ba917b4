"""A gate and its models, scored together as they count on the device."""

import json
import math

import cv2
import gates
import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_host.commands.evaluate import evaluate as command
from cellseg_host.data.dataset import Entry, load, write_manifest
from cellseg_host.evaluation import gated
from cellseg_host.evaluation.evaluate import evaluate


@pytest.fixture
def dataset(tmp_path, draw_blobs):
    """Two images with cells, of which one is blue, and two without, of which one is blue."""
    root = tmp_path / "data"
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    dark = np.dstack([draw_blobs()] * 3)
    blue, labels = gates.tinted(90, 120, 220), np.zeros(dark.shape[:2], np.uint16)
    labels[20:40, 20:40] = 1
    entries = []
    for name, image, cells in (
        ("dark", dark, 1),
        ("dark-empty", np.full_like(dark, 12), 0),
        ("blue", blue, 1),
        ("blue-empty", blue, 0),
    ):
        assert cv2.imwrite(str(root / "images" / f"{name}.png"), image[..., ::-1])
        assert cv2.imwrite(str(root / "labels" / f"{name}.png"), labels * cells)
        entries.append(Entry(name, "s", "test", "fluorescence", "k", *labels.shape, cells, 22.6 * cells))
    write_manifest(root, entries)
    return load(root)


@pytest.fixture
def gate(tmp_path, model_path):
    gates.write_model(tmp_path / "chamber.tflite", model_path)
    return gates.write_gate(tmp_path / "tint.tflite")


def test_images_that_are_not_segmented_count_as_well(dataset, gate, model_path, model):
    models = gated.open_models(model_path, gate, 1)
    scores = {s.score.id: s for s in gated.evaluate(models, dataset, dataset.split("test"))}
    assert {name: s.class_name for name, s in scores.items()} == {
        "dark": "fluorescence",
        "dark-empty": "fluorescence",
        "blue": "blank",
        "blue-empty": "blank",
    }
    alone = {s.id: s for s in evaluate(model, dataset, dataset.split("test"))}
    assert scores["dark"].score == alone["dark"]
    assert alone["dark"].cells_counted > 0
    missed, right = scores["blue"].score, scores["blue-empty"].score
    assert (missed.cells_counted, missed.cells_true, missed.dice) == (0, 1, 0.0)
    assert (right.cells_counted, right.dice, right.ap50) == (0, 1.0, 1.0)
    assert (scores["blue"].counted_by, scores["dark"].counted_by) == ("tint", "nuclei")


def test_presence_is_by_the_cells_that_are_counted(dataset, gate, model_path):
    scores = list(gated.evaluate(gated.open_models(model_path, gate, 1), dataset, dataset.split("test")))
    found = gated.presence(scores)
    assert (found.true_positives, found.false_negatives) == (1, 1)
    assert (found.true_negatives, found.false_positives) == (2, 0)
    shares = gated.shares(found)
    assert (shares["sensitivity"], shares["specificity"], shares["ppv"]) == (0.5, 1.0, 1.0)
    assert math.isclose(shares["npv"], 2 / 3)
    classes = gated.by_class(scores, ["blank", "smear"])
    assert (classes["blank"].images, classes["blank"].with_cells, classes["blank"].counted_by) == (2, 1, "tint")
    assert classes["smear"].images == 0


def test_the_command_prints_and_writes_the_same(dataset, gate, model_path, tmp_path):
    def run(*options):
        result = CliRunner().invoke(command, [str(a) for a in (model_path, dataset.root, "--gate", gate, *options)])
        assert result.exit_code == 0, result.output
        return result.stdout

    document = json.loads(run("--out", tmp_path / "out", "--json"))
    assert document == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert document["presence"]["sensitivity"] == 0.5
    assert document["classes"]["blank"]["images"] == 2
    assert document["summary"]["all"]["images"] == 4
    assert len((tmp_path / "out" / "scores.csv").read_text().splitlines()) == 5
    said = run()
    assert "0.500 (1 of 2)" in said
    assert "what the gate takes images for" in said


def test_what_is_no_gate_is_refused(dataset, model_path):
    result = CliRunner().invoke(command, [str(model_path), str(dataset.root), "--gate", str(model_path)])
    assert result.exit_code == 2
    assert "a gate is a classifier" in result.output
