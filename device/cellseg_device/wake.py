"""What wakes the watch before its next scan is due: file events, and the wish to stop."""

from __future__ import annotations

import os
import queue
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cellseg_device import notify

# Others write to these from elsewhere, and this system is not told; FUSE's kinds as well
_WITHOUT_EVENTS = ("cifs", "smb3", "smbfs", "nfs", "nfs4", "9p", "virtiofs", "ceph", "afs", "vboxsf", "sshfs")


class Alarm:
    """Wakes the watch, and stops it; safe to call from threads and signal handlers."""

    def __init__(self) -> None:
        self.stopping = False
        # Its put is reentrant, as a signal handler needs; an Event's set is not.
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        """End the present `wait`."""
        self._calls.put(None)

    def stop(self) -> None:
        """Ask for the end, after the image in hand."""
        self.stopping = True
        self.wake()

    def wait(self, seconds: float) -> None:
        """Sleep until woken, at most this long; the service manager hears that waiting is being alive."""
        end = time.monotonic() + seconds
        interval_s = notify.interval_s()
        while True:
            notify.alive()
            left = end - time.monotonic()
            if self._is_called(min(left, interval_s)) or left <= interval_s:
                return

    def _is_called(self, within_s: float) -> bool:
        """Wait for a call; forget it and those that came with it."""
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
    """File events of one folder; where the system has none to give, the scans alone must do.

    Parameters
    ----------
    folder : Path
    wake : callable
        Called from another thread after an event.
    warn : callable
        Receives a line for the user.
    recursive : bool
        Whether those of the folders below count, too.
    """

    def __init__(
        self, folder: Path, wake: Callable[[], None], warn: Callable[[str], None], recursive: bool = False
    ) -> None:
        self._folder = folder
        self._wake = wake
        self._warn = warn
        self._recursive = recursive
        self._has_said = False
        self._observer: Any = None

    def start(self) -> None:
        """Begin to listen; again after the folder was away, since the old one's events went with it."""
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
        handler.on_any_event = lambda event: self._wake()  # type: ignore[method-assign]
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

    def stop(self) -> None:
        """Stop listening."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None


def file_system(folder: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Name the kind of file system that a folder lies on, as ``ext4`` or ``cifs``; empty where that is not told."""
    try:
        lines = mountinfo.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real, kind, longest = Path(os.path.realpath(folder)), "", -1
    for line in lines:
        mount, _, device = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mount.split(" ")[4]))
        # Of several mounted on one place the last is seen
        if (real == point or point in real.parents) and len(point.parts) >= longest:
            kind, longest = device.split(" ")[0], len(point.parts)
    return kind
