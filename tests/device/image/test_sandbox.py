"""Decoding in another process: the same images and errors, whatever a file does to its decoder."""

import ctypes
import errno
import faulthandler
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from cellseg_device.errors import ImageError
from cellseg_device.image import decode as decoding
from cellseg_device.image import sandbox, shared_pixels, template
from cellseg_device.image import source as sources
from cellseg_device.image.sandbox import Decoder, decode_here
from cellseg_device.system import lockdown

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
    signal.raise_signal(signal.SIGKILL)


@pytest.fixture
def hostile(monkeypatch, tmp_path):
    """Make a decoder with limits of a second, and files that do what their first word says."""
    plain = decoding.decode
    deeds = {f.__name__: f for f in (spin, hog, crash, fail, stop, killed)} | {"hang": lambda data: time.sleep(100)}

    def decode(data, **options):
        deed = deeds.get(data.split(b" ")[0].decode("latin-1"))
        return deed(data) if deed else plain(data, **options)

    monkeypatch.setattr(decoding, "decode", decode)  # the forked processes have it, too
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


def test_what_is_no_image_is_reported_in_the_words_of_this_process(decoder, tmp_path):
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
        ("stop", r"crashes the decoder \(exit status 3\): save it again"),
        ("fail", r"makes the decoder fail \(ValueError\): save it again"),
    ],
)
def test_a_hostile_file_costs_that_image_only(hostile, tmp_path, write_image, deed, words):
    decoder, file = hostile
    good = write_image(tmp_path / "good.png")
    for _ in range(1 if deed in ("spin", "hang") else 2):
        with pytest.raises(ImageError, match=words):
            decoder.decode(file(deed))
        assert decoder.decode(good)[1].shape == (96, 128)


@pytest.mark.parametrize("deed", ["hog", "killed"])
def test_a_file_that_needs_all_memory_is_reported_as_such(hostile, tmp_path, write_image, deed):
    decoder, file = hostile
    with pytest.raises(MemoryError):
        decoder.decode(file(deed))
    assert decoder.decode(write_image(tmp_path / "good.png"))[1].shape == (96, 128)


def test_an_image_is_not_blamed_for_what_one_before_it_did(tmp_path, write_image, monkeypatch):
    plain, seen = decoding.decode, []

    def decode(data, **options):
        seen.append(data)
        if len(seen) > 2:
            crash(data)
        return plain(data, **options)

    monkeypatch.setattr(decoding, "decode", decode)
    decoder = Decoder()
    paths = [write_image(tmp_path / f"{number}.png", seed=number) for number in range(6)]
    for path in paths:
        assert np.array_equal(decoder.decode(path)[1].pixels, plain(path.read_bytes()).pixels)
    decoder.close()


@pytest.mark.parametrize("what", ["opened", "contents"])
def test_a_drive_that_hangs_is_a_fault_of_the_disk(tmp_path, write_image, monkeypatch, what):
    plain, far = getattr(sources, what), write_image(tmp_path / "far.png")

    def hanging(file):
        info = file.stat() if what == "opened" else os.fstat(file.fileno())
        if info.st_ino == far.stat().st_ino:
            time.sleep(100)
        return plain(file)

    monkeypatch.setattr(sources, what, hanging)
    decoder = Decoder(limit_s=0.1)
    with pytest.raises(OSError, match="timed out") as caught:
        decoder.decode(far)
    assert caught.value.errno == errno.ETIMEDOUT
    assert decoder.decode(write_image(tmp_path / "near.png"))[1].shape == (96, 128)
    decoder.close()


@pytest.mark.parametrize(("module", "what"), [(sources, "opened"), (sources, "contents"), (shared_pixels, "share")])
def test_a_fault_of_the_disk_keeps_its_number(tmp_path, write_image, monkeypatch, module, what):
    def faulty(file):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module, what, faulty)
    decoder = Decoder()
    with pytest.raises(OSError, match="Input/output error") as caught:
        decoder.decode(write_image(tmp_path / "a.png"))
    assert caught.value.errno == errno.EIO
    decoder.close()


