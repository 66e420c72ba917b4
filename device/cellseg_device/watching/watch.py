"""Images become outcomes: `watch` a folder for ever, do `once` what is in it, or `run` the named files.

The scan of the folder is the truth; file events only wake it early. An image is taken when its size and time
have been still for a moment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from cellseg_device.errors import OutputError
from cellseg_device.image.source import Source, printable, source_at
from cellseg_device.results.entry import FAILED
from cellseg_device.system import notify
from cellseg_device.system.natural_order import natural_key
from cellseg_device.watching.backoff import Backoff, may_pass
from cellseg_device.watching.faults import ReadError
from cellseg_device.watching.outcome import UNCHANGED, Outcome, in_words
from cellseg_device.watching.scan import Scanner, Settling, check_folder, checked, scan
from cellseg_device.watching.standing import PassedOver, Standing
from cellseg_device.watching.wake import Bound, Events, StopSignal
from cellseg_device.watching.worker import Worker

_T = TypeVar("_T")
_Begin = Callable[[Standing], object]

_ONCE_PATIENCE_S = 10.0  # how long `once` waits for files that are still being written
_LATE_S = 1.0  # how long at a time a watch makes further files of images that were done before


@dataclass(frozen=True)
class Timing:
    """When the folder is scanned.

    Attributes
    ----------
    settle_s : float
        How long size and time of a file must have been still.
    poll_s : float
        Longest time between two scans, unless the folder is so full that they would take more than 3 % of a core.
    """

    settle_s: float = 0.5
    poll_s: float = 2.0


def watch(
    folder: Path,
    worker: Worker,
    timing: Timing,
    stop: StopSignal,
    *,
    recursive: bool = False,
    begin: _Begin = lambda _: None,
) -> Iterator[Outcome]:
    """Do every image in a folder, and every one that comes, until it is stopped.

    Files that were asked for of images that were done before are made when there is nothing else to do.

    When a folder or a disk fails, the user is warned once, and once more when it works again.

    Parameters
    ----------
    folder : Path
        It may vanish and come back.
    worker : Worker
        Its output's `watched` should be this folder, so that what `run` did of it is not done again.
    timing : Timing
    stop : StopSignal
    recursive : bool
        Whether to look into the folders below, too.
    begin : callable
        Called with how things stand before the first image.

    Yields
    ------
    Outcome
        Of every image that was done or failed. A fault of a disk is no outcome: it is tried again, for ever.

    Raises
    ------
    InputError
        If the folder is missing at the start, or it or the output folder was moved or removed where that cannot be
        followed.
    OutputError
        If the output folder never will take results.
    """
    output = worker.output
    check_folder(folder)
    open_output(worker, is_patient=True)
    if output.is_open:
        note_counts_made_otherwise(worker)
    listing = Backoff(f"{folder} is gone", f"{folder} is back", output.warn)
    settling = Settling(timing.settle_s)
    batch = Batch(worker, stop)
    bound = [Bound(folder), Bound(output.folder)]
    events = Events(folder, stop.wake, output.warn, recursive=recursive)
    scanner = Scanner(folder, output.folder, recursive=recursive)
    passed_over, has_begun = PassedOver(output.warn), False
    late = _made_late(folder, worker, recursive=recursive)
    events.start()
    notify.ready()
    try:
        while not stop.stopping:
            for place in bound:
                place.check()
            try:
                pending = scanner.scan(output.known, events.take())
            except OSError as error:
                listing.fault(error)
                batch.tidy(is_idle=True)
                stop.sleep(timing.poll_s)
                continue
            if listing.passed():
                events.start()
            if output.is_open and not has_begun:  # else nothing is known of what is done
                failed = scanner.known_among(output.failed)
                begin(Standing(scanner.known_count - failed, failed, len(pending)))
                has_begun = True
            passed_over.note(scanner.passed_over)
            ready = settling.ready(pending, time.monotonic(), time.time())
            is_idle = True
            for outcome in batch.work(ready):
                yield outcome
                is_idle = False
            if is_idle and (made := next(late, None)) is not None:
                yield from made
            elif is_idle:  # else others may have come meanwhile
                wait_s = min(timing.poll_s, settling.next_s(time.monotonic()), batch.tidy_in_s())
                stop.wait(max(wait_s, scanner.rest_s))
    finally:
        notify.stopping()
        events.stop()


def once(
    folder: Path,
    worker: Worker,
    timing: Timing,
    stop: StopSignal,
    *,
    recursive: bool = False,
    redo: bool = False,
    begin: _Begin = lambda _: None,
) -> Iterator[Outcome]:
    """Do every image that is in a folder now.

    Parameters
    ----------
    folder, worker, timing, stop, recursive, begin
        As for `watch`.
    redo : bool
        Whether to do those again that were done before.

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
    if not redo:
        note_counts_made_otherwise(worker)
    worker.tidy()
    scanner = Scanner(folder, worker.output.folder, recursive=recursive)
    sources = checked(scanner)
    formers = [(source, former) for source in sources if not redo and (former := _former(worker, source)) is not None]
    waiting = {source.image for source in sources} - {source.image for source, _ in formers}
    done = sum(former.status == UNCHANGED for _, former in formers)
    begin(Standing(done, len(formers) - done, len(waiting)))
    PassedOver(worker.output.warn).note(scanner.passed_over)
    for source, former in formers:
        if stop.stopping:
            return
        complete = _with_extras(worker, former, source)
        if complete is None:
            waiting.add(source.image)
        else:
            yield complete
    settling = Settling(timing.settle_s)
    deadline = time.monotonic() + max(_ONCE_PATIENCE_S, 4 * timing.settle_s)
    while waiting and not stop.stopping:
        sources = [source for source in checked(scanner) if source.image in waiting]
        waiting &= {source.image for source in sources}
        for source, following in _with_next(settling.ready(sources, time.monotonic(), time.time())):
            if stop.stopping:
                return
            waiting.remove(source.image)
            if os.path.lexists(source.path):
                yield _attempt(worker, source, following)
        if time.monotonic() > deadline:
            for image in sorted(waiting, key=natural_key):
                yield Outcome(image, FAILED, reason="is still being written: try again when it is complete")
            return
        if waiting:
            stop.wait(min(timing.poll_s, settling.next_s(time.monotonic())))


