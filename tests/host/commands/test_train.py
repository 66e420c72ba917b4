"""``cellseg-host train`` as a user meets it."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cellseg_device.model.card import read_from
from cellseg_host.cli import main
from cellseg_host.data.dataset import load, write_manifest
from cellseg_host.data.own_split import completed

TINY = ["--epochs", "2", "--steps", "2", "--batch", "2", "--side", "64"]


def test_what_it_will_do_is_printed_before_tensorflow_is_loaded(tiny_dataset, environment, tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit(7)")
    variables = environment | {"PYTHONPATH": f"{tmp_path}:{environment['PYTHONPATH']}"}
    command = [sys.executable, "-m", "cellseg_host", "train", str(tiny_dataset.root), *TINY]

    def run(*more):
        return subprocess.run(
            [*command, *more], env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = run()
    assert done.returncode == 7, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "network",
        "images",
        "epochs",
        "run",
        "loading TensorFlow …",
    ]
    assert "run: runs/edge-unet\n" in done.stdout
    assert run("--json").stdout == ""
    refused = run("--out", str(tiny_dataset.root))
    assert refused.returncode == 2
    assert "is not empty: choose another --out, or --resume the run in it" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.slow
def test_epochs_have_their_time_and_the_last_line_is_the_next_command(tiny_dataset, tmp_path):
    run = tmp_path / "my run"
    done = CliRunner().invoke(main, ["train", str(tiny_dataset.root), "--out", str(run), *TINY])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line.partition(" ")[0] for line in lines] == [
        "network:",
        "images:",
        "epochs:",
        "run:",
        "loading",
        "device:",
        "epoch",
        "epoch",
        "best:",
        "next:",
    ]
    assert "an epoch, about " in lines[6]
    assert " left" not in lines[7]
    words = shlex.split(lines[-1].removeprefix("next: "))
    expected = ["cellseg-host", "quantize", str(run), "--int8", "--data", str(tiny_dataset.root), "--out"]
    assert words == [*expected, "my run.tflite"]

    again = CliRunner().invoke(main, ["train", str(tiny_dataset.root), "--out", str(run), "--resume"])
    assert again.output.splitlines()[0] == f"resuming {run}: loading TensorFlow …"
    assert again.output.splitlines()[-1] == lines[-1]
    as_json = ["train", str(tiny_dataset.root), "--out", str(tmp_path / "other"), *TINY, "--json"]
    done = CliRunner().invoke(main, as_json)
    assert [json.loads(line)["epoch"] for line in done.stdout.splitlines()] == [1, 2]


@pytest.mark.slow
def test_a_data_set_without_a_val_split_is_trained_quantized_and_evaluated_on_one_division(tiny_dataset, tmp_path):
    root = shutil.copytree(tiny_dataset.root, tmp_path / "few")
    kept = [dataclasses.replace(e, split="train") for e in tiny_dataset.entries if e.split == "train"]
    write_manifest(root, kept)
    words = ["train", str(root), "--out", str(tmp_path / "run"), "--epochs", "1", "--steps", "2", "--batch", "2"]
    done = CliRunner().invoke(main, [*words, "--side", "64", "--seed", "3"])
    assert done.exit_code == 0, done.output
    _, note = completed(load(root), 3)
    assert note.startswith("validating on 2 of the 6 images, ")
    assert note in done.output.splitlines()
    assert "images: 4 to train on" in done.output

    model = str(tmp_path / "few.tflite")
    done = CliRunner().invoke(main, ["quantize", str(tmp_path / "run"), "--data", str(root), "--out", model])
    assert done.exit_code == 0, done.output
    assert note in done.output.splitlines()
    done = CliRunner().invoke(main, ["evaluate", model, str(root), "--split", "val", "--json"])
    scored = json.loads(done.output)["summary"]["all"]
    held = read_from(Path(model).read_bytes()).metrics["int8"]
    assert (scored["images"], scored["cells_true"]) == (2, held["cells_true"])
    assert scored["ap50"] == pytest.approx(held["ap50"], abs=1e-4)


def test_a_share_has_to_be_of_a_set(tiny_dataset, tmp_path):
    words = ["train", str(tiny_dataset.root), "--out", str(tmp_path / "run"), *TINY, "--share"]
    for share, message in (("mine=0.7", "there is no set 'mine'"), ("0.7", "'0.7' is not of the form SET=FRACTION")):
        done = CliRunner().invoke(main, [*words, share])
        assert done.exit_code == 2
        assert message in done.stderr
    assert not (tmp_path / "run").exists()
