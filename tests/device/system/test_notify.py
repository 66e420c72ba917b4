"""What the service manager hears, over real sockets."""

import os
import socket
import threading
from types import SimpleNamespace

import pytest

from cellseg_device.system import notify
from cellseg_device.watching import wake
from cellseg_device.watching.wake import StopSignal


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path, monkeypatch):
    """A socket that stands for systemd's; NOTIFY_SOCKET names it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"\0cellseg-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        yield listening


def heard(manager):
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096).decode())
        except BlockingIOError:
            return messages


def test_the_four_messages(manager):
    notify.ready()
    notify.alive()
    notify.status("a.png: 26 cells\nREADY=1")
    notify.stopping()
    assert heard(manager) == ["READY=1", "WATCHDOG=1", "STATUS=a.png: 26 cells READY=1", "STOPPING=1"]


def test_any_name_of_an_image_can_be_told(manager):
    notify.status("Größe \udc80 細胞.png")
    assert heard(manager) == ["STATUS=Größe ? 細胞.png"]


def test_a_manager_that_does_not_listen_stops_nothing(manager):
    for _ in range(5000):  # more than a socket holds: the next one would wait for ever
        notify.alive()
    assert set(heard(manager)) == {"WATCHDOG=1"}


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all", "@nobody-listens", "vsock:2:1234", "notify"])
def test_without_a_manager_nothing_happens(monkeypatch, address):
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.ready()


@pytest.mark.parametrize(
    ("allowed", "seconds"),
    [(None, 30), ("", 30), ("0", 30), ("soon", 30), ("3000000", 1.5), ("600000000", 30), ("1", 5e-7)],
)
def test_the_interval_is_half_of_what_the_manager_allows(monkeypatch, allowed, seconds):
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    if allowed is not None:
        monkeypatch.setenv("WATCHDOG_USEC", allowed)
    assert notify.interval_s() == seconds


@pytest.fixture
def clock(monkeypatch):
    """A clock on which only an alarm's waiting takes time."""
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now)

    def is_called(alarm, within_s, plain=StopSignal._is_called):
        called = plain(alarm, 0)
        clock.now += 0 if called else max(within_s, 0)
        return called

    monkeypatch.setattr(wake, "time", clock)
    monkeypatch.setattr(StopSignal, "_is_called", is_called)
    return clock


def test_waiting_is_being_alive(manager, monkeypatch, clock):
    monkeypatch.setenv("WATCHDOG_USEC", "500000")
    StopSignal().wait(1)
    assert heard(manager) == ["WATCHDOG=1"] * 4
    assert clock.now == 1001


@pytest.mark.timeout(60)
def test_a_call_still_ends_a_long_wait(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    alarm, calls = StopSignal(), []
    threading.Timer(0.3, lambda: (calls.append("call"), alarm.wake())).start()
    alarm.wait(3600)
    assert calls == ["call"]


def test_a_sleep_is_as_long_as_asked_whatever_wakes_it(monkeypatch, clock):
    monkeypatch.setenv("WATCHDOG_USEC", "500000")
    alarm = StopSignal()
    alarm.wake()
    alarm.sleep(0.625)
    assert clock.now == 1000.625