def run(paths: Iterable[Path], worker: Worker, stop: StopSignal, *, redo: bool = False) -> Iterator[Outcome]:
    """Do the named files; as `once`, but a result with another model or other settings, or a failure, is done again."""
    open_output(worker)
    # A link keeps its own name
    names = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100
    for path, next_path in _with_next(names):
        if stop.stopping:
            return
        source = _named(path)
        if source is None:
            yield Outcome(printable(str(path)), FAILED, reason="no such file: check the path")
        else:
            yield _attempt(worker, source, _named(next_path) if next_path else None, spares_done=not redo)


def _made_late(folder: Path, worker: Worker, *, recursive: bool) -> Iterator[list[Outcome]]:
    """Make what was asked for of the images that were done before; yield now and then the outcomes of some."""
    if not worker.asked:
        return
    try:
        sources = scan(folder, worker.output.folder, recursive=recursive)
    except OSError:  # the folder is gone: the next start does it
        return
    made, end = [], time.monotonic() + _LATE_S
    for source in sources:
        former = _former(worker, source)
        outcome = None if former is None else _with_extras(worker, former, source)
        if outcome is not None and (outcome.made or outcome.status == FAILED):
            made.append(outcome)
        if time.monotonic() > end:
            yield made
            made, end = [], time.monotonic() + _LATE_S
    yield made


