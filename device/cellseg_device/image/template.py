"""The process whose children decode, so that a hostile file costs no more than that file.

| the command ── template ─┬─ opener   opens files: on a dead network drive it may never come back
|                          ├─ decoder  reads and decodes what was opened
|                          └─ others   cameras, see `camera.apart`

The template has imported the decoders and forks each child. It waits for them within limits, answers for one that
cannot, and says every second that it is alive.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import importlib
import json
import math
import mmap
import os
import resource
import select
import signal
import socket
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import cv2

from cellseg_device.errors import ImageError
from cellseg_device.image import dates, decode, shared_pixels, source
from cellseg_device.image.budget import Budget
from cellseg_device.system import lockdown, memory, processes

MESSAGE_BYTES = 1 << 16
ALIVE = b"."  # what the template says every second
STOPS = (signal.SIGINT, signal.SIGTERM)  # sent to all processes of a terminal or service

_BEAT_S = 1.0
_MOST_MEMORY_BYTES = 6 << 30  # for one image; 12,000 × 12,000 px of float32 take 5 GB
_SLOWEST_BYTES_PER_S = 1e6  # a disk or network slower than this counts as dead
_MOST_STUCK = 4  # processes that a dead network drive may keep from ending
_ENDING_S = 1.0  # for a child that was killed
_MOST_IMAGES = 200  # for one child: limits what its libraries leak
_CONTINUES, _ENDS = b"+", b"-"  # begins the answer of a decoder: whether it takes another file
# What decoding imports, by how a file begins; a decoder cannot import any more
_IMPORTS = dict.fromkeys(("II", "MM"), ("tifffile", "encodings.cp1252"))

_Answer = dict[str, Any]


def serve(parent: socket.socket) -> NoReturn:
    """Be the template until the other end of the socket closes, even because its process was killed.

    The signals `STOPS` are ignored from now on; the caller may have blocked them.
    """
    try:
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else, if it was ignored, no child can be waited for
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        with open(os.devnull, "r+b", buffering=0) as nowhere:
            for stream in range(3):
                os.dup2(nowhere.fileno(), stream)
        cv2.setNumThreads(1)  # images are decoded beside the network, which has the other cores
        memory.return_large_blocks()
        gc.freeze()  # a garbage collection in a child would copy every page it touches
        processes.close_all_but(parent.fileno())
        parent.send(ALIVE)
        template = _Template(parent)
        while True:
            message, descriptors, _, _ = socket.recv_fds(parent, MESSAGE_BYTES, 1)
            if not message:
                break
            template.serve(json.loads(message), descriptors)
    finally:
        os._exit(0)


@dataclass(frozen=True)
class _Child:
    pid: int
    socket: socket.socket


@dataclass(frozen=True)
class _Reply:
    """What a child answers: a message, and perhaps a file; no message if it has died."""

    message: bytes
    descriptors: tuple[int, ...] = ()


class _Template:
    """Has one opener, and one decoder, which decodes file after file until one fails in it."""

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._reading = mmap.mmap(-1, 1)  # shared with the decoder: whether it is still reading the file
        self._opener: _Child | None = None
        with contextlib.suppress(OSError):  # now, while the command is busy with its model
            self._opener = self._child(_as_opener)
        self._decoder: _Child | None = None
        self._served = 0  # files, by this decoder
        self._imported: set[str] = set()
        self._stuck: set[int] = set()
        self._started: set[int] = set()

    def serve(self, request: dict[str, Any], descriptors: list[int]) -> None:
        """Do what the command asks for, and answer."""
        for pids in (self._stuck, self._started):
            pids.difference_update([pid for pid in pids if os.waitpid(pid, os.WNOHANG) != (0, 0)])
        try:
            if request["kind"] == "start":
                reply = self._start(request["target"], descriptors[0])
            else:
                reply = self._decoded(request)
        except OSError as error:  # no more processes or files
            reply = _os_error(error.errno or errno.EIO)
        socket.send_fds(self._parent, [reply.message], reply.descriptors)
        for descriptor in (*descriptors, *reply.descriptors):
            os.close(descriptor)

    def _start(self, target: str, descriptor: int) -> _Reply:
        """Fork a child that calls a function with its end of a socket, and then ends."""
        module, _, function = target.partition(":")

        def body(connection: socket.socket) -> None:
            getattr(importlib.import_module(module), function)(connection)

        with socket.socket(fileno=os.dup(descriptor)) as connection:
            self._started.add(_forked(body, connection))
        return _reply({"kind": "started"})

    def _decoded(self, request: dict[str, Any]) -> _Reply:
        """Have a file opened and decoded; answer for a child that cannot."""
        if len(self._stuck) >= _MOST_STUCK:
            return _os_error(errno.ETIMEDOUT)
        opened = self._opened(request)
        if not opened.descriptors:
            return opened
        (file,) = opened.descriptors
        try:
            about = json.loads(opened.message)
            self._prepare(about["begins"])
            reply = None
            while reply is None:
                reply = self._attempt(request, file, about["size"])
            return reply
        finally:
            os.close(file)

    def _opened(self, request: dict[str, Any]) -> _Reply:
        """Return an opened file with a message about it; or an answer, if there is none."""
        for _ in range(2):  # one that waits may have been killed
            opener = self._opener = self._opener or self._child(_as_opener)
            reply = self._ask(opener, request["path"].encode(), None, 2 * request["limit_s"])
            if reply is not None and reply.message:
                return reply
            self._opener = None
            if reply is None:
                self._kill(opener)
                return _os_error(errno.ETIMEDOUT)
            self._reap(opener)
        return _os_error(errno.EAGAIN)

    def _prepare(self, begins: str) -> None:
        """Import what decoding a file needs that begins so, and do without a decoder that has not."""
        modules = _IMPORTS.get(begins, ())
        if not self._imported.issuperset(modules):
            self._drop_decoder()
            for module in modules:
                importlib.import_module(module)
            self._imported.update(modules)

    def _attempt(self, request: dict[str, Any], file: int, size: int) -> _Reply | None:
        """Have a file decoded; None if that has to be tried again."""
        limit_s = request["limit_s"]
        decoder, is_short = self._decoder_for(limit_s)
        self._reading[0] = 1
        message = json.dumps(request["options"]).encode()
        reply = self._ask(decoder, message, file, 2 * limit_s + size / _SLOWEST_BYTES_PER_S)
        if reply is not None and reply.message:
            self._served += 1
            if reply.message.startswith(_ENDS) or self._served >= _MOST_IMAGES:
                self._drop_decoder()
            return _checked(reply.message[1:], reply.descriptors)
        is_fresh = not self._served
        if reply is None:
            self._decoder = None
            has_ended = self._kill(decoder)
            return _too_long(limit_s) if has_ended and not self._reading[0] else _os_error(errno.ETIMEDOUT)
        status, used_s = self._drop_decoder()
        if is_fresh or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
            return _crash(status, used_s, limit_s, is_short=is_short)
        return None  # perhaps an earlier image had damaged it

    def _decoder_for(self, limit_s: float) -> tuple[_Child, bool]:
        """Return a decoder that may take this many seconds of the processor; and whether the user's own limit is lower.

        Limits are set from here, so that it need not be able to.
        """
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        most = math.inf if hard == resource.RLIM_INFINITY else max(hard - 1, 1)  # at the hard limit no reason is given
        used_s = 0.0
        if self._decoder is not None:
            with contextlib.suppress(OSError):  # it was killed as it waited
                used_s = processes.cpu_s(self._decoder.pid)
            # One that has spoken unasked was taken over
            if used_s + limit_s > most or select.select([self._decoder.socket], [], [], 0)[0]:
                self._drop_decoder()
        if self._decoder is None:
            self._decoder = self._child(_as_decoder, self._reading)
            self._served, used_s = 0, 0.0
        soft = min(math.ceil(used_s + limit_s), most)
        resource.prlimit(self._decoder.pid, resource.RLIMIT_CPU, (int(soft), hard))
        memory.limit_to_available(self._decoder.pid, _MOST_MEMORY_BYTES)
        return self._decoder, soft < used_s + limit_s

    def _child(self, body: Callable[..., None], *arguments: object) -> _Child:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            return _Child(_forked(lambda connection: body(connection, *arguments), theirs), ours)

    def _ask(self, child: _Child, message: bytes, file: int | None, wait_s: float) -> _Reply | None:
        """Return a child's reply, which has no message if the child has died; None if it is silent for this long."""
        try:
            socket.send_fds(child.socket, [message], [] if file is None else [file])
        except ConnectionError:
            return _Reply(b"")
        return self._reply(child, wait_s)

    def _reply(self, child: _Child, wait_s: float) -> _Reply | None:
        poll = select.poll()
        poll.register(child.socket, select.POLLIN)
        poll.register(self._parent, 0)  # poll reports a closed other end in any case
        end = time.monotonic() + wait_s
        while (left_s := end - time.monotonic()) > 0:
            ready = {descriptor for descriptor, _ in poll.poll(min(left_s, _BEAT_S) * 1e3)}
            if self._parent.fileno() in ready:
                os._exit(0)  # and with this process its children
            if ready:
                try:
                    received, descriptors, _, _ = socket.recv_fds(child.socket, MESSAGE_BYTES, 1)
                except ConnectionError:
                    return _Reply(b"")
                return _Reply(received, tuple(descriptors))
            self._say_alive()
        return None

    def _say_alive(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the command has been halted, and has not read the last ones
            self._parent.send(ALIVE, socket.MSG_DONTWAIT)

    def _kill(self, child: _Child) -> bool:
        """End a child; return whether it has ended, which it cannot while it waits for a dead network drive."""
        os.kill(child.pid, signal.SIGKILL)
        reply = self._reply(child, _ENDING_S)
        if reply is None:
            child.socket.close()
            self._stuck.add(child.pid)
            return False
        for descriptor in reply.descriptors:  # it was late
            os.close(descriptor)
        self._reap(child)
        return True

    def _drop_decoder(self) -> tuple[int, float]:
        """Do without the present decoder; return what `_reap` does."""
        decoder, self._decoder = self._decoder, None
        return (0, 0.0) if decoder is None else self._reap(decoder)

    def _reap(self, child: _Child) -> tuple[int, float]:
        """End a child; return its exit status, and the seconds of the processor that it took."""
        child.socket.close()
        os.kill(child.pid, signal.SIGKILL)  # one that has died keeps its status
        _, status, usage = os.wait4(child.pid, 0)
        return status, usage.ru_utime + usage.ru_stime


def _forked(body: Callable[[socket.socket], None], connection: socket.socket) -> int:
    """Fork a child that has nothing of this process open but a socket; return its number."""
    parent = os.getpid()
    with warnings.catch_warnings():
        # Linear algebra's idle threads end before a fork, but Python 3.12 has counted them by then
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            processes.end_with_parent()
            processes.close_all_but(connection.fileno())
            processes.give_up_first()
            if os.getppid() == parent:
                body(connection)
        finally:
            os._exit(0)
    return pid


def _as_opener(connection: socket.socket) -> None:
    """Open file after file; nothing is read of them but what kind they are."""
    while message := connection.recv(MESSAGE_BYTES):
        try:
            with source.opened(Path(os.fsdecode(bytes.fromhex(message.decode())))) as file:
                size, begins = os.fstat(file.fileno()).st_size, os.pread(file.fileno(), 2, 0).decode("latin-1")
                about = {"size": size, "begins": begins}
                socket.send_fds(connection, [json.dumps(about).encode()], [file.fileno()])
        except ImageError as error:
            connection.send(_image_error(error.message).message)
        except OSError as error:
            connection.send(_os_error(error.errno or errno.EIO).message)


def _as_decoder(connection: socket.socket, reading: mmap.mmap) -> None:
    """Decode file after file; end after one that failed, because it may have damaged this process."""
    lockdown.only_compute()
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 1)
        if not message:
            return
        with open(descriptors[0], "rb") as file:
            reply = _decoded_here(file, reading, **json.loads(message))
        kind = _CONTINUES if reply.descriptors else _ENDS
        socket.send_fds(connection, [kind + reply.message], reply.descriptors)
        if not reply.descriptors:
            return
        os.close(reply.descriptors[0])


