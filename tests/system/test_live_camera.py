"""The live picture of a camera: a real `camera` on a stand-in for a USB camera, asked by a real `serve`."""

import json
import os
import shutil
import time
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from serving import served, until

from cellseg_device.camera.live_folder import HIDDEN_NAME, LiveFolder, runtime_name
from cellseg_device.image import focus
from cellseg_device.results.ledger import Ledger

LOCKED = ["--exposure", "10ms", "--size", "640x480"]


@pytest.fixture
def out(tmp_path):
    """A results folder that nobody has counted into yet."""
    folder = tmp_path / "out"
    folder.mkdir()
    Ledger(folder / "cellseg.sqlite").close()
    return folder


@pytest.fixture
def page(out, environment):
    with served(environment, out) as server:
        yield server


def frame(page, after=""):
    answer = page.ask(f"/api/camera/frame?after={after}", "POST", b"", Origin=page.base)
    assert answer.status == 200, answer.text
    head = answer.headers.get("x-cellseg-frame")
    if head is None:
        return answer.json, None
    return json.loads(unquote(head)), cv2.imdecode(np.frombuffer(answer.body, np.uint8), -1)


def first_frame(page):
    return until(lambda: (found := frame(page))[1] is not None and found)


def snap(page):
    return page.ask("/api/camera/snap", "POST", b"", Origin=page.base)


def captures(out):
    return sorted(path.name for path in (out / "captures").iterdir())


def started(running_usb, usb, out, *more):
    camera = running_usb(*usb.source, *LOCKED, "--out", out, *more)
    camera.until(lambda: camera.stdout.count("\n") >= 1)
    return camera


def test_it_shows_what_the_camera_sees_while_somebody_looks_and_writes_nothing_otherwise(running_usb, usb, out, page):
    camera = started(running_usb, usb, out, "--every", "1h")
    folder = out / HIDDEN_NAME
    time.sleep(1.5)
    assert not folder.exists()
    head, picture = first_frame(page)
    assert (head["width"], head["height"], head["exposure_s"]) == (640, 480, pytest.approx(0.01))
    assert head["camera"].endswith("640×480")
    assert picture.shape == (480, 640, 3)
    (capture,) = captures(out)
    taken = cv2.imread(str(out / "captures" / capture))
    assert head["focus"] == pytest.approx(focus.score(taken), rel=1e-6)  # the scene has not changed
    usb.show(np.full((480, 640), 60, np.uint8))
    until(lambda: frame(page)[1].std() < 3)
    head, _ = frame(page)
    assert head["focus"] == pytest.approx(0, abs=1e-6)
    assert frame(page, head["number"])[0]["number"] > head["number"]
    # Nobody looks any more
    until(lambda: not (folder / "frame").exists())
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    time.sleep(1.5)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert set(before) == {"asked"}
    assert captures(out) == [capture]  # no picture is an image
    assert camera.stop() == 0


def test_pictures_come_at_most_five_times_a_second(running_usb, usb, out, page):
    camera = started(running_usb, usb, out, "--every", "1h")
    first, _ = first_frame(page)
    begin, last = time.monotonic(), first
    while time.monotonic() - begin < 2:
        last, _ = frame(page, last["number"])
    assert 1 <= last["number"] - first["number"] <= 5 * (time.monotonic() - begin) + 1
    assert camera.stop() == 0


def test_an_image_is_taken_on_request_and_counted_beside_those_of_the_clock(running_usb, usb, out, page, table):
    camera = started(running_usb, usb, out, "--every", "1h", "--count", "2")
    answer = snap(page)
    assert answer.status == 200, answer.text
    image = answer.json["image"]
    assert captures(out)[1:] == [image]
    camera.until(lambda: camera.stdout.count("\n") == 2)
    assert [row["image"] for row in table(out / "counts.csv")] == captures(out)
    assert camera.process.poll() is None  # the second one by the clock is still to come
    assert camera.stop() != 0
    assert not (out / HIDDEN_NAME / "snap").exists()


def test_images_by_the_clock_are_not_late_while_somebody_looks(running_usb, usb, out, page, table):
    camera = started(running_usb, usb, out, "--every", "2s", "--count", "4", "--no-overlay")
    while camera.process.poll() is None:
        frame(page)
    assert len(table(out / "counts.csv")) == 4
    assert "left out" not in camera.stderr


def test_without_a_camera_it_says_so_and_how_to_start_one(page, out):
    said, picture = frame(page)
    assert picture is None
    assert said["words"].startswith("No camera is running for these results.")
    assert said["command"] == f"cellseg-device camera --out {out}"


def test_a_watch_has_no_camera(page, out, watching, tmp_path):
    (tmp_path / "images").mkdir()
    watch = watching(tmp_path / "images", "--out", out)
    watch.until(lambda: "watching" in watch.stderr)
    assert "a watch has none" in frame(page)[0]["words"]
    watch.stop()


def test_only_the_page_may_ask(page, out, tmp_path):
    for path in ("/api/camera/frame", "/api/camera/snap"):
        assert page.ask(path).status == 405
        assert page.ask(path, "POST", b"", Origin="http://evil.example").status == 403
    assert not (out / HIDDEN_NAME).exists()
    (tmp_path / "elsewhere").mkdir()
    (out / HIDDEN_NAME).symlink_to(tmp_path / "elsewhere")
    answer = page.ask("/api/camera/frame", "POST", b"", Origin=page.base)
    assert (answer.status, answer.text) == (503, f"{HIDDEN_NAME} is a link, which may lead anywhere: remove it.")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_images_in_a_folder_are_not_used_up_by_looking(watching, out, page, tmp_path, samples, table):
    (tmp_path / "images").mkdir()
    for number in range(3):
        shutil.copy(samples / "hoechst8.png", tmp_path / "images" / f"{number}.png")
    camera = watching("--source", tmp_path / "images", "--every", "2s", "--out", out, command="camera")
    heads = []
    while camera.process.poll() is None:
        heads.append(frame(page)[0])
    assert len(table(out / "counts.csv")) == 3
    assert {head["is_played"] for head in heads if "number" in head} == {True}


def test_the_folder_is_that_of_the_service_where_there_is_one(tmp_path):
    out, runtime = tmp_path / "out", tmp_path / "run"
    shared = LiveFolder(out, runtime)
    assert shared.path == out / HIDDEN_NAME
    (runtime / runtime_name(out)).mkdir(parents=True)
    assert shared.path == runtime / runtime_name(out)
    (tmp_path / "link").symlink_to(out)
    assert runtime_name(tmp_path / "link") == runtime_name(out)


@pytest.mark.skipif(os.geteuid() != 0, reason="not applicable: only root can become another user")
def test_a_folder_of_another_user_is_said_so(tmp_path, device):
    from cellseg_device.web.live_camera import LiveCamera

    out = tmp_path / "out"
    out.mkdir()
    tmp_path.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        try:
            LiveCamera(out)._ask()
        except Exception as error:  # noqa: BLE001 - of a child
            os._exit("run the page as the user who owns that" not in str(error.detail))
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