class Batch:
    """Does images, and waits for disks that fail.

    A fault in reading one image leaves the others alone; a fault in writing results holds them all.

    Parameters
    ----------
    worker : Worker
    stop : StopSignal
    """

    def __init__(self, worker: Worker, stop: StopSignal) -> None:
        self._worker = worker
        self._stop = stop
        self._warn = worker.output.warn
        out = worker.output.folder
        self._writing = Backoff(
            f"results cannot be written to {out}", f"results can be written to {out} again", self._warn
        )
        self._tables = Backoff(f"the tables in {out} cannot be written", f"the tables in {out} are written", self._warn)
        self._reading: dict[str, Backoff] = {}

    def work(self, sources: list[Source]) -> Iterator[Outcome]:
        """Do these images; after a fault of the output's disk wait, and leave the rest for the next time.

        To be called without images as well: it then tidies up.
        """
        is_idle = True
        reading = self._reading
        self._reading = {s.image: reading[s.image] for s in sources if s.image in reading}
        for source, following in _with_next(sources):
            if self._stop.stopping:
                return
            # Looked at again, since the scan may be minutes old; a file that was changed has to settle again.
            if self._is_resting(source.image) or source_at(source.path, source.image) != source:
                continue
            notify.alive()
            try:
                if self._worker.former(source, strict=False) is not None:  # by another way that leads to it
                    self._worker.output.leave(source)
                    continue
                outcome = self._worker.process(source, following=following)
            except ReadError as error:
                self._reading_fault(source.image, error)
                continue
            except OSError as error:
                delay_s = self._writing.fault(error)
                self.tidy(is_idle=True)  # which may make the room that is lacking
                self._stop.sleep(delay_s)
                return
            self._writing.passed()
            is_idle = False
            self.tidy(is_idle=False)
            notify.status(
                f"{source.image}: {outcome.reason or in_words(outcome.cells or 0, outcome.cells_in_frame or 0)}"
            )
            if outcome.status != FAILED or os.path.lexists(source.path):
                yield outcome
        if is_idle:
            self.tidy(is_idle=True)

    def tidy_in_s(self) -> float:
        """Return in how many seconds `work` should be called although there are no images."""
        return max(self._worker.output.refresh_in_s(), self._tables.left_s())

    def tidy(self, *, is_idle: bool) -> None:
        """Bring tables up to date, and remove what has been kept for long enough; `work` does so by itself."""
        self._worker.tidy()
        if not self._worker.output.is_open or self._tables.left_s():
            return
        try:
            if self._worker.output.refresh_tables(is_idle=is_idle):
                self._tables.passed()
        except OSError as error:
            self._tables.fault(error)

    def _is_resting(self, image: str) -> bool:
        return image in self._reading and self._reading[image].left_s() > 0

    def _reading_fault(self, image: str, error: OSError) -> None:
        backoff = self._reading.setdefault(image, Backoff(f"{image}: cannot be read", "", self._warn))
        backoff.fault(error)


def _with_next(items: list[_T]) -> Iterator[tuple[_T, _T | None]]:
    """Pair each item with the one after it, the last with None."""
    return zip_longest(items, items[1:])


def _named(path: Path) -> Source | None:
    """The file as it is now; None where there is none."""
    return source_at(path, printable(str(path)))


def _former(worker: Worker, source: Source) -> Outcome | None:
    """Return the outcome of an image that has not changed since; None also where the disk fails."""
    try:
        return worker.former(source, strict=False)
    except OSError:
        return None


def _with_extras(worker: Worker, former: Outcome, source: Source) -> Outcome | None:
    """Return a former outcome after making the extras that were asked for; None where the disk fails."""
    try:
        return worker.with_extras(former, source)
    except OSError:
        return None


def _attempt(worker: Worker, source: Source, following: Source | None, *, spares_done: bool = False) -> Outcome:
    """Do an image, unless it is done and is to be spared; a fault of a disk fails it for this time."""
    try:
        if spares_done:
            former = worker.former(source, strict=True)
            complete = None if former is None else worker.with_extras(former, source)
            if complete is not None and complete.status != FAILED:  # else its files may be damaged
                return complete
            if following is not None and worker.former(following, strict=True) is not None:
                following = None
        outcome = worker.process(source, following=following)
    except ReadError as error:
        reason = f"cannot be read ({error.strerror}): try again"
    except OSError as error:
        reason = f"its results cannot be written ({error.strerror}): make room or fix the disk, then try again"
    else:
        with suppress(OSError):  # closing the folder tries again, and says so
            worker.output.refresh_tables()
        return outcome
    return Outcome(source.image, FAILED, reason=reason)


def open_output(worker: Worker, *, is_patient: bool = False) -> None:
    """Open the output folder at the start.

    Parameters
    ----------
    worker : Worker
    is_patient : bool
        Whether a fault of the disk that may pass is left for later: the folder then stays closed.

    Raises
    ------
    OutputError
        If the folder does not take results.
    """
    output = worker.output
    try:
        output.open()
    except OSError as error:
        if is_patient and may_pass(error):
            return
        raise OutputError(
            f"{output.folder} cannot take results ({error.strerror}): choose another folder with --out"
        ) from None


def note_counts_made_otherwise(worker: Worker) -> None:
    """Warn of counts in the open output folder that this worker would make in another way."""
    output = worker.output
    others = output.ledger.count_made_otherwise(worker.models.counters, worker.models.gate_sha256, worker.settings)
    if others:
        output.warn(
            f"counts made with another model or other settings stay as they are ({others} in {output.folder}): "
            "'watch --once --redo' counts those images again, or use another --out"
        )
