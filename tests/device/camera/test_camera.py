"""Parts of the camera: sources, ticks, supervision, captures on the disk."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from cellseg_device.camera import aid, parse, supervise, timelapse
from cellseg_device.camera.captures import Captures, encoded
from cellseg_device.camera.source import CameraFault, Settings
from cellseg_device.camera.supervise import Limits, Supervised
from cellseg_device.camera.timelapse import Ticks
from cellseg_device.errors import CameraError, InputError, OutputError
from cellseg_device.image import decode as decoding
from cellseg_device.image.sandbox import Decoder
from cellseg_device.pipeline.models import Models
from cellseg_device.results import tables
from cellseg_device.results.capture_names import capture_time
from cellseg_device.results.folder import Output
from cellseg_device.system.delays import Delays
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.worker import Worker

WARM = Settings(warm_up_s=0)


# Sources


def test_locked_values_are_shown_as_options():
    assert WARM.options == ""
    assert Settings(None, 0.0125, 2.0, (1.8125, 1.5)).options == "--exposure 12.5ms --gain 2 --awb 1.812,1.5"
    assert Settings(exposure_s=1e-5, awb=5000).options == "--exposure 0.01ms --awb 5000K"


@pytest.fixture
def decoder():
    with Decoder() as made:
        yield made


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("rtsp://user:s3cret@host:554/live?key=s3cret", "rtsp://host:554"),
        ("http://user:s3:cr@et@[::1]/s3cret", "http://::1"),
        ("http://s3cret@host", "http://host"),
        ("http://user:s3cret/@host/x", "http://…"),
        ("http://user:s3cret?@host/x", "http://…"),
        ("http:/user:s3cret@host/x", "http://…"),
        ("user:s3cret@host/x", "user://…"),
        ("//user:s3cret@host", "//user://host"),
        ("usb:0", "usb:0"),
        ("/films/a@b.avi", "/films/a@b.avi"),
    ],
)
def test_of_an_address_is_shown_what_is_no_secret(source, printed):
    assert parse.shown(source) == printed


@pytest.mark.parametrize("text", ["ftp://user:s3cret@host/x", "http:/user:s3cret@host/x"])
def test_an_address_that_is_refused_is_not_shown_whole(text, tmp_path):
    (tmp_path / "source").write_text(text)
    for source in (text, f"@{tmp_path}/source"):
        with pytest.raises(InputError, match="picamera2, usb:0, a URL") as caught:
            parse.opener(source, 1, print, None)
        assert "s3cret" not in caught.value.message


def test_a_source_may_be_in_a_file(tmp_path):
    (tmp_path / "source").write_text("  usb:/dev/video0 \n")
    assert parse.resolved(f"@{tmp_path}/source") == "usb:/dev/video0"
    (tmp_path / "source").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8 text"):
        parse.resolved(f"@{tmp_path}/source")
    (tmp_path / "source").write_text("usb:0\nusb:1\n")
    with pytest.raises(InputError, match="in one line"):
        parse.resolved(f"@{tmp_path}/source")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a file"):
        parse.resolved(f"@{tmp_path}/pipe")


@pytest.mark.parametrize(
    "text", ["picamera2:", "picamera2:10", "picamera3", "usb:", "usb:-1", "usb:video0", "", "file:///x"]
)
def test_what_is_no_source_is_refused(text):
    with pytest.raises(InputError):
        parse.opener(text, 1, pytest.fail, None)


def test_an_empty_folder_is_refused_and_bad_files_in_it_are_passed_over(decoder, tmp_path, write_image):
    opener = parse.opener(str(tmp_path), 1, pytest.fail, decoder)
    with pytest.raises(InputError, match="no images in it"):
        opener(WARM)
    (tmp_path / "a.png").write_bytes(b"nothing")
    write_image(tmp_path / "b.png")
    said = []
    camera = parse.opener(str(tmp_path), 1, said.append, decoder)(WARM)
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


class Clock:
    """A clock, and an alarm, on which only sleeping takes time."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 0)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timelapse, "time", clock)
    return clock