def template_of(decoder):
    return decoder._template._pid


def test_a_child_is_replaced_in_time_and_nothing_stays_open(decoder, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    decoder.decode(path)
    before = open_files("self"), open_files(template_of(decoder))
    for _ in range(2 * template._MOST_IMAGES):
        decoder.decode(path)
    assert open_files("self") == before[0]
    assert open_files(template_of(decoder)) <= before[1] + 1  # it may not have closed the last image yet
    assert len(children_of(template_of(decoder))) == 2  # the opener and the decoder


def test_a_child_that_is_killed_as_it_waits_is_replaced(decoder, tmp_path, write_image):
    path = write_image(tmp_path / "a.png")
    for number in range(4):
        assert decoder.decode(path)[1].shape == (96, 128)
        children = children_of(template_of(decoder))
        assert len(children) == 2
        os.kill(children[number % 2], signal.SIGKILL)
        time.sleep(0.05)


# The template


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "was killed from outside"), (signal.SIGSTOP, "does not answer")]
)
def test_a_template_that_is_lost_is_started_again(decoder, tmp_path, write_image, capsys, monkeypatch, number, words):
    """And never decodes the command itself: it is no longer the process to be forked, since it may have threads."""
    monkeypatch.setattr(sandbox, "_SILENT_S", 2)
    monkeypatch.setattr(decoding, "decode", crash)  # in this process, from now on
    path = write_image(tmp_path / "a.png")
    before = open_files("self")
    for _ in range(2):
        pid = template_of(decoder)
        os.kill(pid, number)
        assert decoder.decode(path)[1].shape == (96, 128)
        assert decoder.decode(path)[1].shape == (96, 128)
        assert not is_alive(pid)
        assert template_of(decoder) in children_of(os.getpid())
    assert open_files("self") == before
    line = f"warning: the decoding process {words}: it is started again"
    assert capsys.readouterr().err.splitlines() == [line, line]


def test_a_template_that_is_lost_with_an_image_in_hand_is_started_again(tmp_path, write_image, capsys, monkeypatch):
    monkeypatch.setattr(decoding, "decode", lambda data, **options: time.sleep(100))
    decoder = Decoder()
    timer = threading.Timer(0.3, lambda: os.kill(template_of(decoder), signal.SIGKILL))
    timer.start()
    assert decoder.decode(write_image(tmp_path / "a.png"))[1].shape == (96, 128)  # the new interpreter is not patched
    timer.join()
    decoder.close()
    assert "it is started again" in capsys.readouterr().err


def test_an_image_that_is_slow_is_no_silence(tmp_path, write_image, monkeypatch):
    plain = decoding.decode

    def slow(data, **options):
        time.sleep(2.5)
        return plain(data, **options)

    monkeypatch.setattr(decoding, "decode", slow)
    monkeypatch.setattr(sandbox, "_SILENT_S", 2)
    with Decoder(limit_s=5) as decoder:
        assert decoder.decode(write_image(tmp_path / "a.png"))[1].shape == (96, 128)


def test_a_command_that_is_to_stop_waits_for_silence_less_long(tmp_path, write_image, capsys, monkeypatch):
    monkeypatch.setattr(sandbox, "_SILENT_S", 10**6)
    with Decoder(is_stopping=lambda: True) as decoder:
        os.kill(template_of(decoder), signal.SIGSTOP)
        assert decoder.decode(write_image(tmp_path / "a.png"))[1].shape == (96, 128)
    assert "does not answer" in capsys.readouterr().err


def test_where_none_can_be_started_the_image_is_left_for_later(decoder, tmp_path, write_image, monkeypatch, capsys):
    path = write_image(tmp_path / "a.png")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    os.kill(template_of(decoder), signal.SIGKILL)
    with pytest.raises(OSError, match="cannot be started") as caught:
        decoder.decode(path)
    assert caught.value.errno == errno.EAGAIN
    monkeypatch.undo()
    assert decoder.decode(path)[1].shape == (96, 128)


