"""Image files are decoded in another process, so that a hostile one costs no more than itself.

A file that crashes a decoder, keeps it busy for ever or makes it take all memory ends one small process, and the next
is forked from a template, itself forked before this process had threads or a model. That child reads the file, too,
which bounds the wait for a network drive. The pixels come back in shared memory, uncopied.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import hashlib
import json
import math
import mmap
import os
import resource
import select
import signal
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import image as images
from cellseg_device import memory
from cellseg_device.errors import ImageError
from cellseg_device.image import Image
from cellseg_device.quiet import say

Decode = Callable[[Path], tuple[str, Image]]
_Answer = dict[str, Any]
_Request = dict[str, Any]

_LIMIT_S = 60.0  # the processor's time for one image; a 12,000 × 12,000 px PNG takes 10 s on a Raspberry Pi 4
_MOST_MEMORY_BYTES = 6 << 30  # for one image; 12,000 × 12,000 px of float32 take 5
_SLOWEST_BYTES_PER_S = 1e6  # of a disk or network that is not held for dead
_MOST_STUCK = 4  # processes that a dead network drive keeps from ending
_MESSAGE_BYTES = 1 << 16
_MOST_IMAGES = 200  # for one child: bounds what its libraries leak
_GOES_ON, _ENDS = b"goes on", b"ends"  # what a child says after its answer


def decode_here(path: Path) -> tuple[str, Image]:
    """Read and decode a file in this process.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        SHA-256 of the file's bytes, which are let go of here: they may be as large as the image or larger.
    Image

    Raises
    ------
    ImageError
        If it is no image that can be used.
    OSError
        If it cannot be read now.
    """
    data = images.read(path)
    return hashlib.sha256(data).hexdigest(), images.decode(data)


class Decoder:
    """Decodes files in another process; where the system has not what that needs, in this one.

    Make it before this process has threads, and before it opens what a forked process should not hold: locks,
    databases, the model.

    Parameters
    ----------
    limit_s : float
        The processor's time for one image. By the clock it is twice that, and a second more per megabyte of the file.
    """

    def __init__(self, limit_s: float = _LIMIT_S) -> None:
        self._limit_s = limit_s
        self._number = 0
        self._template: socket.socket | None = None
        if not hasattr(os, "memfd_create"):  # Linux has it
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # ends those it has: the forked process would wait for them for ever
        with warnings.catch_warnings():
            # NumPy's and OpenCV's idle threads of linear algebra end before a fork, but Python 3.12 has counted them
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _as_template(ours, theirs)
        cv2.setNumThreads(threads)
        theirs.close()
        self._pid = pid
        self._template = ours

    def close(self) -> None:
        """End the template; does nothing the second time."""
        if self._template is not None:
            self._template.close()
            self._template = None
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)

    def decode(self, path: Path) -> tuple[str, Image]:
        """Read and decode a file.

        Parameters
        ----------
        path : Path

        Returns
        -------
        str
            SHA-256 of the file's bytes.
        Image

        Raises
        ------
        ImageError
            If it is no image that can be used, or its decoder crashed or took too long.
        MemoryError
            If there is not enough memory.
        OSError
            If it cannot be read now, a read that takes too long included.
        """
        if self._template is None:
            return decode_here(path)
        try:
            answer, descriptor = self._ask(self._template, path)
        except ConnectionError:
            self.close()
            say("warning: the process for decoding was ended from outside: a hostile image may now stop this one")
            return decode_here(path)
        if descriptor is None:
            raise _error(answer)
        try:
            pages = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        finally:
            os.close(descriptor)
        pixels = np.frombuffer(pages, answer["dtype"]).reshape(answer["shape"])
        return answer["sha256"], Image(pixels, answer["pixel_size_um"])

    def _ask(self, template: socket.socket, path: Path) -> tuple[_Answer, int | None]:
        """Have a file decoded: the answer, and the shared memory with its pixels if there are any."""
        self._number += 1
        wait_s = 2 * self._limit_s
        with contextlib.suppress(OSError, ValueError):
            wait_s += path.stat().st_size / _SLOWEST_BYTES_PER_S
        request = {
            "number": self._number,
            "path": os.fsencode(path).hex(),
            "limit_s": self._limit_s,
            "wait_s": wait_s,
        }
        template.send(json.dumps(request).encode())
        while True:
            message, descriptors, _, _ = socket.recv_fds(template, _MESSAGE_BYTES, 1)
            if not message:
                raise ConnectionResetError
            answer = json.loads(message)
            if answer["number"] == self._number:
                return answer, descriptors[0] if descriptors else None
            for descriptor in descriptors:  # of one that was held for stuck as it finished
                os.close(descriptor)


def _error(answer: _Answer) -> Exception:
    """Make the exception that an answer without pixels stands for."""
    if answer["kind"] == "memory":
        return MemoryError()
    if answer["kind"] == "os":
        return OSError(answer["errno"], os.strerror(answer["errno"]))
    return ImageError(answer["message"])


def _as_template(ours: socket.socket, theirs: socket.socket) -> NoReturn:
    """Be the template until the other end of the socket is closed, be it because that process was killed."""
    try:
        ours.close()
        for number in (signal.SIGINT, signal.SIGTERM):  # sent to all of a terminal's or service's processes
            signal.signal(number, signal.SIG_IGN)
        with open(os.devnull, "r+b", buffering=0) as nowhere:
            for stream in range(3):
                os.dup2(nowhere.fileno(), stream)
        memory.return_large_blocks()
        gc.freeze()  # a collection in a child would copy every page it looks at
        template = _Template(theirs)
        while message := theirs.recv(_MESSAGE_BYTES):
            template.serve(json.loads(message))
    finally:
        os._exit(0)


class _Template:
    """Has one child at a time, which decodes file after file until one fails in it."""

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._reading = mmap.mmap(-1, 1)  # shared with the child: whether it still reads the file
        self._pid = 0
        self._child: socket.socket | None = None
        self._served = 0
        self._stuck: set[int] = set()

    def serve(self, request: _Request) -> None:
        """Have a file decoded; what the child cannot answer is answered here."""
        self._stuck = {pid for pid in self._stuck if os.waitpid(pid, os.WNOHANG) == (0, 0)}
        try:
            answer = self._attempt(request)
        except OSError as error:  # no more processes or files
            answer = {"kind": "os", "errno": error.errno}
        if answer is not None:
            self._parent.send(json.dumps({"number": request["number"], **answer}).encode())

    def _attempt(self, request: _Request) -> _Answer | None:
        timed_out = {"kind": "os", "errno": errno.ETIMEDOUT}
        if len(self._stuck) >= _MOST_STUCK:
            return timed_out
        child = self._child or self._forked(_path(request))
        self._reading[0] = 1
        try:
            child.send(json.dumps(request).encode())
        except ConnectionError:  # it was killed as it waited
            self._bury()
            return self._attempt(request)
        said = self._heard(child, request["wait_s"])
        if said == _GOES_ON:
            self._served += 1
            if self._served >= _MOST_IMAGES:
                self._bury()
            return None
        if said is None:
            os.kill(self._pid, signal.SIGKILL)
            if self._heard(child, 1.0) is None:
                self._stuck.add(self._pid)
                child.close()
                self._child = None
                return timed_out
        is_fresh = not self._served
        status = self._bury()
        if said == _ENDS:
            return None
        if said is None:
            return timed_out if self._reading[0] else _too_long(request)
        if is_fresh or os.WTERMSIG(status) == signal.SIGXCPU:
            return _verdict(status, request)
        return self._attempt(request)  # it crashed, and an image before this one may have damaged it

    def _forked(self, path: Path) -> socket.socket:
        _import_for(path)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            _as_child(self._parent, theirs, self._reading)
        theirs.close()
        self._child = ours
        self._served = 0
        return ours

    def _bury(self) -> int:
        """Take leave of the child, which ends when its socket is closed: its status."""
        assert self._child is not None
        self._child.close()
        self._child = None
        return os.waitpid(self._pid, 0)[1]

    def _heard(self, child: socket.socket, wait_s: float) -> bytes | None:
        """Wait for the child: its word, none if it has died, None if it is silent. Ends with the parent."""
        poll = select.poll()
        poll.register(child, select.POLLIN)
        poll.register(self._parent, 0)  # the closing of the other end is told unasked
        ready = {descriptor for descriptor, _ in poll.poll(wait_s * 1e3)}
        if self._parent.fileno() in ready:
            os.kill(self._pid, signal.SIGKILL)
            os._exit(0)
        try:
            return child.recv(_MESSAGE_BYTES) if ready else None
        except ConnectionError:
            return b""


def _path(request: _Request) -> Path:
    return Path(os.fsdecode(bytes.fromhex(request["path"])))


def _import_for(path: Path) -> None:
    """Import what the decoding of such a file will import, lest every child do so anew."""
    if path.suffix.lower() in (".tif", ".tiff"):
        import tifffile  # noqa: F401
    else:
        import PIL.Image

        PIL.Image.preinit()


def _too_long(request: _Request) -> _Answer:
    message = f"takes more than {request['limit_s']:g} s to decode: save it again, as an uncompressed TIFF"
    return {"kind": "image", "message": message}


def _verdict(status: int, request: _Request) -> _Answer:
    """Say what the end of a child means for the image it had in hand."""
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else signal.SIGKILL
    if number == signal.SIGXCPU:
        return _too_long(request)
    if number == signal.SIGKILL:  # by the system, when memory was short
        return {"kind": "memory"}
    name = signal.Signals(number).name
    return {"kind": "image", "message": f"crashes the decoder ({name}): save it again with another program"}


def _as_child(parent: socket.socket, template: socket.socket, reading: mmap.mmap) -> NoReturn:
    """Decode file after file; end after one that failed, with all that it may have damaged."""
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # where memory is short, the system takes it from here first
        while message := template.recv(_MESSAGE_BYTES):
            request = json.loads(message)
            _limit_time(request["limit_s"])
            memory.limit_to_available(_MOST_MEMORY_BYTES)
            answer, descriptors = _answer(_path(request), reading)
            socket.send_fds(parent, [json.dumps({"number": request["number"], **answer}).encode()], descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            if not descriptors:
                template.send(_ENDS)
                break
            template.send(_GOES_ON)
    finally:
        os._exit(0)


def _limit_time(limit_s: float) -> None:
    """Let this process have so much more of the processor's time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = math.ceil(used.ru_utime + used.ru_stime + limit_s)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))


