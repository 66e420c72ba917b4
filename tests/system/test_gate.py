"""The commands with a gate: what they say, what they write, and what they do again."""

import json
import sqlite3

import gates
import pytest

COLUMNS = "image, model, model_sha256, gate_sha256, class_name, class_probability, flags, count"


@pytest.fixture
def files(tmp_path, model_path):
    """A gate and the model that it names beside the bundled one."""
    folder = tmp_path / "models"
    folder.mkdir()
    gates.write_gate(folder / "tint.tflite")
    gates.write_model(folder / "chamber.tflite", model_path)
    return folder


@pytest.fixture
def images(tmp_path, draw_blobs, write_image):
    folder = tmp_path / "images"
    folder.mkdir()
    dark = draw_blobs()
    write_image(folder / "blank.png", gates.tinted(90, 120, 220)[..., ::-1])
    write_image(folder / "bright.png", 255 - dark)
    write_image(folder / "dark.png", dark)
    write_image(folder / "red.png", gates.tinted(220, 150, 120)[..., ::-1])
    return folder


CLASSES = {"blank.png": "blank", "bright.png": "chamber", "dark.png": "fluorescence", "red.png": "smear"}


def test_watch_says_which_models_and_the_rows_which_class(device, files, images, table):
    result = device("watch", images, "--once", "--gate", files / "tint.tflite", "--threads", 1)
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("model: ")]
    (line,) = said
    named = f"nuclei (bundled) or chamber ({files / 'chamber.tflite'}), by the gate tint ({files / 'tint.tflite'})"
    assert line == f"model: {named}, on 1 thread"
    assert "red.png" in result.stdout
    assert "! unlike what the models are made for: looks like a blood smear" in result.stdout
    rows = table(images / "cellseg-results" / "counts.csv")
    assert {row["image"]: row["class"] for row in rows} == CLASSES
    assert {row["image"]: row["model"] for row in rows} == {
        "blank.png": "tint",
        "bright.png": "chamber",
        "dark.png": "nuclei",
        "red.png": "nuclei",
    }
    assert device("ledger", "verify", images / "cellseg-results").returncode == 0