def wait(ticks, clock):
    ticks.catch_up()
    clock.sleep(ticks.left_s())
    ticks.go_on()


def test_ticks_do_not_drift(clock):
    ticks, times = Ticks(0.5, pytest.fail), []
    for pause in (0, 0.3, 0.49, 0.52, 0.1, 0.25):
        wait(ticks, clock)
        times.append(clock.now - 1000)
        clock.sleep(pause)
    assert times == [0, 0.5, 1, 1.5, pytest.approx(2.02), 2.5]  # a little late is better than never


def test_missed_ticks_are_reported_once_until_one_is_on_time(clock):
    said = []
    ticks = Ticks(0.5, said.append)
    for pause in (1.2, 1.2, 0, 1.2):
        wait(ticks, clock)
        clock.sleep(pause)
    wait(ticks, clock)
    assert len(said) == 2
    assert "left out: taking and counting took longer than 0.5 s" in said[0]


def test_tables_are_brought_up_to_date_before_a_tick_that_is_far_off(model, tmp_path, in_memory, monkeypatch):
    monkeypatch.setattr(tables, "_REST_S", 0.2)
    monkeypatch.setattr(tables, "_BUSY_PER_WRITING", math.inf)
    output = Output(tmp_path / "out", pytest.fail)
    worker, captures, stop = Worker(Models(model), output), Captures(output.folder, keep=True), StopSignal()
    output.open()
    field = captures.write(np.zeros((40, 50), np.uint8), time.time_ns())
    for _ in range(2):  # the second time its row has to be replaced
        worker.process(field)
    output.refresh_tables(now=True)
    worker.process(field)  # again, too soon for another writing
    camera = SimpleNamespace(capture=lambda: np.zeros((40, 50), np.uint8))
    behind = []

    def sleep(seconds):
        if seconds > 60:
            behind.append(output.refresh_in_s())
            stop.stop()
        else:
            time.sleep(max(seconds, 0))

    monkeypatch.setattr(stop, "sleep", sleep)
    assert len(list(timelapse.timelapse(camera, captures, worker, stop, every_s=3600, count=None))) == 1
    assert behind == [math.inf]
    worker.close()
    output.close()


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
    monkeypatch.setattr(supervise, "Delays", partial(Delays, 0.001))
    monkeypatch.setattr(supervise, "_GRACE_S", 0.1)


def supervised(script, retries=3, **limits):
    said, log = [], []
    opener = lambda settings: Scripted(settings, script, log)  # noqa: E731
    camera = Supervised(opener, WARM, Limits(limits.get("timeout_s", 1), retries), said.append, StopSignal())
    return camera, said, log


def test_a_fault_is_reported_and_the_camera_opened_as_it_was_locked(quick):
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
    assert camera.capture() == "b"
    assert said[0] == "the camera hangs (no answer for 0 s); opening it again"
    assert camera.is_hung
    forever.set()


def test_a_camera_that_opens_too_late_is_closed_again(quick):
    log, gate = [], threading.Event()

    def opener(settings):
        gate.wait()
        return Scripted(settings, [], log)

    with pytest.raises(CameraError, match="hangs"):
        Supervised(opener, WARM, Limits(0.05, 3), pytest.fail, StopSignal())
    gate.set()
    end = time.monotonic() + 5
    while "close" not in log and time.monotonic() < end:
        time.sleep(0.01)
    assert log == [("open", None), "close"]


def test_stopping_ends_the_waiting_for_a_camera():
    camera, _said, _log = supervised([CameraFault("is away")], retries=100)
    camera._stop.stop()
    assert camera.capture() is None


def stopped_soon(stop):
    """Stop once somebody is waiting."""
    threading.Timer(0.3, stop.stop).start()
    return stop