def _answer(path: Path, reading: mmap.mmap) -> tuple[_Answer, list[int]]:
    """Decode a file: the answer, and the descriptor of its pixels if there are any."""
    try:
        data = images.read(path)
        reading[0] = 0
        sha256 = hashlib.sha256(data).hexdigest()
        image = images.decode(data)
        del data
        pixels = np.ascontiguousarray(image.pixels)
        descriptor = _in_shared_memory(pixels)
    except ImageError as error:
        return {"kind": "image", "message": error.message}, []
    except MemoryError:
        return {"kind": "memory"}, []
    except OSError as error:
        return {"kind": "os", "errno": error.errno or errno.EIO}, []
    except Exception as error:
        message = f"makes the decoder fail ({type(error).__name__}): save it again with another program"
        return {"kind": "image", "message": message}, []
    answer = {"kind": "pixels", "sha256": sha256, "pixel_size_um": image.pixel_size_um}
    return {**answer, "shape": pixels.shape, "dtype": pixels.dtype.name}, [descriptor]


def _in_shared_memory(pixels: npt.NDArray[Any]) -> int:
    """Copy pixels into memory of their own: the descriptor of that."""
    descriptor = os.memfd_create("cellseg-pixels")
    try:
        left = memoryview(pixels.reshape(-1).view(np.uint8).data)
        while left:
            left = left[os.write(descriptor, left) :]  # one write takes 2 GiB at most
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
