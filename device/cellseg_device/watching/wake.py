"""What wakes the watch before its next scan is due: file events, and the signal to stop."""

from __future__ import annotations

import os
import queue
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from cellseg_device.errors import InputError
from cellseg_device.system import notify

# Other computers write to these, and this system gets no events of that; so it is with FUSE
_WITHOUT_EVENTS = ("cifs", "smb3", "smbfs", "nfs", "nfs4", "9p", "virtiofs", "ceph", "afs", "vboxsf", "sshfs")

_MOUNTINFO = Path("/proc/self/mountinfo")


class StopSignal:
    """Wakes the watch, and stops it; safe to call from threads and signal handlers."""

    def __init__(self) -> None:
        self.stopping = False
        # Its put may be called by a signal handler at any moment; an Event's set may not.
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """End the present `wait`."""
        self._calls.put(None)

    def stop(self) -> None:
        """Ask the work to end after the image in hand."""
        self.stopping = True
        self.wake()

    def wait(self, seconds: float) -> None:
        """Sleep until woken, at most this long, and keep telling the service manager that this process is alive."""
        end = time.monotonic() + seconds
        interval_s = notify.interval_s()
        while True:
            notify.alive()
            left = end - time.monotonic()
            if self._is_called(min(left, interval_s)) or left <= interval_s:
                return

    def _is_called(self, within_s: float) -> bool:
        """Wait for a call; returns whether one came, and drops those that came with it."""
        try:
            self._calls.get(timeout=max(within_s, 0))
        except queue.Empty:
            return False
        with suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
        return True

    def sleep(self, seconds: float) -> None:
        """Sleep this long unless stopped."""
        end = time.monotonic() + seconds
        while not self.stopping and (left := end - time.monotonic()) > 0:
            self.wait(left)


class Events:
    """File events of one folder; where the system gives none, the scans alone have to do.

    Parameters
    ----------
    folder : Path
    wake : callable
        Called from another thread after an event; `take` then names its file.
    warn : callable
        Receives a line for the user.
    recursive : bool
        Whether those of the folders below count, too.
    """

    def __init__(
        self, folder: Path, wake: Callable[[], None], warn: Callable[[str], None], *, recursive: bool = False
    ) -> None:
        self._folder = folder
        self._wake = wake
        self._warn = warn
        self._recursive = recursive
        self._has_said = False
        self._observer: Any = None
        self._touched: queue.SimpleQueue[str] = queue.SimpleQueue()

    def start(self) -> None:
        """Begin to listen; to be called again after the folder was away, since its events end with it."""
        self.stop()
        kind = file_system(self._folder)
        if kind in _WITHOUT_EVENTS or kind == "fuse" or kind.startswith("fuse."):
            if not self._has_said:  # a drive may come and go
                self._warn(f"{self._folder} is a {kind} drive, which gives no file events: looking into it regularly")
            self._has_said = True
            return
        from watchdog import events  # here, since only a watch needs them
        from watchdog.observers import Observer

        handler = events.FileSystemEventHandler()
        handler.on_any_event = self._note  # type: ignore[method-assign]
        # Not "modified", which comes for every block written; and reading is no event at all.
        kinds: list[type[events.FileSystemEvent]] = [events.FileCreatedEvent, events.FileMovedEvent]
        kinds += [events.FileClosedEvent, events.DirCreatedEvent, events.DirMovedEvent]
        observer = Observer()
        try:
            observer.schedule(handler, str(self._folder), recursive=self._recursive, event_filter=kinds)
            observer.start()
        except OSError as error:
            self._warn(f"no file events ({error.strerror}): looking into {self._folder} regularly instead")
            return
        self._observer = observer

    def take(self) -> set[str]:
        """Return the paths within the folder of files that there were events of since the last call."""
        found = set()
        with suppress(queue.Empty):
            while True:
                found.add(self._touched.get_nowait())
        return found

    def _note(self, event: Any) -> None:
        around = os.path.join(self._folder, "")  # noqa: PTH118 - with a slash at the end
        for path in filter(None, (event.src_path, event.dest_path)):
            self._touched.put(os.fsdecode(path).removeprefix(around))
        self._wake()

    def stop(self) -> None:
        """Stop listening."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


def file_system(folder: Path, mountinfo: Path = _MOUNTINFO) -> str:
    """Return the kind of file system that a folder lies on, as ``ext4`` or ``cifs``; empty where it is unknown."""
    real, kind, longest = Path(os.path.realpath(folder)), "", -1
    for mount in _mounts(mountinfo):
        # Of several that are mounted at one place, the last hides the others
        if (real == mount.point or mount.point in real.parents) and len(mount.point.parts) >= longest:
            kind, longest = mount.kind, len(mount.point.parts)
    return kind


class Bound:
    """A folder that may be a mount of its own, as one in a home or the output is for a service, or one in a container.

    Such a mount goes with the folder when that is moved or removed: this process would never see another one in its
    place, and would wait for ever.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path, mountinfo: Path = _MOUNTINFO) -> None:
        self._folder = folder
        self._mountinfo = mountinfo
        self._roots = self._found()

    def check(self) -> None:
        """Raise InputError if the folder was moved or removed; where it is no mount that does not matter."""
        now = self._found()
        if any(now.get(number, root) != root for number, root in self._roots.items()):
            raise InputError(
                f"{self._folder} was moved or removed, which this process cannot follow: make it again, then start "
                "this again (a service does so by itself)"
            )

    def _found(self) -> dict[str, str]:
        """Return what of its file system each mount at the folder shows, by the number of the mount."""
        real = Path(os.path.realpath(self._folder))
        return {mount.number: mount.root for mount in _mounts(self._mountinfo) if mount.point == real}


class _Mount(NamedTuple):
    number: str
    root: str
    point: Path
    kind: str


def _mounts(mountinfo: Path) -> list[_Mount]:
    """Return what is mounted, in order (see proc_pid_mountinfo(5)); nothing where that is unknown."""
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        place, _, device = line.partition(" - ")
        number, _, _, root, point, *_ = place.split(" ")
        plain = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
        found.append(_Mount(number, root, Path(plain), device.split(" ")[0]))
    return found
