"""Parts of the camera: sources, ticks, supervision, captures on the disk."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg_device import image as images
from cellseg_device.camera import aid, parse, supervise
from cellseg_device.camera.captures import Captures, encoded
from cellseg_device.camera.source import CameraFault, Settings
from cellseg_device.camera.supervise import Limits, Supervised
from cellseg_device.camera.timelapse import Ticks
from cellseg_device.errors import CameraError, InputError, OutputError
from cellseg_device.wake import Alarm

WARM = Settings(warm_up_s=0)


# Sources


def test_locked_values_are_shown_as_options():
    assert WARM.options == ""
    assert Settings(None, 0.0125, 2.0, (1.8125, 1.5)).options == "--exposure 12.5ms --gain 2 --awb 1.812,1.5"
    assert Settings(exposure_s=1e-5, awb=5000).options == "--exposure 0.01ms --awb 5000K"


@pytest.mark.parametrize(
    "text", ["picamera2:", "picamera2:10", "picamera3", "usb:", "usb:-1", "usb:video0", "", "file:///x"]
)
def test_what_is_no_source_is_refused(text):
    with pytest.raises(InputError):
        parse.opener(text, 1, pytest.fail)


def test_an_empty_folder_is_refused_and_bad_files_in_it_are_passed_over(tmp_path, write_image):
    opener = parse.opener(str(tmp_path), 1, pytest.fail)
    with pytest.raises(InputError, match="no images in it"):
        opener(WARM)
    (tmp_path / "a.png").write_bytes(b"nothing")
    write_image(tmp_path / "b.png")
    said = []
    camera = parse.opener(str(tmp_path), 1, said.append)(WARM)
    assert camera.capture().shape == (96, 128)
    assert said == ["a.png is left out: it is not a PNG, JPEG or TIFF image: convert it, or move it away"]


# Ticks


def test_ticks_stay_on_their_grid_and_skip_what_is_over():
    said = []
    ticks = Ticks(10, said.append)
    start = ticks._due
    assert ticks.skip(start) == 0
    assert ticks.skip(start + 1) == 0  # a little late is on time
    assert ticks.skip(start + 1.01) == 1
    assert ticks._due == start + 10
    assert ticks.skip(start + 5) == 0
    assert ticks.skip(start + 95) == 9
    assert ticks._due == start + 100
    assert ticks.skip(start) == 0


def test_missed_ticks_are_told_once_until_one_is_on_time():
    said, alarm = [], Alarm()
    ticks = Ticks(0.05, said.append)
    for pause in (0.12, 0.12, 0, 0.12):
        ticks.wait(alarm)
        time.sleep(pause)
    ticks.wait(alarm)
    assert len(said) == 2
    assert "left out: taking and counting took longer than 0.05 s" in said[0]


# Supervision


class Scripted:
    """A camera that does what a list says, one entry per capture."""

    description = "scripted"

    def __init__(self, settings, script, log):
        self.settings = dataclasses.replace(settings, exposure_s=0.01)
        self._script, self._log = script, log
        log.append(("open", settings.exposure_s))

    def capture(self):
        what = self._script.pop(0)
        if isinstance(what, threading.Event):
            what.wait()
            return None
        if isinstance(what, Exception):
            raise what
        return what

    def close(self):
        self._log.append("close")


@pytest.fixture
def quick(monkeypatch):
    """No waiting."""
    monkeypatch.setattr(supervise, "_FIRST_DELAY_S", 0.001)
    monkeypatch.setattr(supervise, "_GRACE_S", 0.1)


def supervised(script, retries=3, **limits):
    said, log = [], []
    opener = lambda settings: Scripted(settings, script, log)  # noqa: E731
    camera = Supervised(opener, WARM, Limits(limits.get("timeout_s", 1), retries), said.append, Alarm())
    return camera, said, log


def test_a_fault_is_told_and_the_camera_opened_as_it_was_locked(quick):
    camera, said, log = supervised(["a", CameraFault("is away"), CameraFault("is away"), "b", "c"])
    assert [camera.capture() for _ in range(3)] == ["a", "b", "c"]
    assert said == ["the camera is away; opening it again", "the camera is back"]
    assert log == [("open", None), "close", ("open", 0.01), "close", ("open", 0.01)]
    camera.close()
    camera.close()
    assert log[-1] == "close"
    assert not camera.is_hung


def test_after_so_many_faults_in_a_row_it_is_given_up(quick):
    script = [CameraFault("is away"), "a", CameraFault("is away"), CameraFault("x"), "b", *[CameraFault("is away")] * 4]
    camera, said, _log = supervised(script)
    assert camera.capture() == "a"
    assert camera.capture() == "b"
    with pytest.raises(CameraError, match="the camera is away; it was opened again 3 times in vain") as raised:
        camera.capture()
    assert raised.value.exit_code == 3
    assert len(said) == 5
    assert not script


def test_a_hang_is_left_behind(quick):
    forever = threading.Event()
    camera, said, _log = supervised(["a", forever, "b"], timeout_s=0.2)
    assert camera.capture() == "a"
    start = time.monotonic()
    assert camera.capture() == "b"
    assert time.monotonic() - start < 3
    assert said[0] == "the camera hangs (no answer for 0 s); opening it again"
    assert camera.is_hung
    forever.set()


def test_a_camera_that_opens_too_late_is_closed_again(quick):
    log, gate = [], threading.Event()

    def opener(settings):
        gate.wait()
        return Scripted(settings, [], log)

    with pytest.raises(CameraError, match="hangs"):
        Supervised(opener, WARM, Limits(0.05, 3), pytest.fail, Alarm())
    gate.set()
    end = time.monotonic() + 5
    while "close" not in log and time.monotonic() < end:
        time.sleep(0.01)
    assert log == [("open", None), "close"]


def test_stopping_ends_the_waiting_for_a_camera():
    camera, _said, _log = supervised([CameraFault("is away")], retries=100)
    camera._alarm.stop()
    assert camera.capture() is None


def test_a_mistake_in_our_code_is_not_taken_for_a_fault(quick):
    camera, _said, _log = supervised([ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        camera.capture()


# Captures


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (37, 53, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_written_is_read_back_without_loss(suffix, shape, dtype):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    decoded = images.decode(encoded(pixels, suffix))
    assert decoded.pixels.dtype == dtype
    assert np.array_equal(decoded.pixels, pixels)
    assert decoded.pixel_size_um is None


@pytest.fixture
def in_memory(tmp_path, monkeypatch):
    """A folder in place of /dev/shm."""
    folder = tmp_path / "shm"
    folder.mkdir()
    monkeypatch.setattr("cellseg_device.camera.captures._IN_MEMORY", folder)
    return folder


@pytest.mark.parametrize("keep", [True, False])
def test_captures_are_named_by_time_and_number(tmp_path, in_memory, keep):
    captures = Captures(tmp_path, keep)
    pixels = np.zeros((4, 5, 3), np.uint8)
    times = (1_700_000_000_999_999_999, 1_700_000_000_999_999_999, 1_000_000_000_000_000_000)  # a clock that jumps back
    sources = [captures.write(pixels, time_ns) for time_ns in times]
    suffix = "png" if keep else "tif"
    expected = ["20231114T221320.999Z-000001", "20231114T221320.999Z-000002", "20010909T014640.000Z-000003"]
    assert [source.image for source in sources] == [f"{stem}.{suffix}" for stem in expected]
    folder = tmp_path / "captures" if keep else next(in_memory.iterdir())
    assert {source.path.parent for source in sources} == {folder}
    assert [source.mtime_ns // 1000 for source in sources] == [time_ns // 1000 for time_ns in times]
    again = Captures(tmp_path, keep)
    assert again.unfinished({sources[1].image}) == [sources[0], sources[2]]
    assert sources[1].path.exists() == keep  # a passing one that has its result was forgotten by a kill
    assert again.write(pixels, times[0]).image == f"{expected[0][:21]}000004.{suffix}"
    for source in sources:
        again.finish(source)
    assert sources[0].path.exists() == keep
    again.close()


def test_numbers_go_on_from_the_ledger(tmp_path, in_memory):
    captures = Captures(tmp_path, True)
    assert captures.unfinished(["20231114T221320.999Z-000041.tif", "other-000099.png", "/x/a.png"]) == []
    assert captures.write(np.zeros((2, 2), np.uint8), 0).image == "19700101T000000.000Z-000042.png"


def test_other_files_and_torn_ones_among_the_captures(tmp_path, in_memory):
    (tmp_path / "captures").mkdir()
    for name in ("mine.png", "20231114T221320.999Z-1.png", ".cellseg-12-0.tmp"):
        (tmp_path / "captures" / name).touch()
    assert Captures(tmp_path, True).unfinished([]) == []
    assert {path.name for path in (tmp_path / "captures").iterdir()} == {"mine.png", "20231114T221320.999Z-1.png"}


def test_a_folder_in_memory_that_is_a_trap_is_refused(tmp_path, in_memory):
    captures = Captures(tmp_path, False)
    captures.write(np.zeros((2, 2), np.uint8), 0)
    (folder,) = in_memory.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    folder.rename(in_memory / "away")
    folder.symlink_to(in_memory / "away")
    with pytest.raises(OutputError, match="belongs to somebody else"):
        Captures(tmp_path, False)


# The focus aid


def test_the_bar_is_full_at_the_best():
    assert aid.bar(0.2, 0.4) == f"focus 0.2000  {'█' * 20}{'·' * 20}   50% of the best 0.4000"
    assert aid.bar(0.4, 0.4).count("█") == 40
    assert "█" not in aid.bar(0, 0)
    assert len({len(aid.bar(score / 10, 1.0)) for score, _ in itertools.product(range(11), "x")}) == 1


def test_the_preview_is_small_and_whole(tmp_path):
    path = tmp_path / "p.jpg"
    for shape, dtype in (((1200, 1600, 3), np.uint8), ((30, 40), np.uint16), ((1, 1), np.uint8)):
        aid._write_preview(np.ones(shape, dtype), 0.1, 0.2, path)
        assert max(cv2.imread(str(path)).shape) <= 640
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.jpg"]
    with pytest.raises(OutputError, match="choose another --preview"):
        aid._write_preview(np.ones((4, 4), np.uint8), 0, 0, Path("/proc/p.jpg"))
