"""``cellseg-host adapt``: what it refuses at once, and, slowly, that it adapts, proves, resumes and repeats itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from cellseg_device.model import card as cards
from cellseg_device.model.interpreter import Model
from cellseg_device.pipeline import selftest
from cellseg_host.cli import main
from cellseg_host.data.dataset import save_png

FEW = ["--epochs", "2", "--steps", "12"]


def adapt(*words):
    return CliRunner().invoke(main, ["adapt", *map(str, words)])


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("number", "cells", "message"),
    [
        (1, 12, "has 1 image, which leaves none to judge the new model by"),
        (3, 0, "no corrected image has a cell, so nothing can be learnt"),
    ],
)
def test_corrections_that_prove_nothing_are_refused_at_once(write_corrections, tmp_path, number, cells, message):
    folder = write_corrections(tmp_path / "mine", number, cells=cells)
    done = adapt(folder, "--out", tmp_path / "mine.tflite")
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert files_in(tmp_path) == ["mine"]


def test_labels_of_another_size_are_refused_by_the_image_s_name(write_corrections, tmp_path):
    folder = write_corrections(tmp_path / "mine")
    save_png(folder / "labels" / "field1.png", np.ones((128, 100), np.uint16))
    done = adapt(folder, "--out", tmp_path / "mine.tflite")
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "field1" in line


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("mine.model", "is not the name of a model: end it with .tflite"),
        ("diary.tflite", "diary.tflite: is a file that is not a model, and would be replaced: choose another --out"),
        ("mine.tflite", "mine.html: would be replaced by the page about the model: choose another --out"),
        ("start.tflite", "is the model to start from: choose another --out"),
    ],
)
def test_an_out_that_would_harm_is_refused_at_once(write_corrections, model_path, tmp_path, out, message):
    folder = write_corrections(tmp_path / "mine")
    for name in ("mine.html", "diary.tflite"):
        (tmp_path / name).write_text("my diary")
    shutil.copy(model_path, tmp_path / "start.tflite")
    done = adapt(folder, "--out", tmp_path / out, "--init", tmp_path / "start.tflite")
    assert done.exit_code == 2
    assert message in done.stderr
    assert {(tmp_path / name).read_text() for name in ("mine.html", "diary.tflite")} == {"my diary"}


@pytest.mark.slow
def test_it_adapts_proves_and_says_so(write_corrections, environment, tmp_path):
    """And with the same seed it makes the same model, be it killed in between."""
    folder = write_corrections(tmp_path / "mine", 2)
    done = adapt(folder, "--out", tmp_path / "a" / "mine.tflite", *FEW, "--json", "--work", tmp_path / "work")
    assert (done.exit_code, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    held = document["held_out"]
    assert document["better"]
    assert held["after"]["ap50"] > held["before"]["ap50"]
    assert held["after"]["total_count_error"] <= held["before"]["total_count_error"]
    assert held["after"]["images"] == 2
    assert document["replayed"]["after"]["images"] == 15

    made = tmp_path / "a" / "mine.tflite"
    model = Model(made)
    assert model.card.name == "mine"
    assert selftest.check(model) is None
    assert model.card.separation.join is not None
    about = model.card.provenance["adapted"]
    assert about["start"]["name"] == "nuclei"
    assert about["corrections"]["images"] == 2
    assert (about["better"], about["anyway"]) == (True, False)
    assert about["after"]["ap50"] == pytest.approx(held["after"]["ap50"], abs=1e-4)
    page = (tmp_path / "a" / "mine.html").read_text(encoding="utf-8")
    first = page.index('<p class="verdict">The new model is better: on 2 images held out from learning, AP@0.5 ')
    assert first < page.index("Before and after")
    assert page.count("data:image/jpeg") >= 4
    assert "http" not in page.replace("http://www.w3.org", "")

    # Killed while it trained its second model, and gone on with
    words = ["adapt", folder, "--out", tmp_path / "b" / "mine.tflite", *FEW, "--work", tmp_path / "killed"]
    command = [sys.executable, "-m", "cellseg_host", *map(str, words)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = tmp_path / "killed" / "model-2" / "run" / "history.csv"
    deadline = time.monotonic() + 500
    while not begun.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert begun.exists()
    assert not (tmp_path / "b").exists()
    first_model = tmp_path / "killed" / "model-1" / "model.tflite"
    before = first_model.stat().st_mtime_ns
    done = adapt(*words[1:], "--resume")
    assert done.exit_code == 0, done.stderr
    assert first_model.stat().st_mtime_ns == before
    assert "model 3 of 3: learnt from all images" in done.stdout
    again = cards.read_from((tmp_path / "b" / "mine.tflite").read_bytes())
    assert again.separation == model.card.separation
    assert again.known_answer == model.card.known_answer


@pytest.mark.slow
def test_a_model_that_gets_worse_is_not_written_unless_asked_for(write_corrections, tmp_path):
    """The start model is good on these images, and steps that are far too long spoil it."""
    folder = write_corrections(tmp_path / "mine", 2, noise=0)
    out = tmp_path / "mine.tflite"
    words = [folder, "--out", out, "--epochs", "1", "--steps", "4", "--learning-rate", "0.05"]
    done = adapt(*words)
    assert done.exit_code == 1
    assert "The new model is not better: on 2 images held out from learning, AP@0.5" in done.stdout
    assert (
        "so it was not written: correct more images, or write it all the same with: cellseg-host adapt" in done.stderr
    )
    assert files_in(tmp_path) == ["mine", "mine.adapt"]
    refused = (tmp_path / "mine.adapt" / "page.html").read_text(encoding="utf-8")
    assert '<p class="verdict">The new model is not better: ' in refused

    command = done.stderr.splitlines()[-1].rpartition("with: ")[2].split()
    assert command[:2] == ["cellseg-host", "adapt"]
    done = CliRunner().invoke(main, command[1:])
    assert done.exit_code == 0, done.stderr
    assert files_in(tmp_path) == ["mine", "mine.html", "mine.tflite"]
    about = Model(out).card.provenance["adapted"]
    assert (about["better"], about["anyway"]) == (False, True)
    assert "It was written all the same, as --anyway asks for." in (tmp_path / "mine.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_from_one_image_a_model_is_made_only_without_proof(write_corrections, tmp_path):
    folder = write_corrections(tmp_path / "mine", 1)
    done = adapt(folder, "--out", tmp_path / "mine.tflite", "--epochs", "1", "--steps", "4", "--anyway")
    assert done.exit_code == 0, done.stderr
    assert "Nothing proves that the new model is better: there was no image to judge it by." in done.stdout
    card = Model(tmp_path / "mine.tflite").card
    assert card.metrics == {}
    assert card.provenance["adapted"]["better"] is False
