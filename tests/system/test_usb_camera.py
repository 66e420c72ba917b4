"""A USB camera: OpenCV's real V4L2 code on a stand-in for the kernel's side (see virtual_camera/fakev4l.c)."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest


def test_the_largest_size_or_the_one_asked_for(device, usb, tmp_path):
    for size, expected in ([], (1200, 1600)), (["--size", "320x240"], (240, 320)):
        done = device("snap", *usb.source, "--out", tmp_path / "x.png", "--force", *size, env=usb.variables)
        assert done.returncode == 0, done.stderr
        assert cv2.imread(str(tmp_path / "x.png")).shape[:2] == expected
    done = device("snap", *usb.source, "--out", tmp_path / "x.png", "--force", "--size", "640x400", env=usb.variables)
    assert "warning: the camera has no size 640x400: using 640x480" in done.stderr


def test_what_was_asked_for_is_set_and_the_image_follows(device, usb, tmp_path):
    usb.show(np.full((480, 640), 110, np.uint8))
    levels = []
    for exposure in ("10ms", "20ms"):
        asked = ["--exposure", exposure, "--gain", "30", "--awb", "5000K"]
        done = device("snap", *usb.source, "--out", tmp_path / "x.png", "--force", *asked, env=usb.variables)
        assert done.returncode == 0
        assert done.stderr.strip().endswith(f"; locked: --exposure {exposure} --gain 30 --awb 5000K")
        levels.append(int(cv2.imread(str(tmp_path / "x.png")).mean()))
    assert levels == [pytest.approx((grey - 16) * 255 / 219, abs=1.5) for grey in (110, 220)]


def test_the_light_is_locked_and_images_are_counted_as_files_are(device, usb, tmp_path, table, check_results):
    """The automatic of the stand-in changes the exposure with every frame."""
    out, again = tmp_path / "out", tmp_path / "again"
    done = device(
        "camera", *usb.source, "--size", "640x480", "--every", "0", "--count", 4, "--out", out, env=usb.variables
    )
    assert done.returncode == 0, done.stderr
    line = done.stderr.splitlines()[0]
    assert "; locked: --exposure " in line
    captures = sorted((out / "captures").iterdir())
    first = cv2.imread(str(captures[0]))
    assert all(np.array_equal(cv2.imread(str(path)), first) for path in captures)
    check_results(out, [path.name for path in captures])
    assert device("run", *captures, "--out", again).returncode == 0
    counts = [int(row["count"]) for row in table(out / "counts.csv")]
    assert counts == [int(row["count"]) for row in table(again / "counts.csv")]
    assert counts[0] > 10


def test_a_camera_without_controls_is_reported(device, usb, tmp_path):
    done = device("snap", *usb.source, "--out", tmp_path / "x.png", env={**usb.variables, "FAKE_V4L_BARE": "1"})
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == (
        "warning: the camera does not let its exposure, gain, white balance be locked: counts may drift with the light"
    )
    done = device("snap", *usb.source, "--out", tmp_path / "y.png", "--gain", "999", env=usb.variables)
    assert "the camera does not let its gain be locked" in done.stderr
    done = device("snap", *usb.source, "--out", tmp_path / "y.png", "--force", "--awb", "1,2", env=usb.variables)
    assert (done.returncode, done.stderr) == (
        2,
        "error: the white balance of a USB camera is a temperature: write --awb 5000K\n",
    )


@pytest.mark.slow
def test_images_are_of_now_not_of_what_queued_up(usb, running_usb, tmp_path, draw_blobs):
    out = tmp_path / "out"
    dark, bright = np.full((480, 640), 40, np.uint8), np.full((480, 640), 200, np.uint8)
    usb.show(dark)
    fixed = ["--exposure", "10ms", "--size", "640x480"]
    camera = running_usb(*usb.source, *fixed, "--every", "1500ms", "--out", out)
    camera.until(lambda: camera.stdout.count("\n") == 1)
    usb.show(bright)
    camera.until(lambda: camera.stdout.count("\n") == 2)
    assert camera.stop() == 0
    first, second = (cv2.imread(str(path)).mean() for path in sorted((out / "captures").iterdir()))
    assert first < 60
    assert second > 180


@pytest.mark.slow
def test_unplugging_is_survived_and_the_light_stays_locked(usb, running_usb, tmp_path, check_results):
    out = tmp_path / "out"
    camera = running_usb(*usb.source, "--size", "640x480", "--every", "300ms", "--out", out)
    camera.until(lambda: camera.stdout.count("\n") >= 2)
    usb.path.unlink()
    camera.until(lambda: "opening it again" in camera.stderr)
    time.sleep(2)
    usb.path.touch()
    done = camera.stdout.count("\n")
    camera.until(lambda: camera.stdout.count("\n") >= done + 2)
    assert camera.stop() == 0
    captures = sorted((out / "captures").iterdir())
    check_results(out, [path.name for path in captures])
    lines = [line for line in camera.complaints if "left out" not in line]
    assert lines == ["warning: the camera gave no image; opening it again", "warning: the camera is back"]
    first, last = cv2.imread(str(captures[0])), cv2.imread(str(captures[-1]))
    assert np.array_equal(first, last)
