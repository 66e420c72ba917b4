"""Decoding in other processes, so that a hostile image file costs no more than that image.

A file that crashes a decoder, keeps it busy for ever or exhausts the memory ends one small process; the pixels come
back in shared memory, without a copy. `template` is the other side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2

from cellseg_device.errors import NO_TIME, ImageError
from cellseg_device.image import dates, decode, shared_pixels, source, template
from cellseg_device.image.budget import Budget
from cellseg_device.image.opencv import shown
from cellseg_device.image.pixels import Image
from cellseg_device.stderr import say_warning
from cellseg_device.units import is_pixel_size

Decode = Callable[[Path, Budget | None], tuple[str, Image]]
_Answer = dict[str, Any]

_LIMIT_S = 60.0  # of processor time for one image; a 12,000 × 12,000 px PNG takes 10 s on a Raspberry Pi 4
# A template that says nothing for this long has been halted: it says every second that it is alive
_SILENT_S, _SILENT_AS_IT_STOPS_S = 30, 2
_MOST_CHARACTERS = 400
_STARTING_S = 60.0  # for a new interpreter on a slow and busy computer
_ENDING_S = 2.0

# What a new interpreter runs, with this one's path so that it finds the same modules
_CODE = """
import sys
sys.path[:] = {path!a}
import socket
from cellseg_device.image import template
template.serve(socket.socket(fileno={descriptor}))
"""


def decode_here(path: Path, budget: Budget | None = None) -> tuple[str, Image]:
    """Return an image file, read and decoded in this process.

    Parameters
    ----------
    path : Path
    budget : Budget or None
        The memory that it may take, if there is a limit.

    Returns
    -------
    str
        SHA-256 of the file's bytes, which are freed here: they may be larger than the image.
    Image

    Raises
    ------
    ImageError
        If it is not an image that can be used.
    OSError
        If it cannot be read now.
    """
    data = source.read(path)
    return hashlib.sha256(data).hexdigest(), decode.decode(data, budget=budget)


class Decoder:
    """Decodes files in other processes; in this one only where the system lacks what that needs (memory files).

    Create it before this process has threads, and before it opens the model: a process is forked from this one, which
    takes a millisecond. If that is lost it is replaced by a new interpreter, which takes a quarter of a second of the
    processor, since a process with threads cannot be forked safely.

    Parameters
    ----------
    limit_s : float
        Processor time for one image. By the clock it may take twice that, plus a second per megabyte of the file.
    is_stopping : callable
        Whether the command has been asked to stop: it then waits only briefly for a process that says nothing.
    """

    def __init__(self, limit_s: float = _LIMIT_S, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._limit_s = limit_s
        self._is_stopping = is_stopping
        self._lock = threading.Lock()
        self._template: _Template | None = None
        if self.is_apart:
            with contextlib.suppress(OSError):  # no more processes now: the first file tries again
                self._template = _forked()

    @property
    def is_apart(self) -> bool:
        """Whether other processes decode."""
        return hasattr(os, "memfd_create")  # only Linux has it

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the other processes; does nothing the second time."""
        if self._template is not None:
            self._template.end(_ENDING_S)
            self._template = None

    def decode(self, path: Path, budget: Budget | None = None) -> tuple[str, Image]:
        """Return an image file, read and decoded.

        Parameters
        ----------
        path : Path
        budget : Budget or None
            The memory that it may take, if there is a limit.

        Returns
        -------
        str
            SHA-256 of the file's bytes.
        Image

        Raises
        ------
        ImageError
            If it is not an image that can be used, or its decoder crashed or took too long.
        MemoryError
            If there is not enough memory.
        OSError
            If it cannot be read now, or reading takes too long.
        """
        if not self.is_apart:
            data = source.read(path)
            return hashlib.sha256(data).hexdigest(), decode.decode(data, budget=budget)
        options = {"budget": None if budget is None else dataclasses.asdict(budget)}
        request = {"kind": "decode", "path": os.fsencode(path).hex(), "limit_s": self._limit_s, "options": options}
        answer, descriptor = self._ask(request)
        if descriptor is None:
            raise _error(answer)
        try:
            return _decoded(answer, descriptor)
        except (TypeError, ValueError) as error:  # the decoder was taken over
            message = f"makes the decoder fail ({error}): save it again with another program"
            raise ImageError(message) from None
        finally:
            os.close(descriptor)

    def start(self, target: str) -> socket.socket:
        """Have a function called in another process; it ends with the function, or with this process.

        Parameters
        ----------
        target : str
            As ``package.module:function``. It is called with a socket.

        Returns
        -------
        socket
            The other end.

        Raises
        ------
        OSError
            If there are no more processes or files.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                answer, _ = self._ask({"kind": "start", "target": target}, theirs.fileno())
            if answer["kind"] != "started":
                raise _error(answer)
        except BaseException:
            ours.close()
            raise
        return ours

    def _ask(self, request: dict[str, Any], *descriptors: int) -> tuple[_Answer, int | None]:
        """Return the template's answer, and the descriptor that comes with it; if it is lost, start another one."""
        message = json.dumps(request).encode()
        with self._lock:
            for _ in range(2):
                if self._template is None:
                    self._template = _spawned()
                try:
                    return self._template.ask(message, descriptors, self._is_stopping)
                except ConnectionError:
                    fault = "was killed from outside"
                except TimeoutError:
                    fault = "does not answer"
                except BaseException:
                    self._lose()  # its answer may still come, and would be taken for that to the next request
                    raise
                self._lose()
                say_warning(f"the decoding process {fault}: it is started again")
        raise OSError(errno.EAGAIN, f"the decoding process {fault} twice")

    def _lose(self) -> None:
        assert self._template is not None
        self._template.end(0)
        self._template = None


