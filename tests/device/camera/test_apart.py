"""A source in another process: the same images, faults and warnings, whatever the source does to that process."""

import contextlib
import ctypes
import dataclasses
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cellseg_device.camera import apart, opencv, parse
from cellseg_device.camera.apart import Apart
from cellseg_device.camera.source import CameraFault, EndOfImages, Place, Settings
from cellseg_device.camera.supervise import Limits, Supervised
from cellseg_device.errors import InputError
from cellseg_device.image.decode import decode
from cellseg_device.image.sandbox import Decoder
from cellseg_device.watching.wake import StopSignal

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="sources are in this process here")

WARM = Settings(warm_up_s=0)
DEVICE = str(Path(apart.__file__).parents[2])
PLACE = Place("usb", "0", 0.5)


def crash():
    faulthandler.disable()  # pytest's, which would print all about it
    ctypes.string_at(0)


def fault():
    raise CameraFault("is away")


def end():
    raise EndOfImages


def bug():
    raise ZeroDivisionError("a mistake")


def opencv_fails():
    cv2.cvtColor(np.zeros((2, 2), np.int8), cv2.COLOR_BGR2RGB)


def write():
    Path("/dev/shm/cellseg-test").touch()


DEEDS = {deed.__name__: deed for deed in (crash, fault, end, bug, opencv_fails, write)} | {
    "hang": lambda: time.sleep(100)
}


class Scripted:
    """A camera that does what a list says, one entry per capture; it warns when it is opened."""

    description = "a camera\n"

    def __init__(self, script, settings, warn):
        self.settings = dataclasses.replace(settings, exposure_s=0.001, awb=(1.5, 2.0))
        self._script = list(script)
        warn("it is dark")

    def capture(self):
        what = self._script.pop(0)
        return DEEDS[what]() if what in DEEDS else np.full((3, 4), int(what), np.uint16)


@pytest.fixture
def opened(monkeypatch):
    """Open a camera of such a script in another process; gives it and what it has warned of."""
    with contextlib.ExitStack() as stack:

        def make(*script, place=PLACE):
            monkeypatch.setattr(opencv, "opened", lambda place, *arguments: Scripted(script, *arguments))
            said = []
            decoder = stack.enter_context(Decoder())
            return stack.enter_context(contextlib.closing(Apart(decoder, place, WARM, said.append))), said

        yield make


def process_of(camera):
    """The process that a camera is in, by the other end of its socket."""
    template = max(children_of(os.getpid()))  # the newest: other tests may have left a server for those after them
    return children_of(template)[-1]


def children_of(pid):
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


def test_images_settings_and_warnings_come_over(opened):
    camera, said = opened("7", "65535")
    assert (camera.description, said) == ("a camera?", ["it is dark"])
    assert camera.settings == dataclasses.replace(WARM, exposure_s=0.001, awb=(1.5, 2.0))
    for number in (7, 65535):
        assert np.array_equal(camera.capture(), np.full((3, 4), number, np.uint16))


@pytest.mark.parametrize(
    ("deed", "kind", "words"),
    [
        ("fault", CameraFault, "is away"),
        ("crash", CameraFault, "crashed the process that reads it"),
        ("hang", CameraFault, r"hangs \(no answer for 2 s\)"),
        ("end", EndOfImages, None),
        ("opencv_fails", CameraFault, r"made the process that reads it fail \(OpenCV\)$"),
        ("bug", CameraFault, r"made the process that reads it fail \(ZeroDivisionError: a mistake\)"),
    ],
)
def test_what_happens_there_is_raised_here(opened, deed, kind, words):
    camera, _ = opened("1", deed)
    camera.capture()
    with pytest.raises(kind, match=words):
        camera.capture()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_killed_or_halted_is_a_fault_of_the_camera(opened, number):
    camera, _ = opened("1")
    os.kill(process_of(camera), number)
    words = "crashed the process" if number == signal.SIGKILL else "hangs"
    with pytest.raises(CameraFault, match=words):
        camera.capture()


def test_a_process_that_hangs_ends_by_itself(opened):
    camera, _ = opened("hang")
    pid = process_of(camera)
    with pytest.raises(CameraFault, match="hangs"):
        camera.capture()
    camera.close()
    deadline = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_a_source_that_hangs_leaves_no_thread_behind(monkeypatch):
    monkeypatch.setattr(opencv, "opened", lambda place, *arguments: Scripted(["hang"], *arguments))
    with Decoder() as decoder:
        opener = parse.opener("usb:0", 0.5, lambda line: None, decoder)
        camera = Supervised(opener, WARM, Limits(0.5, 0), lambda line: None, StopSignal())
        with pytest.raises(Exception, match=r"hangs \(no answer for 2 s\)"):
            camera.capture()
        assert not camera.is_hung
        assert not [thread for thread in threading.enumerate() if thread.name == "cellseg-camera"]