# What a decoder that was taken over could do


@pytest.mark.parametrize(
    "deed",
    [
        Path("/etc/passwd").read_bytes,
        Path("/dev/shm/cellseg-test").touch,
        lambda: os.listdir("/"),  # noqa: PTH208
        lambda: socket.create_connection(("127.0.0.1", 9)),
        os.fork,
        lambda: os.kill(os.getppid(), signal.SIGKILL),
    ],
    ids=["read", "write", "list", "connect", "fork", "kill"],
)
def test_a_decoder_may_do_nothing_but_decode(tmp_path, write_image, monkeypatch, deed):
    if "seccomp" not in layers():
        pytest.skip("not applicable: this kernel has no seccomp")
    monkeypatch.setattr(decoding, "decode", lambda data, **options: deed())
    with Decoder() as decoder, pytest.raises(ImageError, match=r"makes the decoder fail \(PermissionError\)"):
        decoder.decode(write_image(tmp_path / "a.png"))


def test_a_decoder_has_nothing_open_but_what_it_needs(tmp_path, write_image, monkeypatch):
    def look(data, **options):
        there = [number for number in range(256) if is_open(number)]
        raise ImageError(f"has {len(there)} files")

    monkeypatch.setattr(decoding, "decode", look)
    with open(write_image(tmp_path / "a.png")), Decoder() as decoder:
        for _ in range(2):  # the standard streams, the image, and its socket
            with pytest.raises(ImageError, match="has 5 files"):
                decoder.decode(tmp_path / "a.png")


def layers():
    """What this kernel has to lock a process down with, found out in another one."""
    code = "from cellseg_device.system import lockdown; print(*lockdown.only_compute())"
    done = subprocess.run([sys.executable, "-c", code], env=with_path(), capture_output=True, text=True, check=True)
    return done.stdout.split()


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "lie",
    [
        {"shape": [96, 1 << 40]},
        {"shape": [96, 129]},
        {"shape": [0, 0]},
        {"shape": [96, 128, 2]},
        {"shape": [True, 96 * 128]},
        {"shape": "ab"},
        {"dtype": "O"},
        {"dtype": "float64"},
        {"sha256": "../../x"},
        {"sha256": None},
        {"pixel_size_um": "1"},
        {"pixel_size_um": 1e300},
        {"pixel_size_um": float("nan")},
        {"kind": "no such kind", "shape": None},
    ],
    ids=str,
)
def test_what_a_decoder_says_is_not_believed(tmp_path, write_image, monkeypatch, lie):
    plain = template._reply
    monkeypatch.setattr(
        template,
        "_reply",
        lambda answer, *descriptors: plain({**answer, **lie} if descriptors else answer, *descriptors),
    )
    with Decoder() as decoder, pytest.raises(ImageError, match="makes the decoder fail"):
        decoder.decode(write_image(tmp_path / "a.png"))


@pytest.mark.parametrize("answer", [b"", template.ALIVE, b"[]", b"text", b"[" * 60_000, b"\xff"], ids=range(6))
def test_an_answer_that_is_none_is_not_passed_on(tmp_path, write_image, monkeypatch, answer):
    plain = template._decoded_here
    monkeypatch.setattr(template, "_decoded_here", lambda *a, **o: template._Reply(answer, plain(*a, **o).descriptors))
    with Decoder() as decoder, pytest.raises(ImageError, match=r"makes the decoder fail \(no answer\)"):
        decoder.decode(write_image(tmp_path / "a.png"))


