"""Decoding in another process: the same images and errors, whatever a file does to its decoder."""

import ctypes
import errno
import faulthandler
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device import decoder as decoding
from cellseg_device import image as images
from cellseg_device.decoder import Decoder, decode_here
from cellseg_device.errors import ImageError

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="decodes in this process here")


@pytest.fixture
def decoder():
    made = Decoder()
    yield made
    made.close()


def spin(data):
    while True:
        pass


def hog(data):
    held = []
    while True:
        held.append(np.empty(1 << 28, np.uint8))  # not touched: promised memory is what counts


def crash(data):
    faulthandler.disable()  # pytest's, which would print all about it
    ctypes.string_at(0)


def fail(data):
    raise ValueError("not thought of")


def stop(data):
    os._exit(3)


def killed(data):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def hostile(monkeypatch, tmp_path):
    """Make a decoder with limits of a second, and files that do what their first word says."""
    plain = images.decode
    deeds = {f.__name__: f for f in (spin, hog, crash, fail, stop, killed)} | {"hang": lambda data: time.sleep(100)}

    def decode(data):
        deed = deeds.get(data.split(b" ")[0].decode("latin-1"))
        return deed(data) if deed else plain(data)

    monkeypatch.setattr(images, "decode", decode)  # the forked processes have it, too
    made = Decoder(limit_s=1)

    def file(deed):
        path = tmp_path / f"{deed}.png"
        path.write_bytes(deed.encode() + b" of a file")
        return path

    yield made, file
    made.close()


def test_it_may_be_made_after_opencv_was_at_work_in_threads(tmp_path, write_image, draw_blobs):
    large = np.zeros((2000, 2000, 3), np.uint8)
    threads = cv2.getNumThreads()
    for _ in range(3):
        cv2.GaussianBlur(large, (0, 0), 3)
        cv2.cvtColor(large, cv2.COLOR_BGR2RGB)
        decoder = Decoder()
        assert decoder.decode(write_image(tmp_path / "a.png", large))[1].shape == (2000, 2000)
        decoder.close()
    assert cv2.getNumThreads() == threads


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", "16.png", "16.tif", "-rgb.tif"])
def test_the_image_is_that_of_this_process(decoder, tmp_path, draw_blobs, write_image, suffix):
    pixels = draw_blobs()
    if "16" in suffix:
        pixels = pixels.astype(np.uint16) * 200
    path = tmp_path / ("a" + suffix)
    if suffix == "-rgb.tif":
        size = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(path, np.dstack([pixels] * 3), photometric="rgb", **size)
    else:
        write_image(path, pixels)
    sha256, image = decoder.decode(path)
    expected_sha256, expected = decode_here(path)
    assert sha256 == expected_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert image.pixels.dtype == expected.pixels.dtype
    assert np.array_equal(image.pixels, expected.pixels)
    assert image.pixels.flags.c_contiguous
    assert image.pixel_size_um == expected.pixel_size_um == (0.5 if suffix == "-rgb.tif" else None)


def test_what_is_no_image_is_told_in_the_words_of_this_process(decoder, tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("text")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / os.fsdecode(b"odd\xff\n.png")).write_bytes(b"\xff\xd8\xff")
    for path in (*tmp_path.iterdir(), tmp_path / "missing.png", tmp_path / ("x" * 300)):
        with pytest.raises(ImageError) as expected:
            decode_here(path)
        with pytest.raises(ImageError) as found:
            decoder.decode(path)
        assert found.value.message == expected.value.message


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("spin", "takes more than 1 s to decode: save it again"),
        ("hang", "takes more than 1 s to decode: save it again"),
        ("crash", r"crashes the decoder \(SIGSEGV\): save it again"),
        ("fail", r"makes the decoder fail \(ValueError\): save it again"),
    ],
)
def test_a_hostile_file_costs_that_image_only(hostile, tmp_path, write_image, deed, words):
    decoder, file = hostile
    good = write_image(tmp_path / "good.png")
    for _ in range(1 if deed in ("spin", "hang") else 2):
        start = time.monotonic()
        with pytest.raises(ImageError, match=words):
            decoder.decode(file(deed))
        assert time.monotonic() - start < 10
        assert decoder.decode(good)[1].shape == (96, 128)