def _decoded_here(file: BinaryIO, reading: mmap.mmap, *, budget: dict[str, Any] | None) -> _Reply:
    """Read and decode a file in this process."""
    try:
        file.seek(0)
        data = source.contents(file)
    except ImageError as error:
        return _image_error(error.message)
    except MemoryError:
        return _reply({"kind": "memory"})
    except OSError as error:
        return _os_error(error.errno or errno.EIO)
    reading[0] = 0
    try:
        sha256 = hashlib.sha256(data).hexdigest()
        image = decode.decode(data, budget=Budget(**budget) if budget else None)
        del data
    except ImageError as error:
        return _image_error(error.message)
    except MemoryError:
        return _reply({"kind": "memory"})
    except Exception as error:  # noqa: BLE001 - a file must not end the process, whatever the decoder raises for it
        return _image_error(f"makes the decoder fail ({type(error).__name__}): save it again with another program")
    try:
        described, descriptor = shared_pixels.share(image.pixels)
    except MemoryError:
        return _reply({"kind": "memory"})
    except OSError as error:  # not the image's fault: a limit of this user, for example
        return _os_error(error.errno or errno.EIO)
    about = {"sha256": sha256, "pixel_size_um": image.pixel_size_um, "has_extremes": image.has_extremes}
    captured = dates.described(image.captured)
    return _reply({"kind": "pixels", "captured": captured, **about, **described}, descriptor)


