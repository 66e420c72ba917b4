"""Saving the results of one image: its files, then its row, in one call."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cellseg_device.cells.counting import Counting
from cellseg_device.cells.counts import Counts
from cellseg_device.errors import ImageError
from cellseg_device.image.source import Source
from cellseg_device.pipeline.models import Choice
from cellseg_device.pipeline.segment import Segmentation
from cellseg_device.results import formats, image_files, overlay
from cellseg_device.results.capture_names import capture_time
from cellseg_device.results.entry import DONE, FAILED, Entry
from cellseg_device.results.folder import Output, result_names
from cellseg_device.results.tables import utc
from cellseg_device.system import files

# The file system refuses the name of a result (on an exFAT stick, a colon): trying again does not help.
_BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL)
_MOST_BESIDE_PX = 4_000_000  # of an image whose picture is made beside its other files


@dataclass(frozen=True)
class Attempt:
    """An image that is being done, and with what.

    Attributes
    ----------
    source : Source
    sha256 : str or None
        Of its file; None where that could not be read.
    choice : Choice
    start : float
        When its turn began, by `time.perf_counter`.
    """

    source: Source
    sha256: str | None
    choice: Choice
    start: float

    @property
    def gate_sha256(self) -> str | None:
        """Digest of the gate."""
        return None if self.choice.gate is None else self.choice.gate.sha256


class Saver:
    """Saves results in an output folder.

    Parameters
    ----------
    output : Output
    counting : Counting
    extras : collection of str
        What to make of every image beside its labels and table of cells: names of `image_files.EXTRAS`.
    """

    def __init__(self, output: Output, counting: Counting, extras: Collection[str] = ()) -> None:
        self._output = output
        self._frame = counting.frame
        self._settings = counting.key()
        self._extras = extras
        # It makes pictures while the labels are written, since disks keep one waiting. There is one for all images: a
        # new one would have to load the font again.
        self._thread = ThreadPoolExecutor(1, "cellseg-picture")

    def close(self) -> None:
        """End the thread that makes pictures."""
        self._thread.shutdown(cancel_futures=True)

    def save(self, attempt: Attempt, result: Segmentation, *, accelerator: str) -> Entry:
        """Write an image's files, record it as done, and return its entry in the ledger.

        The extras that the image has from before are made again as well.

        Parameters
        ----------
        attempt : Attempt
        result : Segmentation
        accelerator : str
            What the network ran on: ``"cpu"`` or ``"edgetpu"``.

        Raises
        ------
        ImageError
            If the names of its files are taken, too long, or refused by the file system.
        OSError
            On a fault of the disk; the output folder is then closed, and nothing is recorded.
        """
        stem = self._output.stem_for(attempt.source.image)
        former = self._output.renamed_from(attempt.source, attempt.sha256)
        try:
            digests = self._write(stem, attempt, result, accelerator, former)
        except OSError as error:
            if error.errno in _BAD_NAME:
                raise ImageError(f"its results cannot be named after it ({error.strerror}): rename it") from None
            self._output.release()
            raise
        counts = _dated(result.counts, attempt.source.image)
        return self._record(attempt, stem=stem, counts=counts, files=json.dumps(digests), former=former)

    def save_failure(self, attempt: Attempt, reason: str) -> Entry:
        """Record an image as failed, and return its entry in the ledger."""
        return self._record(attempt, reason=reason)

    def _write(
        self, stem: str, attempt: Attempt, result: Segmentation, accelerator: str, former: Entry | None
    ) -> dict[str, str]:
        """Write the files; returns their digests by name."""
        folder, ledger, image = self._output.folder, self._output.ledger, attempt.source.image
        provenance = image_files.Provenance(
            Path(image).name,
            attempt.sha256 or "",
            attempt.source.size,
            attempt.choice.counter.card.name,
            attempt.choice.counter.sha256,
            self._settings,
            accelerator,
            attempt.gate_sha256,
        )
        had = self._had(stem, self._noted(image, stem))
        if former is not None and former.stem is not None:
            had += self._had(former.stem, result_names(former))
        make = partial(encoded, image, result, self._frame, thread=self._thread)
        extras = make({*self._extras, *had})
        # Held for moments, since an export may wait for it; one may also have made another file just before
        with files.write_lock(folder):
            noted = self._noted(image, stem)
            extras |= make({name for name in self._had(stem, noted) if image_files.EXTRAS[name] not in extras})
            image_files.check_free(folder, stem, extras, noted)
            names = [stem + suffix for suffix in (*image_files.ALWAYS, *extras)]
            # So that what a killed process leaves is known to be ours, and not taken for a result
            return image_files.write(
                folder,
                stem,
                result,
                provenance,
                extras,
                before_renames=lambda: ledger.announce(image, names),
            )

    def _noted(self, image: str, stem: str) -> list[str]:
        """Names of this stem's files that are ours: those in the ledger, or all of an image that it lost."""
        ledger = self._output.ledger
        entry = ledger.get(image)
        noted = result_names(entry) if entry is not None and entry.stem == stem else []
        noted += [name for name in ledger.announced(image) if name.startswith(stem)]
        if not noted and image_files.are_ours(self._output.folder, stem):
            return [stem + suffix for suffix in image_files.SUFFIXES]
        return noted

    def _had(self, stem: str, noted: Collection[str]) -> list[str]:
        """The extras, by name, that an image has from before: those of the noted files that exist."""
        there = {name for name in noted if (self._output.folder / name).exists()}
        return [name for name, suffix in image_files.EXTRAS.items() if stem + suffix in there]

    def _record(
        self,
        attempt: Attempt,
        *,
        stem: str | None = None,
        counts: Counts | None = None,
        files: str | None = None,
        reason: str | None = None,
        former: Entry | None = None,
    ) -> Entry:
        entry = Entry(
            image=attempt.source.image,
            size=attempt.source.size,
            mtime_ns=attempt.source.mtime_ns,
            sha256=attempt.sha256,
            status=FAILED if counts is None else DONE,
            reason=reason,
            stem=stem,
            model=attempt.choice.counter.card.name,
            model_sha256=attempt.choice.counter.sha256,
            recorded_at=utc(time.time_ns()),
            total_ms=(time.perf_counter() - attempt.start) * 1e3,
            settings=self._settings,
            files=files,
            counts=counts,
            place=self._output.place(attempt.source),
            gate_sha256=attempt.gate_sha256,
        )
        self._output.record(entry, former=former)
        return entry