class _Template:
    """The template, seen from the command.

    Parameters
    ----------
    pid : int
    connection : socket
    """

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self._pid, self._socket = pid, connection

    def ask(
        self, message: bytes, descriptors: tuple[int, ...], is_stopping: Callable[[], bool]
    ) -> tuple[_Answer, int | None]:
        """Return the answer, and a descriptor that comes with it.

        Raises
        ------
        ConnectionError
            If the template has died.
        TimeoutError
            If it does not even say that it is alive.
        """
        socket.send_fds(self._socket, [message], descriptors)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        # Counted, since the time in which this process was halted as well does not matter
        silent_s = 0
        while silent_s < (_SILENT_AS_IT_STOPS_S if is_stopping() else _SILENT_S):
            if not poll.poll(1e3):
                silent_s += 1
                continue
            received, descriptor, _, _ = socket.recv_fds(self._socket, template.MESSAGE_BYTES, 1)
            if not received:
                raise ConnectionResetError
            if received != template.ALIVE:
                return json.loads(received), descriptor[0] if descriptor else None
            silent_s = 0
        raise TimeoutError

    def wait_until_started(self) -> None:
        """Wait for the first sign of life; raise OSError if there is none."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(_STARTING_S * 1e3) or self._socket.recv(template.MESSAGE_BYTES) != template.ALIVE:
            self.end(0)
            raise OSError(errno.EAGAIN, "the decoding process cannot be started")

    def end(self, patience_s: float) -> None:
        """Let it end, and after this time kill it."""
        self._socket.close()  # which it takes for the end
        end = time.monotonic() + patience_s
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < end:
                if os.waitpid(self._pid, os.WNOHANG) != (0, 0):
                    return
                time.sleep(0.001)
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


@contextlib.contextmanager
def _stops_blocked() -> Iterator[None]:
    """Hold back signals that a new process does not ignore yet."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, template.STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forked() -> _Template:
    """Return a template that was forked from this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # ends OpenCV's threads: the forked process would never stop waiting for them
    try:
        with theirs, _stops_blocked(), warnings.catch_warnings():
            # Linear algebra's idle threads end before a fork, but Python 3.12 has counted them by then
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
            if pid == 0:
                ours.close()
                template.serve(theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        cv2.setNumThreads(threads)
    return _Template(pid, ours)


def _spawned() -> _Template:
    """Return a template in a new interpreter; raise OSError if there is none."""
    import subprocess  # here, since it is seldom needed

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptor = theirs.fileno()
    code = _CODE.format(path=sys.path, descriptor=descriptor)
    nowhere = subprocess.DEVNULL
    with theirs, _stops_blocked():
        process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[descriptor], stdin=nowhere, stdout=nowhere, stderr=nowhere
        )
    process.returncode = 0  # it is waited for by its number, as a forked one is
    started = _Template(process.pid, ours)
    started.wait_until_started()
    return started


def _decoded(answer: _Answer, descriptor: int) -> tuple[str, Image]:
    """Return the digest and the image in an answer; raise ValueError if it is none."""
    sha256, pixel_size_um = answer.get("sha256"), answer.get("pixel_size_um")
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError("no digest")
    if pixel_size_um is not None and (type(pixel_size_um) is not float or not is_pixel_size(pixel_size_um)):
        raise ValueError("no pixel size")
    captured, has_extremes = dates.received(answer.get("captured")), answer.get("has_extremes") is True
    pixels = shared_pixels.received(answer, descriptor)
    return sha256, Image(pixels, pixel_size_um, captured=captured, has_extremes=has_extremes)


def _error(answer: _Answer) -> Exception:
    """Return the exception that an answer without pixels stands for."""
    match answer:
        case {"kind": "image", "message": str(message)}:
            return ImageError(shown(message, _MOST_CHARACTERS))
        case {"kind": "memory"}:
            return MemoryError()
        case {"kind": "time"}:
            return ImageError(NO_TIME)
        case {"kind": "os", "errno": int(number)}:
            return OSError(number, os.strerror(number))
    return OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # pixels whose descriptor this process could not take
