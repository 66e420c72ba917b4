"""`bench` and `info`, read by a program."""

import json

import pytest

STEPS = ["decode", "normalise", "gate", "tiles", "invoke", "stitch", "instances", "measure", "write"]


def test_bench_as_json(device):
    result = device("bench", "--size", "160x120", "--runs", "2", "--threads", "1", "--json")
    assert result.returncode == 0
    assert result.stderr.splitlines() == []
    found = json.loads(result.stdout)
    named = {"steps", "end_to_end", "megapixels_per_s", "peak_rss_mb", "hardware", "model"}
    assert named <= {*found}
    assert [*found["steps"]] == STEPS
    for times in (*found["steps"].values(), found["end_to_end"]):
        assert [*times] == ["median_ms", "p95_ms"]
    assert found["end_to_end"]["median_ms"] >= found["steps"]["invoke"]["median_ms"] > 0
    assert found["megapixels_per_s"] > 0 < found["peak_rss_mb"]
    assert {"model", "clock_mhz", "temperature_c", "throttling"} <= {*found["hardware"]}
    assert found["model"]["threads"] == 1
    assert found["image"]["height_px"] == 120


def test_bench_of_an_image_as_text(device, tmp_path, write_image):
    result = device("bench", write_image(tmp_path / "a.png"), "--runs", "1", "--out", tmp_path)
    assert result.returncode == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[1:10]] == STEPS
    assert "128×96 px" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--size", "0x10"], 2, "is not a size"),
        (["--size", "big"], 2, "is not a size"),
        (["--runs", "0"], 2, "--runs"),
        (["none.png"], 2, "none.png: no such file"),
        (["text.png"], 2, "text.png: is not a PNG"),
        (["--size", "1x13000"], 2, "at most 12000 pixels a side"),
        (["--size", "20000x20000"], 2, "at most 12000 pixels a side"),
        (["--out", "nowhere/at/all"], 2, "nowhere/at/all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bench_of_what_cannot_be_measured(device_here, tmp_path, arguments, code, reason):
    (tmp_path / "text.png").write_text("no image")
    result = device_here("bench", *arguments, cwd=tmp_path)
    assert result.returncode == code
    assert reason in result.stderr


def test_info_as_json(device, model_path):
    result = device("info", "--json")
    assert result.stderr.splitlines() == []
    found = json.loads(result.stdout)
    assert {*found} == {
        "file",
        "file_bytes",
        "runtime",
        "input",
        "outputs",
        "operators",
        "tensor_types",
        "peak_rss_mb",
        "card",
    }
    assert found["file"] == str(model_path)
    assert len(found["outputs"]) == len(found["card"]["outputs"])
    assert {tensor["type"] for tensor in found["input"] + found["outputs"]} == {"int8"}
    assert found["operators"]["CONV_2D"] > 0
    assert "float32" not in found["tensor_types"]
