"""Cameras that answer each request with one image: a fresh one each time, faults in words, no secret in them."""

import contextlib
import hashlib
import http.server
import re
import socket
import threading

import cv2
import numpy as np
import pytest

from cellseg_device.camera import opencv, parse, stills
from cellseg_device.camera.source import CameraFault, Place, Settings
from cellseg_device.camera.stills import Stills
from cellseg_device.errors import ImageError
from cellseg_device.image.decode import decode
from cellseg_device.image.sandbox import Decoder

WARM = Settings(warm_up_s=0)
USER, PASSWORD = "reader", "s3cr:t@"


class Shutter(http.server.ThreadingHTTPServer):
    """A camera on loopback that gives ``answers`` in turn, the last for ever.

    Each is the body, or a function of the request that answers it.
    """

    daemon_threads = True

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []
        super().__init__(("127.0.0.1", 0), self._handler())

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/shot.jpg"

    def _handler(server):  # noqa: N805 - the handler has a self of its own
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                server.requests.append(self)
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                with contextlib.suppress(OSError):
                    answer(self) if callable(answer) else give(self, answer)

        return Handler


def give(request, body, kind="image/jpeg", length=None, status=200, **headers):
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def shutter():
    """Start a camera with these answers."""
    cameras = []

    def start(*answers):
        camera = Shutter(*answers)
        cameras.append(camera)
        threading.Thread(target=camera.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return camera

    yield start
    for camera in cameras:
        camera.shutdown()
        camera.server_close()


@pytest.fixture
def shots(draw_blobs):
    """Five different images, as JPEG."""
    return [cv2.imencode(".jpg", draw_blobs(120, 160, seed=seed))[1].tobytes() for seed in range(5)]


def opened(url, warn=pytest.fail, timeout_s=5):
    return opencv.opened(Place("stream", url, timeout_s), WARM, warn)


def test_each_image_is_a_request_of_its_own(shutter, shots):
    server = shutter(*shots)
    camera = opened(server.url)
    assert camera.description == f"http://127.0.0.1:{server.server_port}, 160×120"
    for shot in shots[2:]:  # one told that these are images, and one their size
        before = len(server.requests)
        assert np.array_equal(camera.capture(), decode(shot).pixels)
        assert len(server.requests) == before + 1
    assert {request.headers["Cache-Control"] for request in server.requests} == {"no-cache"}
    camera.close()


@pytest.mark.parametrize(
    ("kind", "is_one"),
    [
        ("image/jpeg", True),
        ("image/png", True),
        ("application/octet-stream", True),
        ("multipart/x-mixed-replace; boundary=frame", False),
        ("text/html", False),
    ],
)
def test_what_is_one_image_is_seen_by_the_answer(shutter, shots, kind, is_one):
    body = shots[0] if is_one else b"<html>" * 10
    assert Stills(shutter(lambda request: give(request, body, kind)).url, 5).is_one() == is_one


def test_through_the_other_process_as_the_commands_do(shutter, shots):
    server, said = shutter(*shots), []
    with Decoder() as decoder:
        camera = parse.opener(server.url, 5, said.append, decoder)(WARM)
        assert np.array_equal(camera.capture(), decode(shots[2]).pixels)
        camera.close()
    assert said == []


def test_a_damaged_image_is_left_out_and_the_next_one_taken(shutter, shots):
    half, said = shots[1][: len(shots[1]) // 2], []
    server = shutter(shots[0], shots[0], half, half, b"<html>busy</html>", shots[2], half, shots[3])
    camera = opened(server.url, said.append)
    assert np.array_equal(camera.capture(), decode(shots[2]).pixels)
    assert np.array_equal(camera.capture(), decode(shots[3]).pixels)
    line = "an image of the camera is left out: it is a truncated JPEG (said once in a row)"
    assert said == [line, line]


def test_a_connection_that_ends_early_is_no_image(shutter, shots):
    server = shutter(shots[0], shots[0], lambda request: give(request, shots[1][:500], length=len(shots[1])))
    camera = opened(server.url, lambda line: None, timeout_s=0.5)
    with pytest.raises(CameraFault, match="sends no whole frame: the last one is a truncated JPEG"):
        camera.capture()


def hang(request):
    request.connection.recv(1)  # until the other end closes


def trickle(request):
    give(request, b"\xff", length=1000)
    while True:
        request.wfile.write(b"\xff")
        request.server.trickled.wait(0.05)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (hang, "gave no image"),
        (trickle, "takes more than 0.3 s to send an image"),
        (lambda request: request.connection.shutdown(socket.SHUT_RDWR), "gave no image"),
        (lambda request: give(request, b"", status=404), r"gives no image \(HTTP 404\): check the address"),
        (lambda request: give(request, b"", status=503), r"gives no image \(HTTP 503\)"),
        (lambda request: give(request, b"", status=401), r"refuses access \(HTTP 401\): check name and password"),
        (lambda request: give(request, b"", status=401, WWW_Authenticate="Bearer x"), "refuses access|cannot give"),
        (lambda request: give(request, b"", status=302, Location="ftp://127.0.0.1/x"), "cannot be reached|gave no"),
        (lambda request: give(request, b"", status=302, Location="file:///etc/passwd"), "HTTP 302|cannot be reached"),
        (lambda request: give(request, b"x" * 10_000), "sends more than 0 MB for one image"),
    ],
)
def test_faults_are_told_in_words_and_without_the_address(shutter, monkeypatch, answer, words):
    monkeypatch.setattr(stills, "_MOST_BYTES", 5000)
    server = shutter(answer)
    server.trickled = threading.Event()
    with pytest.raises(CameraFault, match=words) as caught:
        Stills(server.url.replace("//", "//user:s3cret@") + "?key=s3cret", 0.3).read()
    assert "s3cret" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_a_camera_that_is_away_and_comes_back(shutter, shots):
    server = shutter(*shots)
    camera = opened(server.url)
    server.shutdown()
    server.server_close()
    for _ in range(2):
        with pytest.raises(CameraFault, match="cannot be reached: check the address, the network and the sender"):
            camera.capture()
    again = Shutter(shots[4])
    camera._url = again.url  # what is new here is the port
    threading.Thread(target=again.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    camera.close()
    assert np.array_equal(camera.capture(), decode(shots[4]).pixels)
    again.shutdown()
    again.server_close()


def basic(request, body):
    if request.headers["Authorization"] == "Basic cmVhZGVyOnMzY3I6dEA=":
        give(request, body)
    else:
        give(request, b"", status=401, WWW_Authenticate='Basic realm="camera"')


def digest(request, body):
    fields = dict(re.findall(r'(\w+)="([^"]*)"', request.headers["Authorization"] or ""))
    parts = [f"{USER}:camera:{PASSWORD}", f"GET:{fields.get('uri')}"]
    first, second = (hashlib.md5(part.encode()).hexdigest() for part in parts)
    numbers = re.search(r"nc=(\w+)", request.headers["Authorization"] or "nc=0")[1]
    whole = f"{first}:{fields.get('nonce')}:{numbers}:{fields.get('cnonce')}:auth:{second}"
    if fields.get("response") == hashlib.md5(whole.encode()).hexdigest():
        give(request, body)
    else:
        give(request, b"", status=401, WWW_Authenticate='Digest realm="camera", nonce="n", qop="auth"')


@pytest.mark.parametrize("check", [basic, digest])
def test_name_and_password_in_the_address_are_given(shutter, shots, check):
    server = shutter(lambda request: check(request, shots[0]))
    right, wrong = (server.url.replace("//", f"//{USER}:{word}@") for word in ("s3cr%3At%40", "wr0ng"))
    said = []
    camera = opened(right, said.append)
    assert np.array_equal(camera.capture(), decode(shots[0]).pixels)
    assert "s3cr" not in camera.description
    assert said == []
    for url in (wrong, server.url):
        with pytest.raises(CameraFault, match=r"refuses access \(HTTP 401\)") as caught:
            opened(url)
        assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("check", [basic, digest])
def test_a_password_is_given_wherever_its_host_sends_one_but_to_no_other(shutter, shots, check):
    def answer(server, request):
        if request.path == "/snap":
            give(request, b"", status=302, Location="/img/current.jpg")
        elif request.path == "/away":
            give(request, b"", status=302, Location=server.url.replace("127.0.0.1", "localhost"))
        else:
            check(request, shots[0])

    server = shutter(lambda request: answer(server, request))
    for path, words in (("/snap", None), ("/away", "refuses access|asks for what")):
        address = f"http://{USER}:s3cr%3At%40@127.0.0.1:{server.server_port}{path}"
        if words is None:
            assert np.array_equal(opened(address).capture(), decode(shots[0]).pixels)
        else:
            with pytest.raises(CameraFault, match=words):
                opened(address)
    assert not any(request.headers["Authorization"] for request in server.requests if request.path == "/shot.jpg")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://host:port/", "http://host:99999/"])
def test_an_address_that_is_none(url):
    with pytest.raises(CameraFault, match="has an address that cannot be read"):
        Stills(url, 1)


def test_an_address_is_taken_as_a_browser_shows_it():
    plain, _ = stills._opener("http://u:p@host:8080/a b/ä.jpg?size=large&q=1%20#top")
    assert plain == "http://host:8080/a%20b/%C3%A4.jpg?size=large&q=1%20"


def test_what_comes_is_decoded_as_a_file_is(shutter):
    with pytest.raises(ImageError, match="is not a PNG, JPEG or TIFF image"):
        Stills(shutter(b"<html>").url, 5).read()
