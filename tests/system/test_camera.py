"""`camera` and `snap` with what is no Raspberry Pi camera: folders, video files, and streams that misbehave."""

from __future__ import annotations

import bisect
import contextlib
import http.server
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

SAMPLES = Path(__file__).resolve().parents[2] / "models" / "samples"
BITS = 14


def sent_frames(film: Path) -> list[np.ndarray]:
    """The frames of a film, each decoded as the JPEG file that it is."""
    frames, decoded = cv2.VideoCapture(str(film), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1]), []
    while (read := frames.read())[0]:
        decoded.append(cv2.imdecode(read[1], cv2.IMREAD_COLOR))
    return decoded


def names(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "captures").iterdir())


# Looks at what all cameras of this machine hold in memory
holds_in_memory = pytest.mark.xdist_group("in memory")


def in_memory() -> set[Path]:
    return set(Path("/dev/shm").glob("cellseg-*/2*"))


@pytest.fixture
def folder(tmp_path, write_image) -> Path:
    """Three images to play."""
    path = tmp_path / "frames"
    path.mkdir()
    for index in range(3):
        write_image(path / f"{index}.png", seed=index, count=5 + 3 * index)
    return path


@pytest.fixture
def film(tmp_path, draw_blobs) -> Path:
    """Motion JPEG as a USB camera gives it, six frames."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    assert writer.isOpened()
    for index in range(6):
        writer.write(cv2.cvtColor(draw_blobs(240, 320, seed=index, count=6 + 2 * index), cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


class Sender:
    """MJPEG over HTTP on loopback, twenty frames a second, until a test makes it behave badly.

    Attributes
    ----------
    mood : str
        ``send``, ``stall`` (says nothing more) or ``drop`` (hangs up).
    """

    def __init__(self, frame: Callable[[], bytes]) -> None:
        self.mood = "send"
        self.connections = 0
        self._frame = frame
        self._server: http.server.ThreadingHTTPServer | None = None
        self._port = 0
        self.begin()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/stream"

    def begin(self) -> None:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None: ...

            def do_GET(self) -> None:
                outer.connections += 1
                with contextlib.suppress(OSError):
                    outer._send(self)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def end(self) -> None:
        """Unplug it: nobody listens any more."""
        self.mood = "drop"
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _send(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if self.mood == "drop":
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        while self.mood != "drop":
            if self.mood == "send":
                data = self._frame()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                request.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(0.05)
        request.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def sender(draw_blobs):
    """Start a sender of this frame, or of what this function gives."""
    senders = []

    def start(frame: Callable[[], bytes] | None = None) -> Sender:
        blobs = cv2.imencode(".jpg", draw_blobs(240, 320, count=12))[1].tobytes()
        senders.append(Sender(frame or (lambda: blobs)))
        return senders[-1]

    yield start
    for one in senders:
        one.end()


@pytest.fixture
def stills():
    """Start a camera that answers each request with one image, which this function gives; return its address."""
    servers = []

    def start(frame: Callable[[], bytes]) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None: ...

            def do_GET(self) -> None:
                data = frame()
                self.send_response(200)
                self.send_header("Content-Type", "image/jpeg")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/shot.jpg"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def numbered_frame(made: list[float]) -> Callable[[], bytes]:
    """Frames that show their number as a row of bars, binary; `made` gets the time of each."""

    def frame() -> bytes:
        made.append(time.time())
        bits = np.array([len(made) >> bit & 1 for bit in range(BITS)], np.uint8)
        return cv2.imencode(".jpg", np.kron(255 * bits, np.ones((64, 16), np.uint8)))[1].tobytes()

    return frame


def shown_number(path: Path) -> int:
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return sum(int(pixels[32, 16 * bit + 8] > 128) << bit for bit in range(BITS))


def named_time(path: Path) -> float:
    return datetime.strptime(path.name[:20], "%Y%m%dT%H%M%S.%fZ"[:-1] + "Z").replace(tzinfo=UTC).timestamp()


def test_a_folder_is_played_and_counted_as_its_files_are(device, folder, tmp_path, table, check_results):
    out, direct = tmp_path / "out", tmp_path / "direct"
    done = device("camera", "--source", folder, "--every", "0", "--out", out, "--overlay")
    assert done.returncode == 0
    about, taking, results, model, *_ = done.stderr.splitlines()
    assert about == f"camera: {folder}, 3 images"
    assert taking == "taking one image after the other, until stopped"
    assert results == f"results: {out}"
    assert model.startswith("model: nuclei or chamber, by the gate kind (bundled), on ")
    assert device("run", *sorted(folder.iterdir()), "--out", direct).returncode == 0
    captures = names(out)
    assert [name.rpartition("-")[2] for name in captures] == ["000001.png", "000002.png", "000003.png"]
    check_results(out, captures)
    for index, row in enumerate(table(out / "counts.csv")):
        time = datetime.fromisoformat(row["captured_at"]).timestamp()
        assert (time, row["captured_from"]) == (named_time(out / row["image"]), "camera")
        labels = tifffile.imread(out / row["labels"])
        assert np.array_equal(labels, tifffile.imread(direct / f"{index}.labels.tif"))
        assert np.array_equal(
            cv2.imread(str(out / "captures" / row["image"])), cv2.imread(str(folder / f"{index}.png"))
        )
    assert len(list(out.glob("*.overlay.jpg"))) == 3


def test_samples_of_16_bits_and_in_colour_are_kept_without_loss(device, tmp_path):
    out = tmp_path / "out"
    assert device("camera", "--source", SAMPLES, "--every", "0", "--out", out).returncode == 0
    for name, sample in zip(names(out), sorted(SAMPLES.glob("*.png")), strict=True):
        capture, original = (cv2.imread(str(path), -1) for path in (out / "captures" / name, sample))
        assert capture.dtype == original.dtype
        assert np.array_equal(capture, original)


def test_a_film_is_counted_as_its_frames_are(device, film, tmp_path, table, check_results):
    out, again = tmp_path / "out", tmp_path / "again"
    done = device("camera", "--source", film, "--every", "0", "--out", out, "--json")
    assert done.returncode == 0
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["status"] for line in lines] == ["done"] * 6
    check_results(out, names(out))
    for name, frame in zip(names(out), sent_frames(film), strict=True):
        assert np.array_equal(cv2.imread(str(out / "captures" / name)), frame)
    assert device("run", *(out / "captures" / name for name in names(out)), "--out", again).returncode == 0
    counts = [row["count"] for row in table(out / "counts.csv")]
    assert counts == [row["count"] for row in table(again / "counts.csv")] == [str(line["cells"]) for line in lines]
    assert len(set(counts)) > 3


@holds_in_memory
def test_a_second_session_goes_on_with_the_numbers(device, folder, tmp_path, check_results):
    out = tmp_path / "out"
    for discard in ([], ["--discard-originals"], []):
        assert (
            device("camera", "--source", folder, "--every", "0", "--out", out, "--count", 2, *discard).returncode == 0
        )
    kept = names(out)
    assert [name.rpartition("-")[2][:6] for name in kept] == ["000001", "000002", "000005", "000006"]
    rows = sorted(path.name for path in out.glob("*.labels.tif"))
    assert [name[21:27] for name in rows] == [f"{number:06}" for number in range(1, 7)]


@holds_in_memory
def test_discarded_originals_leave_nothing(device, folder, tmp_path, table):
    out, before = tmp_path / "out", in_memory()
    done = device("camera", "--source", folder, "--every", "0", "--out", out, "--discard-originals")
    assert done.returncode == 0
    assert len(table(out / "counts.csv")) == 3
    assert not (out / "captures").exists()
    assert in_memory() == before


@pytest.mark.slow
def test_a_film_that_is_cut_short_is_reported(device, film, tmp_path):
    data = film.read_bytes()
    film.write_bytes(data[: len(data) // 2])
    done = device("camera", "--source", film, "--every", "0", "--out", tmp_path / "out")
    assert f"warning: frame 3 of {film} is left out: it is a truncated JPEG" in done.stderr
    assert f"{film} ends after 3 of 6 frames: it is damaged, or cut short" in done.stderr
    assert "2 images: 2 done" in done.stderr


def test_missed_ticks_are_left_out_and_reported(device, film, tmp_path):
    done = device("camera", "--source", film, "--every", "1ms", "--out", tmp_path / "fast")
    (warning,) = (line for line in done.stderr.splitlines() if line.startswith("warning"))
    assert "left out: taking and counting took longer than 0.001 s" in warning


@pytest.mark.slow
@holds_in_memory
@pytest.mark.parametrize("discard", [False, True], ids=["kept", "discarded"])
def test_a_kill_between_capture_and_result_is_made_up_for_once(device, watching, tmp_path, write_image, table, discard):
    frames, out = tmp_path / "frames", tmp_path / "out"
    frames.mkdir()
    for index in range(4):
        write_image(frames / f"{index}.png", height=1200, width=1600, seed=index, count=150)
    options = ["--source", frames, "--every", "0", "--out", out, *(["--discard-originals"] if discard else [])]
    before = in_memory()
    captures = (lambda: sorted(in_memory() - before)) if discard else (lambda: sorted((out / "captures").glob("2*")))
    camera = watching(*options, command="camera")
    while not captures():
        assert camera.process.poll() is None
    camera.process.send_signal(signal.SIGKILL)
    camera.process.wait()
    (left,) = captures()
    assert not list(out.glob("*.labels.tif"))
    done = device("camera", *options, "--count", 1)
    assert done.returncode == 0, done.stderr
    rows = table(out / "counts.csv")
    assert [row["image"].rpartition("-")[2][:6] for row in rows] == ["000001", "000002"]
    assert rows[0]["image"] == left.name
    assert rows[0]["count"] == rows[1]["count"] != "0"  # the folder is played from its start
    assert len(captures()) == (0 if discard else 2)
    done = device("camera", *options, "--count", 1)
    assert [row["image"][21:27] for row in table(out / "counts.csv")] == ["000001", "000002", "000003"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_image_in_hand(watching, sender, tmp_path, check_results, number):
    out = tmp_path / "out"
    camera = watching("--source", sender().url, "--every", "1h", "--out", out, command="camera")
    camera.until(lambda: camera.stdout)
    assert camera.stop(number) == 0
    assert len(names(out)) == 1
    check_results(out, names(out))
    assert camera.complaints == []


@pytest.mark.parametrize("first", ["send", "stall"])
def test_a_signal_does_not_wait_for_a_camera_that_stalls(watching, sender, tmp_path, first):
    server = sender()
    server.mood = first
    options = ["--source", server.url, "--timeout", "1h", "--out", tmp_path / "out"]
    camera = watching(*options, command="camera")
    camera.until(lambda: camera.stdout if first == "send" else server.connections)
    server.mood = "stall"
    time.sleep(0.5)  # so that it waits for the next one
    assert camera.stop(signal.SIGINT) == 0
    assert camera.complaints == []
    assert camera.stderr.splitlines()[-1].startswith("stopped after ")


@pytest.mark.slow
def test_images_of_a_stream_are_of_now_not_of_what_queued_up(device, sender, tmp_path):
    made, out = [], tmp_path / "out"
    server = sender(numbered_frame(made))
    assert device("camera", "--source", server.url, "--every", "1500ms", "--count", 4, "--out", out).returncode == 0
    paths = [out / "captures" / name for name in names(out)]
    assert len(paths) == 4
    shown = [shown_number(path) for path in paths]
    newest = [bisect.bisect(made, named_time(path) + 0.001) for path in paths]  # their names are cut to milliseconds
    assert all(0 <= there - seen < there / 4 for seen, there in zip(shown[1:], newest[1:], strict=True)), (
        shown,
        newest,
    )


@pytest.mark.slow
def test_a_stream_that_stalls_is_left_and_comes_back(watching, sender, tmp_path, check_results):
    server, out = sender(), tmp_path / "out"
    options = ["--source", server.url, "--every", "200ms", "--timeout", "1s", "--out", out]
    camera = watching(*options, command="camera")
    camera.until(lambda: camera.stdout.count("\n") >= 2)
    server.mood = "stall"
    camera.until(lambda: "opening it again" in camera.stderr)
    time.sleep(3)  # opened in vain at least once
    server.mood = "send"
    done = camera.stdout.count("\n")
    camera.until(lambda: camera.stdout.count("\n") >= done + 2)
    assert camera.stop() == 0
    check_results(out, names(out))
    warnings = [line for line in camera.complaints if "left out" not in line]
    assert len(warnings) == 2
    assert warnings[0].endswith("; opening it again")
    assert warnings[1] == "warning: the camera is back"


@pytest.mark.slow
def test_a_stream_that_hangs_up_and_is_gone_for_a_while_comes_back(watching, sender, tmp_path, check_results):
    server, out = sender(), tmp_path / "out"
    options = ["--source", server.url, "--every", "200ms", "--timeout", "1s", "--out", out]
    camera = watching(*options, command="camera")
    camera.until(lambda: camera.stdout.count("\n") >= 2)
    server.end()
    camera.until(lambda: "opening it again" in camera.stderr)
    time.sleep(2)
    server.mood = "send"
    server.begin()
    done = camera.stdout.count("\n")
    camera.until(lambda: camera.stdout.count("\n") >= done + 2)
    assert camera.stop() == 0
    check_results(out, names(out))
    assert camera.stderr.count("opening it again") == camera.stderr.count("the camera is back") == 1


def test_a_stream_that_stays_away_ends_it_with_a_code_for_the_supervisor(watching, sender, tmp_path, check_results):
    server, out = sender(), tmp_path / "out"
    options = ["--source", server.url, "--every", "200ms", "--timeout", "1s", "--retries", "1", "--out", out]
    camera = watching(*options, command="camera")
    camera.until(lambda: camera.stdout.count("\n") >= 2)
    server.end()
    assert camera.process.wait(60) == 3
    *_, line = camera.stderr.splitlines()
    assert line == (
        "error: the camera cannot be reached: check the address, the network and the sender; "
        "it was opened again 1 time in vain"
    )
    check_results(out, names(out))


def test_a_pipe_is_no_video_and_is_not_waited_for(device, tmp_path):
    os.mkfifo(tmp_path / "never.avi")
    done = device("snap", "--source", tmp_path / "never.avi", "--out", tmp_path / "x.png")
    assert done.returncode == 2
    assert "never.avi is not a video that can be read" in done.stderr


def whole_and_half_frames(draw_blobs) -> Callable[[], bytes]:
    """Frames that show their number as brightness; of three, two are whole and one was cut short on its way."""
    number = itertools.count()

    def frame() -> bytes:
        here = next(number)
        data = cv2.imencode(".jpg", draw_blobs(240, 320, seed=here, count=12))[1].tobytes()
        return data[: len(data) // 2] if here % 3 == 1 else data

    return frame


def test_frames_of_a_stream_that_are_cut_short_are_left_out(device, sender, tmp_path, draw_blobs, check_results):
    out, sent = tmp_path / "out", []
    plain = whole_and_half_frames(draw_blobs)
    server = sender(lambda: sent.append(plain()) or sent[-1])
    done = device("camera", "--source", server.url, "--every", "0", "--count", 6, "--out", out)
    assert done.returncode == 0, done.stderr
    whole = [
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in sent if data[-2:] == b"\xff\xd9"
    ]
    for name in names(out):
        taken = cv2.imread(str(out / "captures" / name), cv2.IMREAD_UNCHANGED)
        assert any(np.array_equal(taken, frame) for frame in whole)
    check_results(out, names(out))
    warnings = [line for line in done.stderr.splitlines() if "left out" in line]
    line = "warning: a frame of the stream is left out: it is a truncated JPEG (said once in a row)"
    assert set(warnings) == {line}


def test_a_stream_without_a_whole_frame_ends_for_that_reason(device, sender, tmp_path, draw_blobs):
    data = cv2.imencode(".jpg", draw_blobs(240, 320))[1].tobytes()
    server = sender(lambda: data[: len(data) // 2])
    done = device("snap", "--source", server.url, "--timeout", "1s", "--out", tmp_path / "x.png")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "warning: a frame of the stream is left out: it is a truncated JPEG (said once in a row)",
        "error: the camera sends no whole frame: the last one is a truncated JPEG",
    ]


def test_a_camera_that_gives_one_jpeg_for_each_request(device, stills, tmp_path, table, check_results):
    made, out = [], tmp_path / "out"
    url = stills(numbered_frame(made))
    done = device("camera", "--source", url, "--every", "0", "--count", 3, "--out", out)
    assert done.returncode == 0, done.stderr
    shown = [shown_number(out / "captures" / name) for name in names(out)]
    assert shown == sorted(set(shown))  # each image is a new one
    assert len(shown) == 3
    assert len(made) <= 5  # and each is a request: one more told that these are images, one their size
    check_results(out, names(out))
    done = device("snap", "--source", url.replace("//", "//user:s3cret@"), "--out", tmp_path / "x.png")
    assert done.returncode == 0
    assert "s3cret" not in done.stderr + done.stdout
    assert shown_number(tmp_path / "x.png") > shown[-1]


def test_snap_writes_one_image(device, film, folder, tmp_path):
    first = sent_frames(film)[0]
    for name in ("field.png", "field.tif"):
        done = device("snap", "--source", film, "--out", tmp_path / name)
        assert done.returncode == 0
        assert done.stdout.startswith(f"{tmp_path / name}  320×240  focus 0.")
        assert np.array_equal(cv2.imread(str(tmp_path / name)), first)
    done = device("snap", "--source", film, "--out", tmp_path / "field.png")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: {tmp_path / 'field.png'} already exists: choose another name, or overwrite it with --force"
    )
    done = device("snap", "--source", film, "--out", tmp_path / f"{'x' * 300}.png")  # of which not even this is known
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("cannot be written (File name too long): choose another --out")
    done = device("snap", "--source", folder, "--out", tmp_path / "field.png", "--force", "--json")
    assert json.loads(done.stdout)["width_px"] == 128
    done = device("snap", "--source", folder, cwd=tmp_path)
    assert done.returncode == 0
    (path,) = tmp_path.glob("snap-*.png")
    assert np.array_equal(cv2.imread(str(path)), cv2.imread(str(folder / "0.png")))


def test_the_focus_aid_follows_the_image_and_keeps_the_best(watching, sender, tmp_path, draw_blobs):
    sharp = draw_blobs(240, 320, count=12)
    frames = [cv2.imencode(".jpg", cv2.GaussianBlur(sharp, (0, 0), sigma))[1].tobytes() for sigma in (4, 1)]
    shown = [frames[0]]
    server, preview = sender(lambda: shown[0]), tmp_path / "preview.jpg"
    options = ["--source", server.url, "--focus-aid", "--json", "--preview", preview]
    aid = watching(*options, command="camera")

    def scores() -> list[dict[str, float]]:
        return [json.loads(line) for line in aid.stdout.splitlines()]

    aid.until(lambda: len(scores()) >= 3)
    shown[0] = frames[1]
    aid.until(lambda: scores()[-1]["focus"] > 1.3 * scores()[0]["focus"])
    shown[0] = frames[0]
    aid.until(lambda: scores()[-1]["focus"] < 0.8 * scores()[-1]["best"])
    assert cv2.imread(str(preview)).shape == (240, 320, 3)
    assert aid.stop() == 0
    assert scores()[-1]["best"] == max(score["focus"] for score in scores())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--source", "nowhere.avi"], 2, "is neither a source nor an existing file"),
        (["--source", "ftp://host/x"], 2, "is not a source: it has to be picamera2, usb:0"),
        (["--source", "usb:x"], 2, "write usb:0 for /dev/video0"),
        (["--source", "usb:99"], 3, "the camera is not there (/dev/video99): plug it in"),
        (["--source", "picamera2:x"], 2, "write picamera2, or picamera2:1"),
        (["--source", "http://127.0.0.1:9/x"], 3, "the camera cannot be reached: check the address"),
        (["--source", "{folder}/0.png.avi"], 2, "is not a video that can be read"),
        (["--source", "{folder}", "--size", "3"], 2, "write width x height in pixels"),
        (["--source", "{folder}", "--awb", "warm"], 2, "write the gains of red and blue"),
        (["--source", "{folder}", "--exposure", "long"], 2, "is not a duration"),
        (["--source", "{folder}", "--preview", "x.jpg"], 2, "--preview goes with --focus-aid"),
    ],
)
def test_what_cannot_work_is_reported_in_one_line(device_here, folder, tmp_path, arguments, code, message):
    (folder / "0.png.avi").write_bytes(b"RIFF" + bytes(100))
    arguments = [argument.format(folder=folder) for argument in arguments]
    done = device_here("camera", "--out", tmp_path / "out", "--warm-up", "0", *arguments)
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]


def test_a_folder_for_captures_that_is_none_is_reported(device, folder, tmp_path):
    (tmp_path / "captures").touch()
    done = device("camera", "--source", folder, "--every", "0", "--out", tmp_path)
    assert done.returncode == 2
    reason = f"{tmp_path / 'captures'} cannot take captures (Not a directory)"
    assert done.stderr.splitlines()[-1] == f"error: {reason}: fix that, or choose another folder with --out"


def test_settings_that_a_source_does_not_have_are_reported(device, folder, tmp_path):
    done = device("snap", "--source", folder, "--out", tmp_path / "x.png", "--gain", "2", "--exposure", "5ms")
    assert done.returncode == 0
    assert "warning: images in a folder cannot be set: --exposure, --gain left out" in done.stderr.splitlines()