def test_stopping_a_camera_that_hangs_is_no_fault_of_it(quick):
    forever = threading.Event()
    camera, said, log = supervised([forever, "never"], retries=0, timeout_s=3600)
    stopped_soon(camera._stop)
    assert camera.capture() is None
    assert camera.is_hung
    assert (said, log) == ([], [("open", None), "close"])
    forever.set()


def test_an_image_that_is_on_its_way_is_taken_before_it_stops(quick):
    camera, _said, _log = supervised(["a"])
    camera._stop.stop()
    assert camera.capture() == "a"
    assert not camera.is_hung


def test_stopping_while_a_camera_does_not_open_is_no_fault_of_it(quick):
    forever, stop = threading.Event(), stopped_soon(StopSignal())
    camera = Supervised(lambda settings: forever.wait(), WARM, Limits(3600, 3), pytest.fail, stop)
    assert (camera.description, camera.is_hung, camera.settings) == ("", True, WARM)
    forever.set()


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
    decoded = decoding.decode(encoded(pixels, suffix))
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
    captures = Captures(tmp_path, keep=keep)
    pixels = np.zeros((4, 5, 3), np.uint8)
    times = (1_700_000_000_999_999_999, 1_700_000_000_999_999_999, 1_000_000_000_000_000_000)  # a clock that jumps back
    sources = [captures.write(pixels, time_ns) for time_ns in times]
    suffix = "png" if keep else "tif"
    expected = ["20231114T221320.999Z-000001", "20231114T221320.999Z-000002", "20010909T014640.000Z-000003"]
    assert [source.image for source in sources] == [f"{stem}.{suffix}" for stem in expected]
    folder = tmp_path / "captures" if keep else next(in_memory.iterdir())
    assert {source.path.parent for source in sources} == {folder}
    assert [source.mtime_ns // 1000 for source in sources] == [time_ns // 1000 for time_ns in times]
    taken = [capture_time(source.image).at for source in sources]
    assert taken == ["2023-11-14T22:13:20.999Z", "2023-11-14T22:13:20.999Z", "2001-09-09T01:46:40.000Z"]
    again = Captures(tmp_path, keep=keep)
    assert again.unfinished({sources[1].image}) == [sources[0], sources[2]]
    assert sources[1].path.exists() == keep  # a passing one that has its result was forgotten by a kill
    assert again.write(pixels, times[0]).image == f"{expected[0][:21]}000004.{suffix}"
    for source in sources:
        again.finish(source)
    assert sources[0].path.exists() == keep
    again.close()


def test_numbers_go_on_from_the_ledger(tmp_path, in_memory):
    captures = Captures(tmp_path, keep=True)
    assert captures.unfinished(["20231114T221320.999Z-000041.tif", "other-000099.png", "/x/a.png"]) == []
    assert captures.write(np.zeros((2, 2), np.uint8), 0).image == "19700101T000000.000Z-000042.png"


def test_other_files_and_torn_ones_among_the_captures(tmp_path, in_memory):
    (tmp_path / "captures").mkdir()
    for name in ("mine.png", "20231114T221320.999Z-1.png", ".cellseg-12-0.tmp"):
        (tmp_path / "captures" / name).touch()
    assert Captures(tmp_path, keep=True).unfinished([]) == []
    assert {path.name for path in (tmp_path / "captures").iterdir()} == {"mine.png", "20231114T221320.999Z-1.png"}


def test_a_folder_in_memory_that_is_a_trap_is_refused(tmp_path, in_memory):
    captures = Captures(tmp_path, keep=False)
    captures.write(np.zeros((2, 2), np.uint8), 0)
    (folder,) = in_memory.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    folder.rename(in_memory / "away")
    folder.symlink_to(in_memory / "away")
    with pytest.raises(OutputError, match="belongs to somebody else"):
        Captures(tmp_path, keep=False)


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
