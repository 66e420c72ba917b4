"""The commands go on whatever a file or a frame does to its decoder."""

import contextlib
import http.server
import os
import signal
import threading
import time
from pathlib import Path

import cv2
import pytest

# A decoder that some files harm, in every Python that finds this as its sitecustomize
HARMED = """
import ctypes
from cellseg_device.image import decode, sandbox
sandbox.Decoder.__init__.__defaults__ = (1.0,)
plain = decode.decode
def spin(data):
    while True:
        pass
harm = {b"crash": lambda data: ctypes.string_at(0), b"hang!": spin, b"hog!!": lambda data: bytearray(1 << 40)}
def decoded(data, **options):
    for deed in harm:
        if deed in data[:40]:  # a JPEG may have it as a comment
            return harm[deed](data)
    return plain(data, **options)
decode.decode = decoded
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="decodes in the same process here")


@pytest.fixture(scope="module")
def with_harm(environment, tmp_path_factory):
    """Variables for a command with such a decoder."""
    folder = tmp_path_factory.mktemp("harm")
    (folder / "sitecustomize.py").write_text(HARMED)
    return {**environment, "PYTHONPATH": f"{folder}{os.pathsep}{environment['PYTHONPATH']}"}


@pytest.fixture
def harmed(device, with_harm):
    """Run ``cellseg-device`` with these arguments and such a decoder."""
    return lambda *arguments: device(*arguments, env=with_harm)


def harm(path, deed="crash"):
    """Write a file that does this to its decoder."""
    path.write_text(f"{deed} of a decoder")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


@pytest.mark.parametrize("command", ["watch", "run"])
def test_files_that_crash_hang_or_eat_memory_cost_themselves(
    harmed, tmp_path, write_image, table, check_results, command
):
    folder, out = tmp_path / "captures", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        write_image(folder / f"{number}-good.png", seed=number)
    for number, deed in enumerate(("crash", "hang!", "hog!!")):
        harm(folder / f"{number}-harm.png", deed)
    images = ["watch", folder, "--once"] if command == "watch" else ["run", *sorted(folder.iterdir())]
    result = harmed(*images, "--out", out)
    assert result.returncode == 1
    prefix = "" if command == "watch" else f"{folder.name}/"
    check_results(out, [f"{prefix}{number}-good.png" for number in range(4)])
    assert [row["reason"].split(":")[0] for row in table(out / "failed.csv")] == [
        "crashes the decoder (SIGSEGV)",
        "takes more than 1 s to decode",
        "needs more memory than there is",
    ]
    assert result.stderr.count("error: ") == 3


CRASH = "crashes the decoder (SIGSEGV): save it again with another program"


def test_a_named_image_that_crashes_its_decoder_is_an_error_of_one_line(harmed, tmp_path, write_image):
    good, bad = write_image(tmp_path / "good.png"), harm(tmp_path / "bad.png")
    for arguments, line in (
        (["calibrate", "40x", bad, "--file", tmp_path / "c.toml"], f"error: {bad}: {CRASH}"),
        (["bench", bad, "--runs", 1], f"error: {bad}: {CRASH}"),
        (["run", good, "--region", bad, "--out", tmp_path / "out"], f"error: the region's mask {bad} {CRASH}"),
    ):
        done = harmed(*arguments)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, line)


def test_a_folder_that_is_played_goes_on_after_a_crash(harmed, tmp_path, write_image, table):
    folder, out = tmp_path / "frames", tmp_path / "out"
    folder.mkdir()
    harm(folder / "a.png")
    good = write_image(folder / "b.png")
    done = harmed("snap", "--source", folder, "--out", tmp_path / "snapped.png")
    assert done.returncode == 0
    assert f"warning: a.png is left out: it {CRASH}" in done.stderr.splitlines()
    assert (cv2.imread(str(tmp_path / "snapped.png")) == cv2.imread(str(good))).all()
    done = harmed("camera", "--source", folder, "--every", "0", "--out", out)
    assert done.returncode == 0
    assert len(table(out / "counts.csv")) == 1


def test_an_export_goes_on_after_an_original_that_was_replaced_by_a_hostile_one(harmed, tmp_path, write_image):
    out = tmp_path / "cellseg-results"
    for name in "ab":
        write_image(tmp_path / f"{name}.png", seed=ord(name))
    assert harmed("watch", tmp_path, "--once", "--no-overlay").returncode == 0
    harm(tmp_path / "a.png")
    done = harmed("export", out, "--format", "overlay")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: a.png: {CRASH}"]
    assert (out / "b.overlay.jpg").exists()


@contextlib.contextmanager
def sender_of(frame):
    """Send what this function gives, twenty times a second; gives the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    data = frame()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                    self.wfile.write(head.encode() + data + b"\r\n")
                    time.sleep(0.05)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("deed", ["crash", "hang!"])
def test_a_stream_goes_on_after_a_frame_that_harms_its_decoder(
    watching, with_harm, tmp_path, draw_blobs, check_results, deed
):
    good = cv2.imencode(".jpg", draw_blobs(240, 320))[1].tobytes()
    bad = good[:2] + b"\xff\xfe\x00\x07" + deed.encode() + good[2:]
    sent, out = [good], tmp_path / "out"
    options = ("--every", "100ms", "--timeout", "1s", "--warm-up", "0", "--out", out)
    with sender_of(lambda: sent[0]) as url:
        camera = watching("--source", url, *options, command="camera", variables=with_harm)
        camera.until(lambda: camera.stdout.count("\n") >= 2)
        sent[0] = bad
        camera.until(lambda: "opening it again" in camera.stderr)
        sent[0] = good
        done = camera.stdout.count("\n")
        camera.until(lambda: camera.stdout.count("\n") >= done + 2)
        assert camera.stop() == 0
    check_results(out, sorted(path.name for path in (out / "captures").iterdir()))
    fault = "crashed the process that reads it" if deed == "crash" else "hangs (no answer for 2 s)"
    lines = [line for line in camera.complaints if "left out" not in line]
    assert lines == [f"warning: the camera {fault}; opening it again", "warning: the camera is back"]


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_watch_outlives_its_decoding_process(watching, with_harm, tmp_path, write_image, check_results, number):
    watch = watching(tmp_path, "--settle", "0", variables=with_harm)
    write_image(tmp_path / "a.png")
    watch.until_done("a.png")
    (template,) = children_of(watch.process.pid)
    os.kill(template, number)
    if number == signal.SIGKILL:
        harm(tmp_path / "b.png")
        watch.until(lambda: "b.png: crashes the decoder" in watch.stderr)
        write_image(tmp_path / "c.png")
        watch.until_done("c.png")
    else:  # the command waits, but hears that it is to stop, and does what it has in hand
        write_image(tmp_path / "c.png")
        time.sleep(2)
    assert watch.stop() == 0
    fault = "was killed from outside" if number == signal.SIGKILL else "does not answer"
    assert f"warning: the decoding process {fault}: it is started again" in watch.complaints
    check_results(tmp_path / "cellseg-results", ["a.png", "c.png"])