def _checked(message: bytes, descriptors: tuple[int, ...]) -> _Reply:
    """Return what a decoder answers if it is an answer at all: it may have been taken over."""
    try:
        is_answer = isinstance(json.loads(message), dict)
    except (ValueError, RecursionError):
        is_answer = False
    if is_answer:
        return _Reply(message, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return _image_error("makes the decoder fail (no answer): save it again with another program")


def _reply(answer: _Answer, *descriptors: int) -> _Reply:
    return _Reply(json.dumps(answer).encode(), descriptors)


def _os_error(number: int) -> _Reply:
    return _reply({"kind": "os", "errno": number})


def _image_error(message: str) -> _Reply:
    return _reply({"kind": "image", "message": message})


def _too_long(limit_s: float) -> _Reply:
    return _image_error(f"takes more than {limit_s:g} s to decode: save it again, as an uncompressed TIFF")


def _crash(status: int, used_s: float, limit_s: float, *, is_short: bool) -> _Reply:
    """Return the answer for the file that a child was decoding when it died."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number == signal.SIGXCPU:
        return _reply({"kind": "time"}) if is_short else _too_long(limit_s)
    if number == signal.SIGKILL and is_short and used_s > resource.getrlimit(resource.RLIMIT_CPU)[1] - 0.5:
        return _reply({"kind": "time"})
    if number == signal.SIGKILL or status == 0:  # from the system, when memory is short; or it could not even answer
        return _reply({"kind": "memory"})
    name = signal.Signals(number).name if number else f"exit status {os.waitstatus_to_exitcode(status)}"
    return _image_error(f"crashes the decoder ({name}): save it again with another program")
