"""One image after the other, from its file to its results on the disk and its row in the ledger."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2

from cellseg_device import accelerator, files, formats, overlay, results, segment
from cellseg_device.accelerator import Accelerated
from cellseg_device.counting import Counting, Counts
from cellseg_device.decoder import Decode, decode_here
from cellseg_device.errors import NO_MEMORY, TRIED_AGAIN, AcceleratorError, CellsegError, ImageError, ModelError
from cellseg_device.image import Image
from cellseg_device.ledger import DONE, FAILED, Entry
from cellseg_device.model import Model
from cellseg_device.output import Output, is_of_these_bytes, result_names, utc
from cellseg_device.renewal import Renewal
from cellseg_device.retention import Retention
from cellseg_device.scan import Source
from cellseg_device.segment import Look, Segmentation, Stopwatch

UNCHANGED = "unchanged"

# Beside a larger image the next one is not begun: both might not fit into a small computer's memory.
_MOST_AHEAD_BYTES = 16_000_000

# The file system's no to the name of a result (on an exFAT stick, say, to a colon): no other try will help.
_BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL)


class ReadError(OSError):
    """The disk or network failed to read an image: it may succeed later."""


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes
    ----------
    image : str
    status : str
        ``"done"``, ``"unchanged"`` (done before; nothing to do) or ``"failed"``.
    cells : int or None
        Number of cells, where there is a result.
    ms : float
        Time from its turn until its results were on the disk; what was done ahead of its turn is not in it.
    labels : str or None
        File name of its label image in the output folder.
    reason : str or None
        Why it failed.
    flags : str
        Why its count may be wrong.
    """

    image: str
    status: str
    cells: int | None = None
    ms: float = 0.0
    labels: str | None = None
    reason: str | None = None
    flags: str = ""


@dataclass(frozen=True)
class _Begun:
    """A decoded image, and what the network says of it, in its thread."""

    source: Source
    sha256: str
    image: Image
    look: Future[Look]


