"""Calibrations as a user makes and uses them."""

import json

import cv2
import numpy as np
import pytest


@pytest.fixture
def home(tmp_path, environment):
    return {"env": {**environment, "XDG_CONFIG_HOME": str(tmp_path / "config")}}


def ruled(path, spacing=20):
    field = np.full((400, 500), 200, np.uint8)
    field[:, np.arange(500) % spacing < 4] = 40
    cv2.imwrite(str(path), cv2.GaussianBlur(field, (0, 0), 1))
    return path


def test_a_micrometer_gives_the_pixel_size_of_the_next_images(device, home, tmp_path, write_image, table):
    picture = tmp_path / "check.png"
    made = device("calibrate", "40x", ruled(tmp_path / "m.png"), "--picture", picture, "--json", **home)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["pixel_size_um"] == pytest.approx(0.5, rel=2e-3)
    assert cv2.imread(str(picture)).shape == (400, 500, 3)
    assert device("calibrate", "4x", "--pixel-size-um", "3.25", **home).returncode == 0
    assert device("calibrate", **home).stdout.splitlines()[0].startswith("40x: 0.5")
    field = write_image(tmp_path / "a.png")
    counted = device("run", field, "--out", tmp_path / "out", "--objective", "4x", **home)
    assert counted.returncode == 0, counted.stderr
    assert table(tmp_path / "out" / "counts.csv")[0]["pixel_size_um"] == "3.25"


def test_what_is_typed_goes_before_the_other_in_a_file_of_settings(device, home, tmp_path, write_image, table):
    device("calibrate", "4x", "--pixel-size-um", "3.25", **home)
    field, file = write_image(tmp_path / "a.png"), tmp_path / "c.toml"
    for setting, typed, size in (
        ("pixel-size-um = 0.5", ["--objective", "4x"], "3.25"),
        ("objective = '4x'", ["--pixel-size-um", "0.5"], "0.5"),
    ):
        file.write_text(setting)
        counted = device("run", field, "--out", tmp_path / "out", "--config", file, *typed, **home)
        assert counted.returncode == 0, counted.stderr
        assert table(tmp_path / "out" / "counts.csv")[0]["pixel_size_um"] == size
    file.write_text("objective = '4x'\npixel-size-um = 0.5")
    assert "both give the pixel size: leave one of them out" in device("run", field, "--config", file, **home).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["calibrate", "40x"], "name an IMAGE"),
        (["calibrate", "40x", "m.png", "--pixel-size-um", "1"], "name an IMAGE"),
        (["calibrate", "40x", "missing.png"], "missing.png: no such file"),
        (["calibrate", "40x", "plain.png"], "plain.png: shows no equally spaced lines"),
        (["calibrate", "40x", "m.png", "--picture", "check.doc"], "let it end in .png or .jpg"),
        (["calibrate", "40x", "--pixel-size-um", "0"], "'0' is not a number from 1e-05 to 100000"),
        (["calibrate", "40x", "--pixel-size-um", "nan"], "'nan' is not a number from 1e-05 to 100000"),
        (["calibrate", "40x", "m.png", "--division-um", "1e-5"], "is not a pixel size from 1e-05 to 100000"),
        (["run", "m.png", "--pixel-size-um", "1e300"], "'1e300' is not a number from 1e-05 to 100000"),
        (["run", "m.png", "--min-diameter", "9px", "--max-diameter", "5px"], "9px is above --max-diameter 5px"),
        (["run", "m.png", "--depth-mm", "inf"], "'inf' is not a number"),
        (["run", "m.png", "--dilution", "nan"], "'nan' is not a number"),
        (["run", "m.png", "--objective", "100x"], "no calibration named '100x' (there are none yet)"),
        (["run", "m.png", "--objective", "a", "--pixel-size-um", "1"], "both give the pixel size"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(device_here, home, tmp_path, arguments, words):
    ruled(tmp_path / "m.png")
    cv2.imwrite(str(tmp_path / "plain.png"), np.full((300, 300), 90, np.uint8))
    done = device_here(*arguments, cwd=tmp_path, **home)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "config").exists()


def test_a_damaged_file_is_reported_and_kept(device, home, tmp_path):
    path = tmp_path / "config" / "cellseg" / "calibrations.toml"
    path.parent.mkdir(parents=True)
    for content in ("40x = ", "[a]\npixel-size-um = -1\n", "[a]\npixel-size-um = nan\n", "a = 3\n"):
        path.write_text(content)
        done = device("calibrate", "10x", "--pixel-size-um", "1", **home)
        assert done.returncode == 2
        assert "calibrations.toml" in done.stderr
        assert path.read_text() == content


def test_a_bad_entry_can_be_made_again(device, home, tmp_path):
    path = tmp_path / "config" / "cellseg" / "calibrations.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[10x]\npixel-size-um = nan\n[40x]\npixel-size-um = 0.5\n")
    refused = device("calibrate", **home)
    assert refused.returncode == 2
    assert "[10x] has no pixel-size-um from 1e-05 to 100000: fix it, or calibrate 10x again" in refused.stderr
    assert device("calibrate", "10x", "--pixel-size-um", "1", **home).returncode == 0
    assert device("calibrate", **home).stdout == "10x: 1 µm per pixel\n40x: 0.5 µm per pixel\n"
