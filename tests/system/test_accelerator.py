"""``--accelerator`` as a user meets it on a computer without an Edge TPU."""

import json
import shutil

import pytest

from cellseg_device.model import card as cards
from cellseg_device.model import edgetpu
from cellseg_device.model.graph import _EDGETPU_MARK

pytestmark = pytest.mark.skipif(bool(edgetpu.devices()), reason="not applicable: there is an Edge TPU here")


@pytest.fixture
def pair(tmp_path, model_path):
    """a.tflite and a_edgetpu.tflite."""
    plain, compiled = tmp_path / "a.tflite", tmp_path / "a_edgetpu.tflite"
    shutil.copyfile(model_path, plain)
    data = model_path.read_bytes()
    compiled.write_bytes(cards.attach(cards.strip(data) + _EDGETPU_MARK, cards.read_from(data)))
    return plain, compiled


def test_the_cpu_stands_in_with_one_warning(device, tmp_path, pair, write_image, check_results):
    images = [write_image(tmp_path / f"{number}.png", seed=number) for number in range(3)]
    done = device("run", *images, "--out", tmp_path / "out", "--model", pair[1])
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: no Edge TPU can be used (none")
    assert line.endswith("counting goes on with the CPU until the Edge TPU works")
    check_results(tmp_path / "out", [image.name for image in images])
    again = device("run", *images, "--out", tmp_path / "out", "--model", pair[0])
    assert "0 done, 0 failed, 3 done before" in again.stdout
    assert again.stderr == ""


@pytest.mark.parametrize("command", [["run", "{}/i.png"], ["watch", "{}"], ["bench", "--runs", "1", "--size", "64x64"]])
def test_an_edge_tpu_that_is_needed_and_missing_is_reported(device, tmp_path, pair, write_image, command):
    write_image(tmp_path / "i.png")
    command = [word.replace("{}", str(tmp_path)) for word in command]
    for arguments, words in (
        (["--accelerator", "edgetpu", "--model", pair[0]], "error: no Edge TPU can be used (none"),
        (["--accelerator", "edgetpu"], "is not compiled for an Edge TPU, and there is no nuclei_edgetpu.tflite"),
        (["--accelerator", "cpu", "--model", pair[1]], f"does not run on the CPU: name {pair[0]}"),
    ):
        done = device(*command, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert words in line


def test_it_is_a_setting_like_others(device, tmp_path, pair):
    (tmp_path / "a.toml").write_text('[bench]\naccelerator = "edgetpu"\n')
    config = ["--config", tmp_path / "a.toml"]
    assert device("bench", "--model", pair[0], *config).returncode == 2
    done = device("bench", "--model", pair[0], "--accelerator", "cpu", "--json", "--runs", "1", *config)
    assert json.loads(done.stdout)["model"]["accelerator"] == "cpu"
    settings = json.loads(device("config", "--json", *config).stdout)["settings"]
    assert [settings[name]["accelerator"]["value"] for name in ("bench", "watch")] == ["edgetpu", "auto"]
    (tmp_path / "a.toml").write_text('accelerator = "gpu"\n')
    refused = device("bench", *config)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1


def test_a_damaged_pair_is_refused_in_a_line(device, tmp_path, pair, write_image):
    image = write_image(tmp_path / "i.png")
    data = pair[1].read_bytes()
    for content in (data[: len(data) // 2], b"", b"\0\0\0\0TFL3" + _EDGETPU_MARK):
        pair[1].write_bytes(content)
        for named in pair[1:]:
            done = device("run", image, "--out", tmp_path / "out", "--model", named)
            assert done.returncode == 2
            assert done.stderr.count("\n") == 1
        done = device("run", image, "--out", tmp_path / "out", "--model", pair[0])
        assert done.returncode == 0
        assert done.stderr.endswith("; counting on the CPU\n")
        assert done.stderr.count("\n") == 1