class Worker:
    """Turns images into results.

    Parameters
    ----------
    model : Model or Accelerated
    output : Output
        Opened by the first image, and again after a fault of its disk.
    extras : collection of str
        What to make of every image beside its labels and table: names of `results.EXTRAS`.
    counting : Counting or None
        None for the defaults.
    decode : callable
        Reads and decodes a file: `decoder.decode_here`, or the `decode` of a `decoder.Decoder`.

    Attributes
    ----------
    renewal : Renewal or None
        Where there is one, a new model is taken up when its file has been replaced.
    retention : Retention or None
        Where there is one, what has been kept for long enough is removed by `tidy`.
    """

    def __init__(
        self,
        model: Model | Accelerated,
        output: Output,
        extras: Collection[str] = (),
        counting: Counting | None = None,
        decode: Decode = decode_here,
    ) -> None:
        self.model = model
        self.output = output
        self.extras = extras
        self.counting = counting or Counting()
        self.settings = output.settings = self.counting.key()
        self._decode = decode
        self._ahead: _Begun | None = None
        self._refused: tuple[Source, str] | None = None  # the one begun ahead, and why it is no image
        self._network_thread = ThreadPoolExecutor(1, "cellseg-network")
        self.renewal: Renewal | None = None
        self.retention: Retention | None = None
        self._has_warned_of_size = False

    @property
    def model_sha256(self) -> str:
        """Of the model's file; of a pair, the CPU's."""
        return self.model.sha256

    def tidy(self) -> None:
        """Remove what has been kept for long enough; to be called now and then, whether there is work or not."""
        if self.retention is not None:
            self.retention.tidy()

    def process(self, source: Source, stopwatch: Stopwatch | None = None, following: Source | None = None) -> Outcome:
        """Do one image, and record it as done or, for a fault of its own, as failed.

        Parameters
        ----------
        source : Source
        stopwatch : Stopwatch or None
            Receives the time of each step.
        following : Source or None
            What comes next: it is decoded while the network still runs over this one, and the network goes on to it
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
        self.output.open()
        self.output.check_room()
        self._renew()
        following = following and self.output.as_known(following)
        named = self.output.as_known(source)
        if named != source:
            outcome = self.process(named, stopwatch, following)
            self.output.known[source.image] = (source.size, source.mtime_ns)
            return outcome
        sha256 = None
        try:
            begun = self._taken(source, stopwatch)
            sha256 = begun.sha256
            if following is not None and begun.image.pixels.nbytes <= _MOST_AHEAD_BYTES:
                self._ahead = self._begun_ahead(following)
            stem = self.output.stem_for(source.image)
            with _as_faults_of_the_image():
                seen = begun.look.result()
                result = segment.finish(seen, stopwatch, self.counting)
            with stopwatch.step("write"), _as_faults_of_the_image():
                written = self._write(stem, result, source, sha256, seen.model.accelerator)
                ms = _ms_since(start)
                entry = self._entry(source, sha256, ms, stem=stem, counts=result.counts, files=json.dumps(written))
                self.output.record(entry)
        except ImageError as error:
            if not os.path.lexists(source.path):
                return Outcome(source.image, FAILED, ms=_ms_since(start), reason=error.message)
            if self._has_result(source):
                self.output.known[source.image] = (source.size, source.mtime_ns)
                reason = f"{error.message} (its earlier result stays)"
                return Outcome(source.image, FAILED, ms=_ms_since(start), reason=reason)
            self.output.record(self._entry(source, sha256, _ms_since(start), reason=error.message))
            return Outcome(source.image, FAILED, ms=_ms_since(start), reason=error.message)
        self._warn_of_size(source.image, result.counts)
        return Outcome(
            source.image,
            DONE,
            len(result.cells),
            _ms_since(start),
            stem + results.LABELS,
            flags=result.counts.flags,
        )

    def _has_result(self, source: Source) -> bool:
        """Whether there is a whole result of the image as it is now: what fails then is not the image."""
        entry = self.output.ledger.get(source.image)
        if entry is None or entry.stem is None:
            return False
        if (entry.size, entry.mtime_ns) != (source.size, source.mtime_ns) and not is_of_these_bytes(entry, source):
            return False
        return all((self.output.folder / (entry.stem + suffix)).exists() for suffix in results.ALWAYS)

    def _warn_of_size(self, image: str, counts: Counts) -> None:
        """Say once why there are no cells per mL where they are wanted."""
        if self._has_warned_of_size or self.counting.depth_mm is None or counts.pixel_size_um is not None:
            return
        self._has_warned_of_size = True
        self.output.warn(f"{image} has no pixel size, so --depth-mm gives no cells per mL: give --pixel-size-um, too")

    def _renew(self) -> None:
        """Take up a new model between two images; what was begun with the old one is begun again."""
        model = self.renewal.due() if self.renewal is not None else None
        if model is not None:
            self._ahead = None
            self.model = model

    def _taken(self, source: Source, stopwatch: Stopwatch) -> _Begun:
        """Begin an image, or take it over if it was begun ahead of its turn."""
        ahead, self._ahead = self._ahead, None
        refused, self._refused = self._refused, None
        if refused is not None and refused[0] == source:
            raise ImageError(refused[1])  # not sought anew: it may have taken a minute to find
        return ahead if ahead is not None and ahead.source == source else self._begun(source, stopwatch)

    def _begun(self, source: Source, stopwatch: Stopwatch) -> _Begun:
        """Decode an image here, and have the network run over it in the other thread, after what it has in hand."""
        with _as_faults_of_the_image():
            sha256, image = self._decoded(source.path, stopwatch)
        image = self.counting.applied(image)
        diameter_px = self.counting.diameter_px(image)
        look = self._network_thread.submit(accelerator.look, image, self.model, stopwatch, diameter_px)
        return _Begun(source, sha256, image, look)

    def _decoded(self, path: Path, stopwatch: Stopwatch) -> tuple[str, Image]:
        try:
            with stopwatch.step("decode"):
                return self._decode(path)
        except OSError as error:
            raise ReadError(error.errno, error.strerror) from error

    def _begun_ahead(self, source: Source) -> _Begun | None:
        """Begin the image that is next; one that cannot be read says so in its own turn."""
        try:
            return self._begun(source, Stopwatch())
        except ImageError as error:
            if error.message != NO_MEMORY:  # which there may be when it is alone
                self._refused = (source, error.message)  # with the error itself, its frames would hold images
        except OSError:
            pass
        return None

    def former(self, source: Source, strict: bool) -> Outcome | None:
        """Say what became of an image that has not changed since; None if it is to be done, its files being gone, say.

        Parameters
        ----------
        source : Source
        strict : bool
            Whether only a former result with this model and these settings, and with the extras that this worker
            makes, will do; a failed image is then tried again.

        Raises
        ------
        OSError
            On a fault of the output folder's disk.
        """
        self.output.open()
        source = self.output.as_known(source)
        entry = self.output.ledger.get(source.image)
        if entry is None or (entry.size, entry.mtime_ns) != (source.size, source.mtime_ns):
            return None
        if entry.stem is None or entry.counts is None:
            again = strict or entry.reason in TRIED_AGAIN or (entry.settings or Counting().key()) != self.settings
            return None if again else Outcome(source.image, FAILED, reason=entry.reason)
        wanted = [*results.ALWAYS, *(results.EXTRAS[name] for name in self.extras if strict)]
        whole = all((self.output.folder / (entry.stem + suffix)).exists() for suffix in wanted)
        same = (entry.model_sha256, entry.settings or Counting().key()) == (self.model_sha256, self.settings)
        if not whole or (strict and not same):
            return None
        return Outcome(
            source.image, UNCHANGED, entry.counts.count, labels=entry.stem + results.LABELS, flags=entry.counts.flags
        )

    def _write(
        self, stem: str, result: Segmentation, source: Source, sha256: str, accelerated_by: str
    ) -> dict[str, str]:
        """Write an image's files: those that always are, the extras that are wanted, and those it has from before."""
        folder = self.output.folder
        provenance = results.Provenance(
            Path(source.image).name,
            sha256,
            source.size,
            self.model.card.name,
            self.model_sha256,
            self.settings,
            accelerated_by,
        )
        try:
            had = self._had(stem, self._noted(source.image, stem))
            extras = self._encoded(source.image, result, {*self.extras, *had})
            with files.turn(folder):  # held for moments: an export may wait for it, or just have made another file
                noted = self._noted(source.image, stem)
                missing = {name for name in self._had(stem, noted) if results.EXTRAS[name] not in extras}
                extras |= self._encoded(source.image, result, missing)
                results.check_free(folder, stem, extras, noted)
                # First, so that what a killed process leaves is known for ours
                self.output.ledger.announce(source.image, {stem + suffix for suffix in extras} - set(noted))
                return results.write(folder, stem, result, provenance, extras)
        except OSError as error:
            if error.errno in _BAD_NAME:
                raise ImageError(f"its results cannot be named after it ({error.strerror}): rename it") from None
            self.output.close()
            raise

    def _noted(self, image: str, stem: str) -> list[str]:
        """Names of this stem's files, as far as they are ours: those in the ledger, or all of an image that it lost."""
        former = self.output.ledger.get(image)
        if former is not None and former.stem == stem:
            return result_names(former)
        return [stem + s for s in results.SUFFIXES] if results.are_ours(self.output.folder, stem) else []

    def _had(self, stem: str, noted: Collection[str]) -> list[str]:
        """The extras, by name, that an image has from before: those of the noted files that are there."""
        there = {name for name in noted if (self.output.folder / name).exists()}
        return [name for name, suffix in results.EXTRAS.items() if stem + suffix in there]

    def _encoded(self, image: str, result: Segmentation, wanted: Collection[str]) -> dict[str, bytes]:
        """Make the extras of these names, by suffix."""
        names = [name for name in formats.FORMATS if name in wanted]
        extras = {}
        if names:
            content = formats.Content(image, result.labels, results.cells_csv(result.cells))
            extras = {formats.FORMATS[name].suffix: formats.FORMATS[name].encode(content) for name in names}
        if "overlay" in wanted:
            card = self.model.card
            picture = overlay.draw(result.image, result.labels, card.low_percentile, card.high_percentile)
            extras[results.OVERLAY] = overlay.encode(picture)
        return extras

    def _entry(
        self,
        source: Source,
        sha256: str | None,
        ms: float,
        stem: str | None = None,
        counts: Counts | None = None,
        files: str | None = None,
        reason: str | None = None,
    ) -> Entry:
        return Entry(
            image=source.image,
            size=source.size,
            mtime_ns=source.mtime_ns,
            sha256=sha256,
            status=FAILED if counts is None else DONE,
            reason=reason,
            stem=stem,
            model=self.model.card.name,
            model_sha256=self.model_sha256,
            recorded_at=utc(time.time_ns()),
            total_ms=ms,
            settings=self.settings,
            files=files,
            counts=counts,
        )


@contextmanager
def _as_faults_of_the_image() -> Iterator[None]:
    """Turn a lack of memory, what the model cannot do with an image, and a bug of ours, into a fault of the image.

    A bug is met again at every start: it must not keep the images behind this one from being counted.
    """
    try:
        yield
    except AcceleratorError:
        raise
    except ModelError as error:
        raise ImageError(error.message) from None
    except MemoryError:
        raise ImageError(NO_MEMORY) from None
    except cv2.error as error:
        raise ImageError(NO_MEMORY if error.code == cv2.Error.StsNoMem else _bug(error)) from error
    except (CellsegError, OSError):
        raise
    except Exception as error:
        raise ImageError(_bug(error)) from error


def _bug(error: Exception) -> str:
    said = " ".join(str(error).split())[:120]
    return f"makes cellseg fail ({type(error).__name__}: {said}): report it with this image"


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e3
