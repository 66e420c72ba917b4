"""Rights that a process gives up are gone, really."""

import faulthandler
import os
import platform
import re
import resource
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from cellseg_device.system import lockdown

HEADERS = {0: "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 1: "/usr/include/asm-generic/unistd.h"}


def in_child(lock, deed):
    """What a deed comes to in a forked process after this lock: its layers, and a result or the name of an error."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            layers = lock()
            try:
                said = f"{deed()}"
            except Exception as error:  # noqa: BLE001 - to be named
                said = type(error).__name__
            os.write(write, f"{','.join(layers)}\n{said}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        layers, _, said = file.read().decode().partition("\n")
    os.waitpid(pid, 0)
    return layers.split(",") if layers else [], said


def layer(name):
    """Skip a test where the kernel lacks a layer."""
    if name not in in_child(lockdown.only_compute, lambda: "")[0]:
        pytest.skip(f"not applicable: this kernel has no {name}")


@pytest.fixture
def there(tmp_path):
    path = tmp_path / "there"
    path.write_text("content")
    return path


def connected():
    with socket.create_connection(("127.0.0.1", 9)):
        return "connected"


def started():
    return subprocess.run(["/bin/true"], check=True).returncode


def run_in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append("ran"))
    thread.start()
    thread.join()
    return found[0]


def deeds(path):
    """What code in a decoder could do."""
    return {
        "read a file": path.read_text,
        "write a file": lambda: path.write_text("x"),
        "make a file": lambda: path.with_name("new").touch(),
        "make a folder": lambda: path.with_name("folder").mkdir(),
        "remove a file": path.unlink,
        "rename a file": lambda: path.rename(path.with_name("other")),
        "link a file": lambda: path.with_name("link").symlink_to(path),
        "change its rights": lambda: path.chmod(0o777),
        "change its times": lambda: os.utime(path, (0, 0)),
        "cut it off": lambda: os.truncate(path, 0),
        "list a folder": lambda: os.listdir(path.parent),  # noqa: PTH208
        "connect": connected,
        "open a socket": socket.socket,
        "run a program": started,
        "fork": os.fork,
        "kill": lambda: os.kill(os.getppid(), 0),
        "set a limit": set_limit,
    }


def set_limit():
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except ValueError as error:  # which Python makes of EPERM here
        raise PermissionError from error


def test_only_computing_is_left(there):
    layer("seccomp")
    for what, deed in deeds(there).items():
        assert in_child(lockdown.only_compute, deed)[1] == "PermissionError", what
    assert there.read_text() == "content"
    assert [path.name for path in there.parent.iterdir()] == ["there"]


def test_landlock_alone_keeps_files_from_being_opened(there, monkeypatch):
    layer("landlock")
    monkeypatch.setattr(lockdown, "_seccomp", lambda: False)
    done = deeds(there)
    for what in ("read a file", "write a file", "make a file", "make a folder", "remove a file", "list a folder"):
        assert in_child(lockdown.only_compute, done[what]) == (["landlock"], "PermissionError"), what


def test_seccomp_alone_keeps_everything_from_being_done(there, monkeypatch):
    layer("seccomp")
    monkeypatch.setattr(lockdown, "_landlock", lambda **options: False)
    for what, deed in deeds(there).items():
        assert in_child(lockdown.only_compute, deed) == (["seccomp"], "PermissionError"), what


def test_what_decoding_needs_stays(there):
    def compute():
        with (
            open(os.memfd_create("own"), "r+b", buffering=0) as file,
            open(there_already, "rb", closefd=False) as other,
        ):
            file.write(other.read())
            os.ftruncate(file.fileno(), 3)
            return f"{os.pread(file.fileno(), 9, 0).decode()} {run_in_thread()}"

    there_already = os.open(there, os.O_RDONLY)
    assert in_child(lockdown.only_compute, compute)[1] == "con ran"
    os.close(there_already)


def test_a_process_may_still_end_itself_as_after_a_fault():
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()  # pytest's, which would print all about it
        lockdown.only_compute()
        os.abort()
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGABRT


def test_reading_and_the_network_may_be_left(there):
    layer("landlock")
    done = deeds(there)
    outcomes = {what: in_child(lockdown.only_read, deed)[1] for what, deed in done.items()}
    assert outcomes["read a file"] == "content"
    assert "there" in outcomes["list a folder"]
    assert outcomes["connect"] == "ConnectionRefusedError"
    for what in ("write a file", "make a file", "make a folder", "remove a file", "link a file", "run a program"):
        assert outcomes[what] == "PermissionError", what


def test_a_kernel_without_either_layer_is_put_up_with(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "sparc")
    monkeypatch.setattr(lockdown, "_CREATE_RULESET", 4444)
    assert in_child(lockdown.only_compute, lambda: "done") == ([], "done")


@pytest.mark.parametrize("column", HEADERS)
def test_the_numbers_of_the_calls_are_those_of_the_system(column):
    header = Path(HEADERS[column])
    if not header.exists():
        pytest.skip("needs the system's headers: libc6-dev")
    known = dict(re.findall(r"^#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", header.read_text(), re.MULTILINE))
    words = lockdown._DENIED.split()
    table = dict(zip(words[::3], words[1 + column :: 3], strict=True))
    table |= {"clone": str(lockdown._CLONE[column]), "clone3": str(lockdown._CLONE3[column])}
    table |= {"tgkill": str(lockdown._TGKILL[column])}
    assert len(table) > 90
    newer = {"fchmodat2", "setxattrat", "removexattrat"}  # than the headers may be
    for name, number in table.items():
        if name not in newer or name in known:
            assert known.get(name, "-") == number, name