def _dated(counts: Counts, image: str) -> Counts:
    """Return the counts of an image with the time at which the camera took it, where that is in its name."""
    taken = capture_time(Path(image).name)
    return counts if taken is None else replace(counts, captured_at=taken.at, captured_from=taken.source)


def encoded(
    image: str, result: Segmentation, frame: tuple[str, ...], wanted: Collection[str], *, thread: Executor
) -> dict[str, image_files.Content]:
    """Make the extras of these names; returns what gives each file's content, by suffix.

    A picture is made in another thread beside the other files; of a large image when it is asked for, since the memory
    would be that of both.

    Parameters
    ----------
    image : str
        Its name in the ledger.
    result : Segmentation
    frame : tuple of str
        As in `Counting`.
    wanted : collection of str
        Names of `image_files.EXTRAS`.
    thread : Executor
    """
    subject = overlay.Subject(result.image, result.labels, result.counts, frame, result.found)
    extras: dict[str, image_files.Content] = {}
    for name, suffix in image_files.PICTURES.items():
        if name in wanted:
            make = partial(overlay.make, subject, is_numbered=name == image_files.NUMBERS)
            extras[suffix] = make if result.labels.size > _MOST_BESIDE_PX else thread.submit(make).result
    names = [name for name in formats.FORMATS if name in wanted]
    if names:
        content = formats.Content(image, result.labels, image_files.cells_csv(result.cells))
        for form in (formats.FORMATS[name] for name in names):
            extras[form.suffix] = partial(bytes, form.encode(content))
    return extras
