"""An image at every tick of a clock: captured, written, then counted like any file."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

from cellseg_device.camera.captures import Captures
from cellseg_device.camera.live import Live
from cellseg_device.camera.source import EndOfImages, Warn
from cellseg_device.camera.supervise import Supervised
from cellseg_device.errors import OutputError
from cellseg_device.image.source import Source, source_at
from cellseg_device.system import notify
from cellseg_device.watching.backoff import Backoff, may_pass
from cellseg_device.watching.outcome import Outcome
from cellseg_device.watching.wake import StopSignal
from cellseg_device.watching.watch import Batch, note_counts_made_otherwise
from cellseg_device.watching.worker import Worker

_LATE = 0.1  # an image may be late by this part of the time between two ticks
_MOST_WAITING = 4  # with more captures than this to be counted none is taken: those in memory must not fill it
_REST_S = 1.0


def timelapse(
    camera: Supervised,
    captures: Captures,
    worker: Worker,
    stop: StopSignal,
    *,
    every_s: float,
    count: int | None,
    live: Live | None = None,
) -> Iterator[Outcome]:
    """Take images at even times and do them, until it is stopped; what an earlier process left comes first.

    Parameters
    ----------
    camera : Supervised
    captures : Captures
    worker : Worker
        Its output has been opened, or could not be for a fault that may pass.
    stop : StopSignal
    every_s : float
        From tick to tick; 0 for no pause.
    count : int or None
        How many images to take, without those that somebody asks for at the page; None for no end.
    live : Live or None
        Shows what the camera sees while it waits.

    Yields
    ------
    Outcome
        Of every image.

    Raises
    ------
    CameraError
        If the camera fails for good.
    OutputError
        If captures cannot be written there, or another process took the output folder after a fault of its disk.
    """
    output = worker.output
    batch = Batch(worker, stop)
    folder = captures.folder
    writing = Backoff(
        f"captures cannot be written to {folder}", f"captures can be written to {folder} again", output.warn
    )
    notify.ready()
    waiting = _left_over(captures, worker, stop)
    ticks = Ticks(every_s, output.warn)
    taken = 0
    while not stop.stopping:
        yield from batch.work(waiting)
        waiting = _without_done(waiting, captures, worker)
        if len(waiting) > _MOST_WAITING or (waiting and taken == count):
            stop.sleep(_REST_S)
            continue
        if taken == count:
            return
        if batch.tidy_in_s() < ticks.left_s():  # which may be hours
            stop.sleep(batch.tidy_in_s())
            batch.tidy(is_idle=True)
        ticks.catch_up()
        asked_for = None
        if live is None:
            stop.sleep(ticks.left_s())
        else:
            asked_for = live.wait(ticks.left_s, stop)
        if stop.stopping:
            return
        is_due = asked_for is None or ticks.left_s() <= 0
        if is_due:
            ticks.go_on()
        try:
            pixels = camera.capture()
        except EndOfImages:
            count = taken
            continue
        if pixels is None:
            return
        try:
            source = captures.write(pixels, time.time_ns())
        except OSError as error:
            stop.sleep(writing.fault(error))
            continue
        writing.passed()
        waiting.append(source)
        taken += is_due
        if live is not None:
            live.took(pixels, source.image, asked_for)


class Ticks:
    """Times at an even distance, which do not drift; those that were missed are left out, with a warning.

    Parameters
    ----------
    every_s : float
    warn : callable
        Receives a line for the user when ticks begin to be missed.
    """

    def __init__(self, every_s: float, warn: Warn) -> None:
        self._every_s = every_s
        self._warn = warn
        self._due = time.monotonic()
        self._is_missing = False

    def catch_up(self) -> None:
        """Leave out the ticks that were missed, with a warning."""
        if not self._every_s:
            return
        missed = self.skip(time.monotonic())
        if missed and not self._is_missing:
            ticks = "1 tick is" if missed == 1 else f"{missed} ticks are"
            self._warn(
                f"{ticks} left out: taking and counting took longer than {self._every_s:g} s (said once in a row)"
            )
        self._is_missing = missed > 0

    def go_on(self) -> None:
        """Go on to the next tick."""
        self._due += self._every_s

    def left_s(self) -> float:
        """Return how many seconds are left until the next tick."""
        return self._due - time.monotonic()

    def skip(self, now: float) -> int:
        """Skip the ticks that have passed by this time; returns how many."""
        late = now - self._due - _LATE * self._every_s
        missed = max(math.ceil(late / self._every_s), 0)
        self._due += missed * self._every_s
        return missed


def _left_over(captures: Captures, worker: Worker, stop: StopSignal) -> list[Source]:
    """Open the output folder, however long it takes, and list what an earlier process took but did not do."""
    output = worker.output
    out = output.folder
    backoff = Backoff(f"{out} cannot take results", f"{out} can take results again", output.warn)
    while not stop.stopping:
        try:
            output.open()
            waiting = captures.unfinished(output.known)
        except OSError as error:
            if not may_pass(error):
                reason = f"{captures.folder} cannot take captures ({error.strerror})"
                raise OutputError(f"{reason}: fix that, or choose another folder with --out") from None
            stop.sleep(backoff.fault(error))
            continue
        backoff.passed()
        note_counts_made_otherwise(worker)
        return waiting
    return []


def _without_done(waiting: list[Source], captures: Captures, worker: Worker) -> list[Source]:
    """Return the captures that have neither a result nor a failure yet; those that have are finished with."""
    left = []
    for source in waiting:
        if source.image in worker.output.known:
            captures.finish(source)
        elif os.path.lexists(source.path):
            left.append(source_at(source.path, source.image) or source)
    return left
