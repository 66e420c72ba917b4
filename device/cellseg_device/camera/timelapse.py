"""An image at every tick of a clock, and what becomes of it: captured, written, then counted like any file."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

from cellseg_device import notify
from cellseg_device.camera.captures import Captures
from cellseg_device.camera.source import EndOfImages, Warn
from cellseg_device.camera.supervise import Supervised
from cellseg_device.errors import OutputError
from cellseg_device.scan import Source, source_at
from cellseg_device.wake import Alarm
from cellseg_device.watch import MAY_PASS, Batch, Patience, note_counts_made_otherwise
from cellseg_device.worker import Outcome, Worker

_LATE = 0.1  # part of the distance between ticks by which an image may be late
_MOST_WAITING = 4  # captures without results, beyond which none is taken: those in memory must not fill it
_REST_S = 1.0


def timelapse(
    camera: Supervised, captures: Captures, worker: Worker, every_s: float, count: int | None, alarm: Alarm
) -> Iterator[Outcome]:
    """Take images at even times and do them, until `alarm` stops it; what an earlier process left comes first.

    Parameters
    ----------
    camera : Supervised
    captures : Captures
    worker : Worker
        Its output has been opened, or could not be for a fault that may pass.
    every_s : float
        From tick to tick; 0 for no pause.
    count : int or None
        How many images to take; None for no end.
    alarm : Alarm

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
    batch = Batch(worker, alarm)
    folder = captures.folder
    writing = Patience(
        f"captures cannot be written to {folder}", f"captures can be written to {folder} again", output.warn
    )
    notify.ready()
    waiting = _left_over(captures, worker, alarm)
    ticks = Ticks(every_s, output.warn)
    taken = 0
    while not alarm.stopping:
        yield from batch.work(waiting)
        waiting = _without_done(waiting, captures, worker)
        if len(waiting) > _MOST_WAITING or (waiting and taken == count):
            alarm.sleep(_REST_S)
            continue
        if taken == count:
            return
        ticks.wait(alarm)
        if alarm.stopping:
            return
        try:
            pixels = camera.capture()
        except EndOfImages:
            count = taken
            continue
        if pixels is None:
            return
        try:
            waiting.append(captures.write(pixels, time.time_ns()))
        except OSError as error:
            alarm.sleep(writing.fault(error))
            continue
        writing.passed()
        taken += 1


class Ticks:
    """Times at an even distance, which do not drift; those that were missed are left out, and told of.

    Parameters
    ----------
    every_s : float
    warn : callable
        Told when ticks begin to be missed.
    """

    def __init__(self, every_s: float, warn: Warn) -> None:
        self._every_s = every_s
        self._warn = warn
        self._due = time.monotonic()
        self._is_missing = False

    def wait(self, alarm: Alarm) -> None:
        """Sleep until the next tick."""
        if not self._every_s:
            return
        missed = self.skip(time.monotonic())
        if missed and not self._is_missing:
            ticks = "1 tick is" if missed == 1 else f"{missed} ticks are"
            self._warn(
                f"{ticks} left out: taking and counting took longer than {self._every_s:g} s (said once in a row)"
            )
        self._is_missing = missed > 0
        alarm.sleep(self._due - time.monotonic())
        self._due += self._every_s

    def skip(self, now: float) -> int:
        """Pass over the ticks that are over at this time; returns how many."""
        late = now - self._due - _LATE * self._every_s
        missed = max(math.ceil(late / self._every_s), 0)
        self._due += missed * self._every_s
        return missed


def _left_over(captures: Captures, worker: Worker, alarm: Alarm) -> list[Source]:
    """Open the output folder, however long it takes, and list what an earlier process took but did not do."""
    output = worker.output
    patience = Patience(f"{output.folder} cannot take results", f"{output.folder} can take results again", output.warn)
    while not alarm.stopping:
        try:
            output.open()
            waiting = captures.unfinished(output.known)
        except OSError as error:
            if error.errno not in MAY_PASS:
                reason = f"{captures.folder} cannot take captures ({error.strerror})"
                raise OutputError(f"{reason}: mend it, or choose another folder with --out") from None
            alarm.sleep(patience.fault(error))
            continue
        patience.passed()
        note_counts_made_otherwise(worker)
        return waiting
    return []


def _without_done(waiting: list[Source], captures: Captures, worker: Worker) -> list[Source]:
    """Leave those that still have neither a result nor a reason; of the others the captures may go."""
    left = []
    for source in waiting:
        if source.image in worker.output.known:
            captures.finish(source)
        elif os.path.lexists(source.path):
            left.append(source_at(source.path, source.image) or source)
    return left
