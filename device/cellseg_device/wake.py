"""What wakes the watch before its next scan is due: file events, and the wish to stop."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cellseg_device import notify


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
    """

    def __init__(self, folder: Path, wake: Callable[[], None], warn: Callable[[str], None]) -> None:
        self._folder = folder
        self._wake = wake
        self._warn = warn
        self._observer: Any = None

    def start(self) -> None:
        """Begin to listen; again after the folder was away, since the old one's events went with it."""
        from watchdog import events  # here, since only a watch needs them
        from watchdog.observers import Observer

        self.stop()
        handler = events.FileSystemEventHandler()
        handler.on_any_event = lambda event: self._wake()  # type: ignore[method-assign]
        # Not "modified", which comes for every block written; and reading is no event at all.
        kinds = [events.FileCreatedEvent, events.FileMovedEvent, events.FileClosedEvent]
        observer = Observer()
        try:
            observer.schedule(handler, str(self._folder), event_filter=kinds)
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
