"""Images become outcomes: `watch` a folder for ever, do `once` what is in it, or `run` the named files.

The scan of the folder is the truth; file events only wake it early. An image is taken when its size and time
have been still for a moment.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from cellseg_device import notify
from cellseg_device.errors import InputError, OutputError
from cellseg_device.ledger import FAILED
from cellseg_device.scan import Settling, Source, check_folder, printable, scan, source_at
from cellseg_device.wake import Alarm, Events
from cellseg_device.worker import Outcome, ReadError, Worker

Warn = Callable[[str], None]
_T = TypeVar("_T")

_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_REST_PER_SCAN = 4.0  # so many times as long as a scan took, until the next
_ONCE_PATIENCE_S = 10.0  # how long `once` waits for files that are still being written
# At the start these say that the output folder may take results later; others, that it never will.
MAY_PASS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


@dataclass(frozen=True)
class Timing:
    """When the folder is looked at.

    Attributes
    ----------
    settle_s : float
        How long size and time of a file must have been still.
    poll_s : float
        Longest time between two scans, but for a folder so full that they would take much of the processor.
    """

    settle_s: float = 0.5
    poll_s: float = 2.0


def watch(folder: Path, worker: Worker, timing: Timing, alarm: Alarm, recursive: bool = False) -> Iterator[Outcome]:
    """Do every image in a folder, and every one that comes, until `alarm` stops it.

    A folder or a disk that fails is told to the user once, and once when it is back: the output's `warn`.

    Parameters
    ----------
    folder : Path
        It may vanish and come back.
    worker : Worker
    timing : Timing
    alarm : Alarm
    recursive : bool
        Whether to look into the folders below, too.

    Yields
    ------
    Outcome
        Of every image that was done or failed. A fault of a disk is no outcome: it is tried again, for ever.

    Raises
    ------
    InputError
        If the folder is missing at the start.
    OutputError
        If the output folder never will take results.
    """
    warn = worker.output.warn
    check_folder(folder)
    worker.output.watched = folder
    open_output(worker, MAY_PASS)
    if worker.output.is_open:
        note_counts_made_otherwise(worker)
    listing = Patience(f"{folder} is gone", f"{folder} is back", warn)
    settling = Settling(timing.settle_s)
    batch = Batch(worker, alarm)
    events = Events(folder, alarm.wake, warn, recursive)
    events.start()
    notify.ready()
    try:
        while not alarm.stopping:
            start = time.monotonic()
            try:
                pending = scan(folder, worker.output.folder, recursive, worker.output.known)
            except OSError as error:
                listing.fault(error)
                alarm.sleep(timing.poll_s)
                continue
            if listing.passed():
                events.start()
            rest_s = _REST_PER_SCAN * (time.monotonic() - start)
            ready = settling.ready(pending, time.monotonic(), time.time())
            done = False
            for outcome in batch.work(ready):
                yield outcome
                done = True
            if not done:  # else others may have come meanwhile
                alarm.wait(max(min(timing.poll_s, settling.next_s(time.monotonic())), rest_s))
    finally:
        notify.stopping()
        events.stop()


def once(folder: Path, worker: Worker, timing: Timing, alarm: Alarm, recursive: bool = False) -> Iterator[Outcome]:
    """Do every image that is in a folder now.

    Parameters
    ----------
    folder, worker, timing, alarm, recursive
        As for `watch`.

    Yields
    ------
    Outcome
        One per image, those that were done or failed before included. A fault of a disk is a failure, which
        is not recorded.

    Raises
    ------
    InputError
        If the folder is missing.
    OutputError
        If the output folder does not take results.
    """
    check_folder(folder)
    open_output(worker)
    note_counts_made_otherwise(worker)
    worker.tidy()
    waiting = set()
    for source in listed(folder, worker.output.folder, recursive):
        try:
            former = worker.former(source, strict=False)
        except OSError:
            former = None  # the disk's fault comes up again below
        if former is None:
            waiting.add(source.image)
        else:
            yield former
    settling = Settling(timing.settle_s)
    patience = time.monotonic() + max(_ONCE_PATIENCE_S, 4 * timing.settle_s)
    while waiting and not alarm.stopping:
        sources = [s for s in listed(folder, worker.output.folder, recursive) if s.image in waiting]
        waiting &= {s.image for s in sources}
        for source, following in _with_next(settling.ready(sources, time.monotonic(), time.time())):
            if alarm.stopping:
                return
            waiting.remove(source.image)
            if os.path.lexists(source.path):
                yield _attempt(worker, source, following)
        if time.monotonic() > patience:
            for image in sorted(waiting):
                yield Outcome(image, FAILED, reason="is still being written: try again when it is complete")
            return
        if waiting:
            alarm.wait(min(timing.poll_s, settling.next_s(time.monotonic())))


def run(paths: Iterable[Path], worker: Worker, alarm: Alarm) -> Iterator[Outcome]:
    """Do the named files; as `once`, but a result with another model, or a failure, is done again."""
    open_output(worker)
    # A link keeps its own name
    names = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100
    for path, next_path in _with_next(names):
        if alarm.stopping:
            return
        source = _named(path)
        if source is None:
            yield Outcome(printable(str(path)), FAILED, reason="no such file: check the path")
        else:
            yield _attempt(worker, source, _named(next_path) if next_path else None, again=True)


def listed(folder: Path, out: Path, recursive: bool = False) -> list[Source]:
    """List the images in a folder as `scan` does; raise InputError where that fails."""
    try:
        return scan(folder, out, recursive)
    except OSError as error:
        raise InputError(f"{folder} went away ({error.strerror}): try again when it is back") from None


class Batch:
    """Does images, and is patient with disks.

    A fault in reading one image leaves the others alone; a fault in writing results holds them all.

    Parameters
    ----------
    worker : Worker
    alarm : Alarm
    """

    def __init__(self, worker: Worker, alarm: Alarm) -> None:
        self._worker = worker
        self._alarm = alarm
        self._warn = worker.output.warn
        out = worker.output.folder
        self._writing = Patience(
            f"results cannot be written to {out}", f"results can be written to {out} again", self._warn
        )
        self._reading: dict[str, Patience] = {}

    def work(self, sources: list[Source]) -> Iterator[Outcome]:
        """Do these images; after a fault of the output's disk wait, and leave the rest for the next time.

        To be called without images as well: the worker tidies up between.
        """
        self._worker.tidy()
        reading = self._reading
        self._reading = {s.image: reading[s.image] for s in sources if s.image in reading}
        for source, following in _with_next(sources):
            if self._alarm.stopping:
                return
            # Anew, since the scan may be minutes old; who was changed has to settle again.
            if self._is_resting(source.image) or source_at(source.path, source.image) != source:
                continue
            notify.alive()
            try:
                outcome = self._worker.process(source, following=following)
            except ReadError as error:
                self._reading_fault(source.image, error)
                continue
            except OSError as error:
                self._alarm.sleep(self._writing.fault(error))
                return
            self._writing.passed()
            self._worker.tidy()
            notify.status(f"{source.image}: {outcome.reason or f'{outcome.cells} cells'}")
            if outcome.status != FAILED or os.path.lexists(source.path):
                yield outcome

    def _is_resting(self, image: str) -> bool:
        return image in self._reading and self._reading[image].is_resting()

    def _reading_fault(self, image: str, error: OSError) -> None:
        patience = self._reading.setdefault(image, Patience(f"{image}: cannot be read", "", self._warn))
        patience.fault(error)


class Patience:
    """With one thing that may fail for a while: says so once, and waits twice as long each time.

    Parameters
    ----------
    fault, passed : str
        What is said of the first fault, and when it works again.
    warn : callable
        Receives a line for the user.
    """

    def __init__(self, fault: str, passed: str, warn: Warn) -> None:
        self._fault, self._passed, self._warn = fault, passed, warn
        self._delay_s = 0.0
        self._until = 0.0

    def fault(self, error: OSError) -> float:
        """Take note of a fault; returns the seconds to wait."""
        if not self._delay_s:
            fault = f"{self._fault} ({error.strerror}): trying again until it works"
            self._warn(fault)
            notify.status(fault)
        self._delay_s = min(max(2 * self._delay_s, _FIRST_DELAY_S), _LONGEST_DELAY_S)
        self._until = time.monotonic() + self._delay_s
        return self._delay_s

    def passed(self) -> bool:
        """Take note that it works; returns whether it did not before."""
        if not self._delay_s:
            return False
        self._warn(self._passed)
        self._delay_s = 0.0
        return True

    def is_resting(self) -> bool:
        """Whether the time to wait is not over."""
        return time.monotonic() < self._until


def _with_next(items: list[_T]) -> Iterator[tuple[_T, _T | None]]:
    """Pair each item with the one after it, the last with None."""
    return zip_longest(items, items[1:])


def _named(path: Path) -> Source | None:
    """The file as it is now; None where there is none."""
    return source_at(path, printable(str(path)))


def _attempt(worker: Worker, source: Source, following: Source | None, again: bool = False) -> Outcome:
    """Do an image; a fault of a disk fails it for this time."""
    try:
        if again:
            former = worker.former(source, strict=True)
            if former is not None:
                return former
            if following is not None and worker.former(following, strict=True) is not None:
                following = None
        return worker.process(source, following=following)
    except ReadError as error:
        reason = f"cannot be read ({error.strerror}): try again"
    except OSError as error:
        reason = f"its results cannot be written ({error.strerror}): make room or mend it, then try again"
    return Outcome(source.image, FAILED, reason=reason)


def open_output(worker: Worker, may_pass: tuple[int, ...] = ()) -> None:
    """Open the output folder at the start; raise OutputError unless the disk's fault is one that `may_pass`."""
    output = worker.output
    try:
        output.open()
    except OSError as error:
        if error.errno in may_pass:
            return
        raise OutputError(
            f"{output.folder} cannot take results ({error.strerror}): choose another folder with --out"
        ) from None


def note_counts_made_otherwise(worker: Worker) -> None:
    """Tell of counts in the open output folder that this worker would make otherwise."""
    output = worker.output
    others = output.ledger.count_made_otherwise(worker.model_sha256, worker.settings)
    if others:
        output.warn(
            f"{output.folder} holds {others} counts made with another model or other settings, which stay as they are: "
            "use another --out to count those images again"
        )
