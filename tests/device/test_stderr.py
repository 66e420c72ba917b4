"""What libraries say on standard error is held back, what we say is not."""

import os
import sys
import threading

import pytest

from cellseg_device.errors import ImageError
from cellseg_device.stderr import quiet_stderr, say


def test_what_is_written_on_the_descriptor_is_held_back(capfd):
    os.write(2, b"before ")
    with quiet_stderr():
        os.write(2, b"library ")
        with quiet_stderr():
            os.write(2, b"library ")
        os.write(2, b"library ")
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_what_is_held_back_is_reported(capfd):
    with quiet_stderr() as said:
        assert said() == b""
        os.write(2, b"a fault")
        assert said() == b"a fault"
    assert capfd.readouterr().err == ""


def test_standard_error_comes_back_after_an_error(capfd):
    with pytest.raises(ValueError, match="this"), quiet_stderr():
        raise ValueError("this")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


@pytest.mark.parametrize("speak", [lambda: say("heard"), ImageError("heard").show], ids=["say", "error"])
def test_what_we_say_waits_until_another_thread_is_done(capfd, monkeypatch, speak):
    monkeypatch.setattr(sys, "stderr", os.fdopen(2, "w", closefd=False))  # pytest's own goes past the descriptor
    held, done = threading.Event(), threading.Event()

    def library():
        with quiet_stderr():
            held.set()
            done.wait(0.2)
            os.write(2, b"library")

    thread = threading.Thread(target=library)
    thread.start()
    assert held.wait(5)
    speak()
    thread.join()
    assert "heard" in capfd.readouterr().err


def test_many_threads_leave_standard_error_as_it_was(capfd, monkeypatch):
    monkeypatch.setattr(sys, "stderr", os.fdopen(2, "w", closefd=False))

    def library():
        for _ in range(50):
            with quiet_stderr():
                os.write(2, b"library")

    threads = [threading.Thread(target=library) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        say(str(number))
    for thread in threads:
        thread.join()
    say("end")
    assert capfd.readouterr().err.split() == [*map(str, range(20)), "end"]