def test_children_are_waited_for_where_the_parent_ignores_them(decoder, tmp_path, write_image):
    code = IGNORING.format(path=str(write_image(tmp_path / "a.png")))
    done = subprocess.run([sys.executable, "-c", code], env=with_path(), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n2\n", "")


IGNORING = """
import signal
from pathlib import Path
from cellseg_device.errors import ImageError
from cellseg_device.image.sandbox import Decoder
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
text = Path({path!r}).with_name("text.png")
text.write_text("text")
with Decoder() as decoder:
    for number in (1, 2):
        try:
            decoder.decode(text)
        except ImageError:
            print(number)
"""


def with_path():
    return {"PYTHONPATH": str(Path(lockdown.__file__).parents[2])}


def test_memory_that_is_cut_off_afterwards_does_not_end_this_process(tmp_path, write_image, monkeypatch):
    """Reading beyond its end would be a SIGBUS here."""
    plain = shared_pixels.share

    def kept(pixels):
        described, descriptor = plain(pixels)
        again = os.dup(descriptor)
        threading.Timer(0.3, lambda: os.ftruncate(again, 0)).start()
        return described, descriptor

    monkeypatch.setattr(shared_pixels, "share", kept)
    with Decoder() as decoder:
        pixels = decoder.decode(write_image(tmp_path / "a.png"))[1].pixels
        time.sleep(0.6)
        assert pixels.sum() > 0


def test_memory_that_is_no_image_is_refused():
    described, descriptor = shared_pixels.share(np.zeros((3, 4), np.uint8))
    os.ftruncate(descriptor, 5)
    with pytest.raises(ValueError, match="not as many pixels"):
        shared_pixels.received({**described, "shape": [3, 4]}, descriptor)
    os.close(descriptor)
    read, write = os.pipe()
    with pytest.raises(ValueError, match="not shared memory"):
        shared_pixels.received({**described, "shape": [3, 4]}, read)
    os.close(read)
    os.close(write)


# Limits of the user


LIMITED = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_{name}, ({most}, {most}))
from cellseg_device.errors import ImageError
from cellseg_device.image import decode
from cellseg_device.image.sandbox import Decoder
plain = decode.decode
def harmed(data, **options):
    while data.startswith(b"spin"):
        pass
    return plain(data, **options)
decode.decode = harmed
with Decoder() as decoder:
    for path in sys.argv[1:]:
        try:
            print(decoder.decode(Path(path))[1].shape)
        except (ImageError, MemoryError) as error:
            print(repr(error))
"""


def as_ordinary_user():
    """Have root lose the right to raise limits, with the next program."""
    ctypes.CDLL(None).prctl(24, 24)  # PR_CAPBSET_DROP, CAP_SYS_RESOURCE


NO_TIME = "needs more time of the processor than this user may take: raise 'ulimit -t', then start again"


@pytest.mark.parametrize(
    ("name", "most", "reason"), [("CPU", 3, NO_TIME), ("CPU", 1 << 20, None), ("AS", 8 << 30, None)]
)
def test_a_limit_of_an_ordinary_user_is_kept_and_named(environment, tmp_path, write_image, name, most, reason):
    paths = [write_image(tmp_path / f"{number}.png") for number in range(3)]
    if reason:
        paths[1].write_bytes(b"spin")
    command = [sys.executable, "-c", LIMITED.format(name=name, most=most), *paths]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, preexec_fn=as_ordinary_user
    )
    assert done.stderr == ""
    first, second, third = done.stdout.splitlines()
    assert first == third == "(96, 128)"
    assert second == (repr(ImageError(reason)) if reason else "(96, 128)")


ENDLESS = """
import os, time
from cellseg_device.image import decode
from cellseg_device.image.sandbox import Decoder
from pathlib import Path
decode.decode = lambda data, **options: time.sleep(100)
decoder = Decoder()
print(decoder._template._pid, flush=True)
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
        while len(children := children_of(template)) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert len(children) == 2
        process.send_signal(number)
        process.wait(10)
        while any(map(is_alive, [template, *children])) and time.monotonic() < end:
            time.sleep(0.01)
        assert not any(map(is_alive, [template, *children]))


def open_files(pid):
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def children_of(pid):
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
