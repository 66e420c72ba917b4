"""One image after the other, from its file to its results on the disk and its row in the ledger."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from cellseg_device.cells.counting import Counting
from cellseg_device.cells.counts import Counts
from cellseg_device.errors import KILLS, TRIED_AGAIN, ImageError
from cellseg_device.image.sandbox import Decode, decode_here
from cellseg_device.image.source import Source
from cellseg_device.pipeline import segment
from cellseg_device.pipeline.models import Choice, Models
from cellseg_device.pipeline.renewal import Renewal
from cellseg_device.pipeline.stopwatch import Stopwatch
from cellseg_device.results import image_files
from cellseg_device.results.entry import DONE, FAILED, Entry
from cellseg_device.results.export import Originals, export
from cellseg_device.results.folder import Output
from cellseg_device.results.retention import Retention
from cellseg_device.results.save import Attempt, Saver
from cellseg_device.watching.faults import as_image_faults
from cellseg_device.watching.outcome import UNCHANGED, Outcome
from cellseg_device.watching.prefetch import Prefetcher

_MOST_KILLS = 2  # of processes that had an image in hand, before it is passed over


class Worker:
    """Turns images into results.

    Parameters
    ----------
    models : Models
    output : Output
        Opened by the first image, and again after a fault of its disk.
    counting : Counting or None
        None for the defaults.
    extras : collection of str
        What to make of every image beside its labels and table: names of `image_files.EXTRAS`.
    asked : collection of str
        Those of `extras` that `with_extras` makes of images that were counted before.
    decode : callable
        Reads and decodes a file: `sandbox.decode_here`, or the `decode` of a `sandbox.Decoder`.
    renewal : Renewal or None
        Where there is one, a new model is taken up when its file has been replaced.
    retention : Retention or None
        Where there is one, `tidy` removes what has been kept for long enough.

    Attributes
    ----------
    models, output
        As given; the models after a renewal are the new ones.
    asked
        As given.
    settings : str
        `counting.Counting.key` of what is done.
    """

    def __init__(
        self,
        models: Models,
        output: Output,
        *,
        counting: Counting | None = None,
        extras: Collection[str] = (),
        asked: Collection[str] = (),
        decode: Decode = decode_here,
        renewal: Renewal | None = None,
        retention: Retention | None = None,
    ) -> None:
        self.models = models
        self.output = output
        self._counting = counting or Counting()
        self.settings = self._counting.key()
        self.asked = asked
        self._decode = decode
        self._renewal = renewal
        self._retention = retention
        self._prefetcher = Prefetcher(self._counting, decode, extras)
        self._saver = Saver(output, self._counting, extras)
        self._has_warned_of_size = False

    def close(self) -> None:
        """End the threads; the output stays as it is."""
        self._prefetcher.close()
        self._saver.close()

    def tidy(self) -> None:
        """Remove what has been kept for long enough; to be called now and then, whether there is work or not."""
        if self._retention is not None:
            self._retention.tidy()

    def process(
        self, source: Source, stopwatch: Stopwatch | None = None, *, following: Source | None = None
    ) -> Outcome:
        """Do one image, and record it as done or, for a fault of its own, as failed.

        Parameters
        ----------
        source : Source
        stopwatch : Stopwatch or None
            Receives the time of each step.
        following : Source or None
            The next image. It is decoded while the network still runs over this one, and the network goes on to it
            while the cells of this one are separated, measured and written.

        Raises
        ------
        ReadError
            If it could not be read now; nothing is recorded.
        OSError
            If its results could not be written now; nothing is recorded.
        AcceleratorError
            If it takes an Edge TPU and that fails; nothing is recorded.
        """
        start = time.perf_counter()
        stopwatch = stopwatch or Stopwatch()
        named = self.output.admit(source)
        self._renew()
        attempt = Attempt(named, None, Choice(self.models.default, self.models.gate), start)
        try:
            following = self._take_in_hand(named, following)
            begun = self._prefetcher.take(source, self.models, stopwatch, following=following)
            attempt = replace(attempt, sha256=begun.sha256, choice=begun.choice)
            with as_image_faults():
                prediction = begun.prediction.result()
                result = segment.finish(prediction, stopwatch, self._counting, begun.choice.verdict)
            with stopwatch.step("write"), as_image_faults():
                entry = self._saver.save(attempt, result, accelerator=prediction.model.accelerator)
        except ImageError as error:
            return self._failed(source, attempt, error.message)
        except OSError:
            if self.output.is_open:
                with suppress(OSError):
                    self.output.take_in_hand()
            raise
        self.output.leave(source)
        self._warn_of_size(named.image, result.counts)
        return _outcome(entry, result.counts, DONE, _ms_since(start))

    def _take_in_hand(self, source: Source, following: Source | None) -> Source | None:
        """Note what is in hand now; returns the following image, or None where one of both has to be done alone.

        An image that had a process killed is done alone, so that it is known which one it was if that happens again.

        Raises
        ------
        ImageError
            If two processes were killed while they had this image in hand.
        """
        kills = self.output.kills(source)
        if kills >= _MOST_KILLS:
            raise ImageError(KILLS)
        in_hand = [source]
        if following is not None:
            named = self.output.as_known(following)
            if kills or self.output.kills(named):
                following = None
            else:
                in_hand.append(named)
        self.output.take_in_hand(*in_hand)
        return following

    def _failed(self, source: Source, attempt: Attempt, reason: str) -> Outcome:
        """Record a failure, unless the file is gone or has a whole result: then it is not the image that fails."""
        image = attempt.source.image
        if not os.path.lexists(source.path):
            return Outcome(image, FAILED, ms=_ms_since(attempt.start), reason=reason)
        if self.output.has_result_of(attempt.source):
            self.output.leave(attempt.source)
            reason = f"{reason} (its earlier result stays)"
        else:
            self._saver.save_failure(attempt, reason)
        self.output.leave(source)
        return Outcome(image, FAILED, ms=_ms_since(attempt.start), reason=reason)

    def former(self, source: Source, *, strict: bool) -> Outcome | None:
        """Return the outcome of an image that has not changed since; None if it has to be done (again).

        Parameters
        ----------
        source : Source
        strict : bool
            Whether only a former result with these models, this gate and these settings will do; a failed image is then
            tried again.

        Raises
        ------
        OSError
            On a fault of the output folder's disk.
        """
        self.output.open()
        source = self.output.as_known(source)
        entry = self.output.ledger.get(source.image)
        is_same_file = entry is not None and (entry.size, entry.mtime_ns) == (source.size, source.mtime_ns)
        if entry is None or not is_same_file or self.output.ledger.announced(source.image):
            return None
        has_same_settings = (entry.settings or Counting().key()) == self.settings
        if entry.stem is None or entry.counts is None:
            may_pass = entry.reason is not None and entry.reason.startswith(TRIED_AGAIN)
            is_tried_again = strict or may_pass or not has_same_settings
            return None if is_tried_again else Outcome(source.image, FAILED, reason=entry.reason)
        is_same = has_same_settings and self.models.have_made(
            entry.counts.class_name, entry.model_sha256, entry.gate_sha256
        )
        if (strict and not is_same) or not self.output.has_files(entry.stem):
            return None
        return _outcome(entry, entry.counts, UNCHANGED)

    def with_extras(self, former: Outcome, source: Source) -> Outcome:
        """Return a former outcome, after making of its result what was asked for and is not there.

        Nothing is counted again. A picture that would be removed at once, for its age, is not made.

        Parameters
        ----------
        former : Outcome
            From `former`.
        source : Source
            The image.

        Returns
        -------
        Outcome
            As given, but with the names of what was made; a failure where that could not be.
        """
        entry = self.output.ledger.get(former.image) if self.asked and former.status == UNCHANGED else None
        if entry is None:
            return former
        is_old = self._retention is not None and self._retention.is_due(entry)
        wanted = [name for name in self.asked if not (is_old and name in image_files.PICTURES)]
        originals = Originals(lambda _entry: [source.path], self._decode)
        exported = export(self.output.folder, self.output.ledger, entry, tuple(wanted), originals=originals)
        if exported.reason is not None:
            return Outcome(former.image, FAILED, reason=exported.reason)
        return replace(former, made=exported.made)

    def _renew(self) -> None:
        """Take up a new model between two images; what was begun with the old one is begun again."""
        models = self._renewal.due() if self._renewal is not None else None
        if models is not None:
            self.models = models

    def _warn_of_size(self, image: str, counts: Counts) -> None:
        """Say once why there are no cells per mL although a depth is given."""
        if self._has_warned_of_size or self._counting.depth_mm is None or counts.pixel_size_um is not None:
            return
        self._has_warned_of_size = True
        self.output.warn(f"{image} has no pixel size, so --depth-mm gives no cells per mL: give --pixel-size-um, too")


def _outcome(entry: Entry, counts: Counts, status: str, ms: float = 0.0) -> Outcome:
    """Return the outcome of an image that has a result."""
    return Outcome(
        entry.image,
        status,
        counts.count,
        ms,
        f"{entry.stem}{image_files.LABELS}",
        flags=counts.flags,
        cells_in_frame=counts.count_in_frame,
        surround=counts.surround,
        class_name=counts.class_name,
        class_probability=counts.class_probability,
    )


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