@pytest.mark.parametrize("deed", ["hog", "killed", "stop"])
def test_a_file_that_needs_all_memory_is_told_as_such(hostile, tmp_path, write_image, deed):
    decoder, file = hostile
    with pytest.raises(MemoryError):
        decoder.decode(file(deed))
    assert decoder.decode(write_image(tmp_path / "good.png"))[1].shape == (96, 128)


def test_an_image_is_not_blamed_for_what_one_before_it_did(tmp_path, write_image, monkeypatch):
    plain, seen = images.decode, []

    def decode(data):
        seen.append(data)
        if len(seen) > 2:
            crash(data)
        return plain(data)

    monkeypatch.setattr(images, "decode", decode)
    decoder = Decoder()
    paths = [write_image(tmp_path / f"{number}.png", seed=number) for number in range(6)]
    for path in paths:
        assert np.array_equal(decoder.decode(path)[1].pixels, plain(path.read_bytes()).pixels)
    decoder.close()


def test_a_read_that_hangs_is_a_fault_of_the_disk(tmp_path, write_image, monkeypatch):
    plain = images.read

    def read(path):
        if path.name == "far.png":
            time.sleep(100)
        return plain(path)

    monkeypatch.setattr(images, "read", read)
    decoder = Decoder(limit_s=0.1)
    with pytest.raises(OSError, match="timed out") as caught:
        decoder.decode(write_image(tmp_path / "far.png"))
    assert caught.value.errno == errno.ETIMEDOUT
    assert decoder.decode(write_image(tmp_path / "near.png"))[1].shape == (96, 128)
    decoder.close()


def test_a_fault_of_the_disk_keeps_its_number(tmp_path, monkeypatch):
    def read(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(images, "read", read)
    decoder = Decoder()
    with pytest.raises(OSError, match="Input/output error") as caught:
        decoder.decode(tmp_path / "a.png")
    assert caught.value.errno == errno.EIO
    decoder.close()


def test_a_child_is_replaced_in_time_and_nothing_stays_open(decoder, tmp_path, write_image, monkeypatch):
    path = write_image(tmp_path / "a.png")
    decoder.decode(path)
    before = open_files()
    for _ in range(2 * decoding._MOST_IMAGES):
        decoder.decode(path)
    assert open_files() == before
    assert len(children_of(decoder._pid)) <= 1


def test_a_child_that_is_killed_as_it_waits_is_replaced(decoder, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    for _ in range(3):
        assert decoder.decode(path)[1].shape == (96, 128)
        (child,) = children_of(decoder._pid)
        os.kill(child, signal.SIGKILL)
        time.sleep(0.05)


def test_where_the_template_is_killed_the_work_goes_on_here(decoder, tmp_path, write_image, capsys):
    path = write_image(tmp_path / "a.png")
    decoder.decode(path)
    os.kill(decoder._pid, signal.SIGKILL)
    assert decoder.decode(path)[1].shape == (96, 128)
    assert decoder.decode(path)[1].shape == (96, 128)
    assert capsys.readouterr().err.splitlines() == [
        "warning: the process for decoding was ended from outside: a hostile image may now stop this one"
    ]


ENDLESS = """
import os, time
from cellseg_device import image as images
from cellseg_device.decoder import Decoder
from pathlib import Path
images.decode = lambda data: time.sleep(100)
decoder = Decoder()
print(decoder._pid, flush=True)
decoder.decode(Path({path!r}))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_the_one_that_decodes(environment, tmp_path, write_image, number):
    path = write_image(tmp_path / "a.png")
    code = ENDLESS.format(path=str(path))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **pipes) as process:
        template = int(process.stdout.readline())
        end = time.monotonic() + 10
        while not (children := children_of(template)) and time.monotonic() < end:
            time.sleep(0.01)
        assert len(children) == 1
        process.send_signal(number)
        process.wait(10)
        while any(map(is_alive, [template, *children])) and time.monotonic() < end:
            time.sleep(0.01)
        assert not any(map(is_alive, [template, *children]))


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