def test_an_answer_without_an_image_is_a_fault(opened, monkeypatch):
    camera, _ = opened("1", "1")
    monkeypatch.setattr(apart.shared_pixels, "_TYPES", ())
    with pytest.raises(CameraFault, match="gave no image"):
        camera.capture()


@pytest.mark.parametrize("kind", ["stream", "video"])
def test_what_reads_a_stranger_s_frames_may_write_nothing(opened, kind):
    code = "from cellseg_device.system import lockdown; print(*lockdown.only_read())"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": DEVICE}, capture_output=True, check=True)
    if not done.stdout.strip():
        pytest.skip("not applicable: this kernel has no Landlock")
    camera, _ = opened("write", place=Place(kind, "x", 0.5))
    with pytest.raises(CameraFault, match="PermissionError"):
        camera.capture()


LIES = (
    b"not JSON",
    b"[]",
    b"[" * 50_000,
    b'{"kind": "opened"}',
    b'{"kind": "opened", "settings": []}',
    b'{"kind": "opened", "settings": {"size": "large"}}',
    b'{"kind": "opened", "settings": {"colour": 1}}',
    b'{"kind": "warning", "line": "again"}',
)


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_what_the_other_process_says_is_not_believed(monkeypatch, lie):
    """What reads a hostile stream may have been taken over."""

    def serve(connection):
        connection.recv(1 << 16)
        with contextlib.suppress(BrokenPipeError):
            for _ in range(100):
                connection.send(lie)

    monkeypatch.setattr(apart, "serve", serve)
    said = []
    with Decoder() as decoder, pytest.raises(CameraFault, match="crashed the process that reads it"):
        Apart(decoder, PLACE, WARM, said.append)
    assert len(said) <= 20


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "text.avi").write_text("text")
    with Decoder() as decoder, pytest.raises(InputError, match="is not a video that can be read"):
        parse.opener(str(tmp_path / "text.avi"), 1, pytest.fail, decoder)(WARM)


# Frames of MJPEG


@pytest.fixture
def film(tmp_path, draw_blobs):
    """Four frames of motion JPEG, of which a test may damage some."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for index in range(4):
        writer.write(cv2.cvtColor(draw_blobs(240, 320, seed=index), cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def frames_of(video):
    frames = []
    with contextlib.suppress(EndOfImages):
        while True:
            frames.append(video.capture())
    return frames


def test_a_frame_of_a_video_that_is_damaged_is_left_out(film):
    said = []
    whole = frames_of(opencv.Video(film, WARM, pytest.fail))
    assert len(whole) == 4
    data = film.read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(b"\xff\xd8\xff", at)]
    middle = (starts[1] + starts[2]) // 2
    film.write_bytes(data[:middle] + bytes(starts[2] - middle - 8) + data[starts[2] - 8 :])
    found = frames_of(opencv.Video(film, WARM, said.append))
    assert said == [f"frame 2 of {film} is left out: it is a truncated JPEG"]
    assert all(np.array_equal(one, other) for one, other in zip(found, [whole[0], *whole[2:]], strict=True))


def test_frames_without_tables_as_some_cameras_send_them_are_decoded(draw_blobs):
    """In motion JPEG the tables of the Huffman codes may be left to convention."""
    data = cv2.imencode(".jpg", draw_blobs())[1].tobytes()
    without = data.replace(b"\xff\xc4", b"\xff\xfe")  # comments instead
    assert without != data
    assert np.array_equal(decode(without).pixels, decode(data).pixels)


def test_frames_of_another_size_than_the_video_are_left_out(film):
    """As the fields of an interlaced one, of which two make a picture."""
    data = film.read_bytes()
    film.write_bytes(data.replace(b"\xff\xc0\x00\x11\x08\x00\xf0\x01\x40", b"\xff\xc0\x00\x11\x08\x00\x78\x01\x40"))
    assert film.read_bytes() != data
    said = []
    assert frames_of(opencv.Video(film, WARM, said.append)) == []
    assert said[0] == f"frame 1 of {film} is left out: it has 320×120 pixels, not 320×240"