def test_json_has_the_class_and_strict_takes_a_flag_for_a_failure(device, files, images):
    result = device("run", images, "--gate", files / "tint.tflite", "--json", "--strict")
    assert result.returncode == 1
    found = {line["image"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert {image: line["class"] for image, line in found.items()} == CLASSES
    assert all(0.5 < line["class_probability"] <= 1 for line in found.values())
    assert found["blank.png"]["cells"] == 0
    assert found["blank.png"]["flags"].startswith("no cells looked for: looks like nothing at all")


def test_run_counts_again_under_another_gate_only(device, files, images):
    def done(*options):
        result = device("run", images, *options)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()[-1]

    gated = ("--gate", files / "tint.tflite")
    assert "4 images: 4 done" in done(*gated)
    assert "0 done, 0 failed, 4 done before" in done(*gated)
    assert "4 images: 4 done" in done("--gate", "none")
    assert "0 done, 0 failed, 4 done before" in done("--gate", "none")
    assert "4 images: 4 done" in done()  # with the bundled one
    watched = device("watch", images, "--once", *gated)
    assert "counts made with another model or other settings stay as they are (4 in" in watched.stderr
    assert "4 images: 4 done" in done(*gated, "--redo")
    assert "other settings" not in device("watch", images, "--once", *gated).stderr


def test_the_ledger_is_rebuilt_with_all_that_the_gate_said(device, files, images, tmp_path):
    results = images / "cellseg-results"
    assert device("run", images, "--gate", files / "tint.tflite").returncode == 0

    def rows():
        with sqlite3.connect(results / "cellseg.sqlite") as connection:
            found = connection.execute(f"SELECT {COLUMNS} FROM images ORDER BY image").fetchall()
        connection.close()
        return found

    before, counts = rows(), (results / "counts.csv").read_bytes()
    assert all(row[3] for row in before)
    for path in results.glob("cellseg.sqlite*"):
        path.unlink()
    rebuilt = device("ledger", "rebuild", results)
    assert (rebuilt.returncode, rebuilt.stdout) == (0, "4 images in the ledger, 0 left out\n"), rebuilt.stderr
    assert rows() == before
    assert (results / "counts.csv").read_bytes() == counts
    assert "4 done before" in device("run", images, "--gate", files / "tint.tflite").stdout


def test_a_summary_takes_rows_with_classes(device, files, images):
    assert device("run", images, "--gate", files / "tint.tflite").returncode == 0
    result = device("summary", images / "cellseg-results", "--xlsx")
    assert result.returncode == 0, result.stderr
    assert "(all)" in result.stdout


@pytest.mark.parametrize("command", ["run", "watch", "doctor", "bench"])
def test_what_is_no_gate_is_refused_in_a_line(device, images, model_path, command):
    where = [images] if command in ("run", "watch") else []
    for gate, words in ((model_path, "a gate is a classifier"), (images / "none.tflite", "cannot be read")):
        result = device(command, *where, "--gate", gate)
        said = result.stderr + (result.stdout if command == "doctor" else "")
        assert result.returncode == (1 if command == "doctor" else 2)
        assert words in said
        assert "Traceback" not in said


def test_doctor_tries_the_gate_and_its_models(device, files):
    result = device("doctor", "--gate", files / "tint.tflite", "--json")
    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found["gate"]["state"] == "ok"
    assert found["gate"]["text"] == "tint: 4 classes, counted with nuclei or chamber"
    result = device("doctor", "--gate", "none", "--json")
    found = {finding["name"]: finding for finding in json.loads(result.stdout)["findings"]}
    assert found["gate"]["state"] == "absent"


def test_info_shows_a_gate(device, files):
    result = device("info", files / "tint.tflite")
    assert result.returncode == 0, result.stderr
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "gate: sees the field made small, at most 64 px" in lines
    assert "smear (looks like a blood smear): the default model, flagged" in lines
    assert "blank (looks like nothing at all): nothing is looked for" in lines
    assert json.loads(device("info", files / "tint.tflite", "--json").stdout)["card"]["gate"]["side_px"] == 64


def test_bench_times_the_gate(device, files, tmp_path):
    options = ("--size", "320x240", "--runs", 2, "--gate", files / "tint.tflite")
    result = json.loads(device("bench", "--json", *options).stdout)
    assert (result["model"]["name"], result["model"]["gate"]) == ("nuclei", "tint")
    assert result["steps"]["gate"]["median_ms"] > 0
    assert "nuclei, by the gate tint (int8)" in device("bench", *options).stdout


def test_camera_goes_through_the_gate(device, files, images, tmp_path, table):
    out = tmp_path / "out"
    options = ("--source", images, "--out", out, "--every", "0", "--warm-up", "0", "--gate", files / "tint.tflite")
    result = device("camera", *options)
    assert len(rows := table(out / "counts.csv")) == len(CLASSES), result.stderr
    assert {row["class"] for row in rows} == {*CLASSES.values()}


def test_a_settings_file_names_the_gate(device, files, images, tmp_path):
    settings = tmp_path / "settings.toml"
    settings.write_text(f'gate = "{files / "tint.tflite"}"\n')
    result = device("watch", images, "--once", "--config", settings)
    assert "by the gate tint" in result.stderr
    settings.write_text('gate = "none"\n')
    assert "by the gate" not in device("watch", images, "--once", "--config", settings).stderr


def test_a_service_sees_the_gate_and_its_models(device, files, images, tmp_path):
    out = tmp_path / "results"
    service = ("install-service", "--watch", images, "--out", out, "--print", "--")
    unit = device(*service, "--gate", files / "tint.tflite").stdout
    assert f"--gate {files / 'tint.tflite'}" in unit.replace('"', "")
    assert device(*service, "--gate", "none").returncode == 0
    result = device(*service, "--gate", tmp_path / "gone.tflite")
    assert result.returncode == 2
    assert "gone.tflite: no such file: check the path" in result.stderr
