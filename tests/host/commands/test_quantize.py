"""``cellseg-host quantize`` as a user meets it."""

import csv
import dataclasses
import json

import pytest
from click.testing import CliRunner

from cellseg_device.model.card import read_from
from cellseg_host.commands.quantize import METRICS, quantize
from cellseg_host.quantize import max_drop, pipeline
from cellseg_host.quantize.scored import Scored
from cellseg_host.training.settings import TrainSettings
from cellseg_host.training.train import train


def run(*arguments):
    return CliRunner().invoke(quantize, [str(a) for a in arguments])


def refused(*arguments, code=2):
    result = run(*arguments)
    assert result.exit_code == code, result.output
    (line,) = result.stderr.strip().splitlines()
    return line


@pytest.mark.slow
def test_the_comparison_and_the_layers_that_lose_most(tiny_run, tiny_dataset, tmp_path):
    out = tmp_path / "made.tflite"
    made = run(tiny_run, "--int8", "--data", tiny_dataset.root, "--out", out, "--layers", "--images", 3)
    assert made.exit_code == 0, made.output
    assert made.output.splitlines()[:2] == [
        f"{tiny_run} to int8: 3 images of train for the ranges, 3 of val for thresholds and scores",
        "loading TensorFlow …",
    ]
    last = f"next: cellseg-host evaluate {out} {tiny_dataset.root} --out made-evaluation"
    assert made.output.splitlines()[-1] == last
    for word in ("AP@0.5", "operators", "worst image", "kB", "CONV_2D", "of its own noise"):
        assert word in made.output
    card = read_from(out.read_bytes())
    assert card.name == "made"
    assert card.provenance["quantization"] == {"mode": "int8", "images": 3, "percentile": None}
    with (tmp_path / "made.layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"foreground", "distance", "encoder0_conv0_relu"} <= {row["layer"] for row in rows}
    own = [float(row["own_db"]) for row in rows]
    assert own == sorted(own)


@pytest.mark.slow
def test_the_layers_of_a_network_with_max_poolings(tiny_dataset, tmp_path):
    settings = TrainSettings(arch="unet", options={"filters": (8, 16)}, epochs=1, steps=2, batch=2, side=64)
    list(train(tiny_dataset, tmp_path / "run", settings))
    out = tmp_path / "made.tflite"
    made = run(tmp_path / "run", "--int8", "--data", tiny_dataset.root, "--out", out, "--layers", "--images", 2)
    assert made.exit_code == 0, made.output
    assert "thresholds" in made.output  # not cut off by the long line beside it
    assert (tmp_path / "made.layers.csv").exists()


def test_json_for_a_program(tiny_run, tiny_dataset, tmp_path):
    made = run(tiny_run, "--data", tiny_dataset.root, "--dynamic", "--json", "--out", tmp_path / "new" / "made.tflite")
    document = json.loads(made.stdout)
    assert document["dynamic"]["images"] == document["float32"]["images"] == 3
    assert document["size_bytes"] == (tmp_path / "new" / "made.tflite").stat().st_size
    assert document["operators"]["CONV_2D"] == 16
    assert document["separation"]["rise"] > 0  # by its key in the card, as info prints it


@pytest.mark.slow
def test_the_gate_keeps_the_older_model(tiny_run, tiny_dataset, tmp_path, monkeypatch):
    out = tmp_path / "made.tflite"
    out.write_bytes(b"the older model")
    plain = pipeline.score

    def harsh(data, dataset):
        scored = plain(data, dataset)
        lost = 0.02 * (read_from(data).quantization == "int8")
        return dataclasses.replace(scored, metrics={**scored.metrics, "ap50": 0.9 - lost, "mean_iou": 0.8 - lost / 4})

    monkeypatch.setattr(pipeline, "score", harsh)
    command = [tiny_run, "--data", tiny_dataset.root, "--out", out, "--images", 2]
    line = refused(*command, "--max-drop", 0.01, code=1)
    assert "ap50 fell from 0.9000 (float32) to 0.8800 (int8), by 0.0200, more than --max-drop 0.01" in line
    assert out.read_bytes() == b"the older model"
    assert run(*command, "--max-drop", 0.01, "--metric", "mean_iou").exit_code == 0
    assert read_from(out.read_bytes()).quantization == "int8"


def test_a_loss_is_of_the_scores_that_the_model_has():
    def made(metrics, **changes):
        card = type("Card", (), {"quantization": "int8"})
        before, after = (
            Scored(b"", (), {**metrics, **more}, scores=(1,) * ("ap50" in metrics)) for more in ({}, changes)
        )
        return pipeline.Quantized(card, before, after, b"")

    max_drop.check(made({"ap50": 0.9}, ap50=0.895), 0.01)
    max_drop.check(made({"auc": 0.9, "accuracy": 0.8}, accuracy=0.5), 0.01)
    with pytest.raises(max_drop.DropError, match=r"accuracy fell from 0\.8000"):
        max_drop.check(made({"auc": 0.9, "accuracy": 0.8}, accuracy=0.5), 0.01, "accuracy")
    with pytest.raises(max_drop.InputError, match="no score 'ap50': choose one of auc"):
        max_drop.check(made({"auc": 0.9}), 0.01, "ap50")
    assert set(METRICS) >= {"ap50", "mean_ap", "mean_iou"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--images", "0"], "calibration needs at least one image"),
        (["--percentile", "99"], "--percentile works only with --calibration-range percentile"),
        (["--epochs", "3"], "--epochs works only with --qat"),
        (["--metric", "ap50"], "--metric works only with --max-drop"),
        (["--dynamic", "--qat"], "--qat is for --int8, not for --dynamic"),
        (["--float16", "--layers"], "--layers is for --int8"),
        (["--float16", "--calibration-range", "percentile"], "--calibration-range percentile is for --int8"),
        (["--tile", "100"], "--tile must be a multiple of 16"),
        (["--depth", "2"], "--depth: edge-unet has 1 supervised depth"),
        (["--qat", "--side", "72"], "--side 72 is not a multiple of 16"),
    ],
)
def test_flags_that_cannot_work_are_one_clear_line(tiny_run, tiny_dataset, tmp_path, flags, words):
    out = tmp_path / "made.tflite"
    assert words in refused(tiny_run, "--data", tiny_dataset.root, "--out", out, *flags)
    assert not out.exists()
    assert not (tiny_run / "qat").exists()


def test_what_is_no_run_and_what_is_damaged(tiny_run, tiny_dataset, tmp_path):
    assert "is not a finished training run" in refused(tmp_path / "none", "--data", tiny_dataset.root)
    assert "is not a dataset" in refused(tiny_run, "--data", tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "run.json").write_bytes((tiny_run / "run.json").read_bytes())
    (broken / "model.keras").write_bytes(b"not a network")
    assert "model.keras: cannot be loaded" in refused(broken, "--data", tiny_dataset.root)
    (broken / "run.json").write_text("{")
    assert "run.json: is damaged" in refused(broken, "--data", tiny_dataset.root)
    assert sorted(p.name for p in broken.iterdir()) == ["model.keras", "run.json"]
