"""What a watch tells the service manager, from its start to its end."""

import os
import re
import shutil
import signal
import socket
import time

import psutil
import pytest


@pytest.fixture
def manager(tmp_path_factory, environment):
    """A socket that stands for systemd's; the watches of this test talk to it, with a watchdog of one second."""
    path = tmp_path_factory.mktemp("manager") / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.setblocking(False)
        before = dict(environment)
        environment |= {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"}
        yield listening
        environment.clear()
        environment.update(before)


def heard(manager):
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_from_start_to_end(manager, watching, tmp_path, write_image):
    write_image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"not an image")
    os.utime(tmp_path / "b.png", (1e9, 1e9))
    watch = watching(tmp_path, "--settle", "50ms", "--poll", "100ms")
    watch.until_done("a.png")
    watch.until(lambda: "b.png" in watch.stderr)
    assert watch.stop() == 0
    messages = heard(manager)
    assert messages[0] == "READY=1"
    assert messages[-1] == "STOPPING=1"
    (done, failed) = [message for message in messages if message.startswith("STATUS=")]
    assert re.fullmatch(r"STATUS=a.png: [1-9]\d* cells(, \d+ in the counting frame)?", done)
    assert failed.startswith("STATUS=b.png: ")
    between = messages[messages.index(done) : messages.index(failed)]
    assert "WATCHDOG=1" in between  # before every image


def until_signs_of_life(watch, manager, number=5, seconds=60):
    """Wait until the watch has said so many times that it is alive (with this watchdog, twice a second)."""
    signs = []
    watch.until(lambda: signs.extend(heard(manager)) or signs.count("WATCHDOG=1") >= number, seconds)


def test_an_idle_watch_is_alive_and_a_stopped_one_is_not(manager, watching, tmp_path):
    watch = watching(tmp_path, "--poll", "1h")
    watch.until(lambda: "READY=1" in heard(manager))
    until_signs_of_life(watch, manager)
    watch.process.send_signal(signal.SIGSTOP)
    watch.until(lambda: psutil.Process(watch.process.pid).status() == psutil.STATUS_STOPPED)
    heard(manager)
    time.sleep(1.2)
    assert heard(manager) == []
    watch.process.send_signal(signal.SIGCONT)
    until_signs_of_life(watch, manager, 1)
    assert watch.stop() == 0


def test_a_watch_that_is_patient_with_its_folder_is_alive(manager, watching, tmp_path):
    folder = tmp_path / "captures"
    folder.mkdir()
    watch = watching(folder, "--out", tmp_path / "out", "--poll", "4s")
    watch.until(lambda: "READY=1" in heard(manager))
    shutil.rmtree(folder)
    messages = []
    watch.until(lambda: messages.extend(heard(manager)) or any("is gone" in message for message in messages))
    until_signs_of_life(watch, manager, 12, 40)  # looking for the folder gives 10 in that time
    assert watch.stop() == 0


def test_a_watch_that_cannot_start_is_never_ready(manager, watching, tmp_path):
    watch = watching(tmp_path / "none")
    assert watch.process.wait(60) == 2
    assert heard(manager) == []
