"""The work on one image's correction: begun, edited, undone, checked; each step is on the disk before it counts.

Several processes may work on one image, such as two pages, or a page and a command: who comes with an old revision gets
a `ConflictError`, reads the image anew, and loses nothing. After a kill the journal has all that was acknowledged.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.cells import patch
from cellseg_device.cells.counting import Counting
from cellseg_device.cells.patch import Patch
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.results import corrected_labels, correction_journal, corrections, export, image_files
from cellseg_device.results.corrected_labels import CorrectedProvenance
from cellseg_device.results.correction_journal import CHECKED, LEFT_OUT, Journal, Line
from cellseg_device.results.corrections import BEGUN, Correction
from cellseg_device.results.entry import LABELS, Entry
from cellseg_device.results.tables import utc
from cellseg_device.system import files

Labels = npt.NDArray[np.uint16]

MOST_NAME = 100  # characters of who corrects


class ConflictError(InputError):
    """The image was corrected elsewhere meanwhile: it is to be loaded again."""


class Work:
    """The correction of one image, as it is on the disk.

    Parameters
    ----------
    out : Path
        The output folder.
    entry : Entry
        Of the image in the ledger; it was counted.
    image : Image
        From `Counting.applied`, as that of `export.subject` is.
    counting : Counting
        The settings by which the image was counted.

    Attributes
    ----------
    labels : ndarray of uint16, shape (height, width)
        The corrected labels, or the machine's while there is no correction.
    tally : Tally
        How many of their cells count.

    Raises
    ------
    ImageError, InputError
        If the machine's labels or the correction are not as they were written; or that is `corrections.STALE`.
    OSError
        On a fault of the disk.
    """

    def __init__(self, out: Path, entry: Entry, image: Image, counting: Counting) -> None:
        assert entry.stem is not None, "it was counted"
        assert entry.counts is not None, "it was counted"
        self.out, self.entry, self.image, self.counting = out, entry, image, counting
        self._stem, self._counts = entry.stem, entry.counts
        self._path = corrections.journal_path(out, entry.stem)
        self._journal = correction_journal.read(self._path)
        self._saved = 0  # revision of the label image
        if not self._journal.lines:
            self.labels = export.stored(out, entry).labels.copy()
        else:
            if not _is_of(self._journal, entry):
                raise InputError("the image was replaced since its correction began: begin that anew")
            self.labels = corrected_labels.joined(out, entry.stem, self._journal)
        if self.labels.shape != image.shape:
            raise ImageError("has another size than its labels: count it again")
        self.tally = corrected_labels.tally(self.labels, image, counting)

    @property
    def revision(self) -> int:
        """Number of steps in the journal; 0 without a correction."""
        return self._journal.revision

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return bool(self._journal.done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone edit."""
        return bool(self._journal.undone)

    @property
    def state(self) -> str:
        """Of `corrections.STATES`; "" without a correction."""
        return self._journal.state

    def is_current(self) -> bool:
        """Whether nobody else has written the journal since."""
        try:
            size = self._path.lstat().st_size
        except FileNotFoundError:
            size = 0
        return size == self._journal.found_size

    def edit(
        self,
        what: str,
        change: Callable[[Labels], Patch | None],
        *,
        given: dict[str, Any] | None = None,
        by: str = "",
        revision: int | None = None,
    ) -> Patch:
        """Edit the labels, and return what changed.

        Parameters
        ----------
        what : str
            Name of the edit.
        change : callable
            Changes labels in place, and returns the patch, as those of `edits` do.
        given : dict or None
            What was asked for, to be noted.
        by : str
            Who does it; empty if unknown.
        revision : int or None
            That of the labels which this person has seen; None for those that are here.

        Raises
        ------
        InputError
            If the edit cannot be made; nothing has changed then. `ConflictError` if somebody else was faster.
        OSError
            If the disk refuses; nothing has changed then.
        """
        self._check(revision)
        made = change(self.labels)
        if made is None:
            raise InputError("that changes nothing: no pixel would get another cell")
        try:
            tally = corrected_labels.tally(self.labels, self.image, self.counting)
            line = {"what": what, **({"given": given} if given else {}), **made.as_json()}
            self._note(line, by)
        except BaseException:
            made.apply(self.labels)
            raise
        self.tally = tally
        return made

    def undo(self, *, by: str = "", revision: int | None = None) -> Patch:
        """Undo the last edit that holds, and return what changed; raises as `edit` does."""
        return self._stepped(correction_journal.UNDO, by, revision)

    def redo(self, *, by: str = "", revision: int | None = None) -> Patch:
        """Make the last edit again that was undone, and return what changed; raises as `edit` does."""
        return self._stepped(correction_journal.REDO, by, revision)

    def _stepped(self, what: str, by: str, revision: int | None) -> Patch:
        self._check(revision)
        steps = self._journal.done if what == correction_journal.UNDO else self._journal.undone
        if not steps:
            raise InputError(f"there is nothing to {what}: edit first")
        step = patch.parse(self._journal.lines[steps[-1]])
        step.apply(self.labels)
        try:
            tally = corrected_labels.tally(self.labels, self.image, self.counting)
            self._note({"what": what}, by)
        except BaseException:
            step.apply(self.labels)
            raise
        self.tally = tally
        return step

    def mark(self, state: str, *, by: str = "", revision: int | None = None) -> None:
        """Mark the labels as checked, the image as left out, or take either back; begins a correction if there is none.

        Parameters
        ----------
        state : str
            Of `corrections.STATES`.
        by, revision
            As for `edit`.

        Raises
        ------
        InputError, OSError
            As from `edit`. After an OSError the labels are as they were, and the mark may be on the disk or not.
        """
        self._check(revision)
        words = {BEGUN: correction_journal.TAKEN_BACK, CHECKED: CHECKED, LEFT_OUT: LEFT_OUT}
        with corrections.writing(self.out) as folder:
            self._check_is_current()
            self._begin(folder)
            self._save(folder)
            self._append({"what": words[state]}, by)
            self._put_row(folder, state, by)

    def save(self) -> None:
        """Bring the label image, the table of its cells and the row up to date with the journal.

        Does nothing without a correction, or if somebody else has gone on with it.

        Raises
        ------
        OSError
            If the disk refuses; nothing is lost, since the journal has all.
        """
        if not self._journal.lines or self._saved == self.revision:
            return
        with corrections.writing(self.out) as folder:
            if not self.is_current():
                return
            row = corrections.read(self.out).get(self.entry.image)
            # A row is of a label image that was written before: what was counted again since keeps its count and table
            if row is None or row.revision != self.revision or not self._cells_path(folder).exists():
                self._save(folder)
                self._put_row(folder, self._journal.state, str(self._journal.lines[-1].get("by", "")))

    def _check(self, revision: int | None) -> None:
        if revision is not None and revision != self.revision:
            raise _conflict()

    def _check_is_current(self) -> None:
        if not self.is_current():
            raise _conflict()

    def _note(self, line: Line, by: str) -> None:
        """Append a line to the journal, which is begun if there is none; what was checked then is no more."""
        with corrections.writing(self.out) as folder:
            self._check_is_current()
            self._begin(folder)
            # First: a count that is no longer that of the labels must not be used
            if self.state != BEGUN:
                self._put_row(folder, BEGUN, by)
            self._append(line, by)

    def _begin(self, folder: Path) -> None:
        """Write the labels that the correction begins from, and the journal's first line, if there is none."""
        if self._journal.lines:
            return
        path = folder / f"{self._stem}{LABELS}"
        if path.exists() and not _is_ours(path):
            raise OSError(
                errno.EEXIST, f"{path.name}, which cellseg did not make, is in the way: move it away", str(path)
            )
        # Not `self.labels`, which may have the first edit already
        began_from = export.stored(self.out, self.entry).labels
        sha256 = self.entry.digests().get(f"{self._stem}{LABELS}", "")
        data = corrected_labels.label_bytes(began_from, self.image.pixel_size_um, self._provenance(sha256, 1))
        files.write(path, data)
        self._journal = correction_journal.append(
            self._path,
            self._journal,
            {
                "what": correction_journal.BEGIN,
                "at": utc(time.time_ns()),
                "format": correction_journal.FORMAT,
                "image": self.entry.image,
                "image_sha256": self.entry.sha256,
                "labels_sha256": sha256,
            },
        )
        self._saved = 1
        self._put_row(folder, BEGUN, "", counts=(self._counts.count, self._counts.count_in_frame))

    def _append(self, line: Line, by: str) -> None:
        named = {"by": name} if (name := _name(by)) else {}
        stamped = {"what": line["what"], "at": utc(time.time_ns()), **named, **line}
        self._journal = correction_journal.append(self._path, self._journal, stamped)

    def _save(self, folder: Path) -> None:
        if self._saved == self.revision and self._cells_path(folder).exists():
            return
        selection = corrected_labels.counted(self.labels, self.image, self.counting)
        provenance = self._provenance(str(self._journal.lines[0].get("labels_sha256", "")), self.revision)
        corrected_labels.save(folder, self._stem, self.labels, selection, provenance, self.image.pixel_size_um)
        self._saved = self.revision

    def _cells_path(self, folder: Path) -> Path:
        return folder / f"{self._stem}{image_files.CELLS}"

    def _provenance(self, labels_sha256: str, revision: int) -> CorrectedProvenance:
        entry = self.entry
        return CorrectedProvenance(
            image=Path(entry.image).name,
            image_sha256=entry.sha256 or "",
            image_bytes=entry.size,
            model=entry.model,
            model_sha256=entry.model_sha256,
            settings=entry.settings or "{}",
            gate_sha256=entry.gate_sha256,
            labels_sha256=labels_sha256,
            revision=revision,
        )

    def _put_row(self, folder: Path, state: str, by: str, *, counts: tuple[int, int] | None = None) -> None:
        rows = corrections.read(self.out)
        former = rows.get(self.entry.image)
        in_force = former is not None and former.labels_sha256 == self._journal.lines[0].get("labels_sha256")
        rows[self.entry.image] = Correction(
            image=self.entry.image,
            stem=self._stem,
            count=former.count if former is not None and in_force else self._counts.count,
            corrected_count=counts[0] if counts else self.tally.count,
            count_in_frame=former.count_in_frame if former is not None and in_force else self._counts.count_in_frame,
            corrected_in_frame=counts[1] if counts else self.tally.in_frame,
            state=state,
            checked_at="" if state == BEGUN else utc(time.time_ns()),
            by=_name(by),
            image_sha256=self.entry.sha256 or "",
            labels_sha256=str(self._journal.lines[0].get("labels_sha256", "")),
            revision=self.revision,
        )
        corrections.put(folder, rows)


def is_of_former_image(out: Path, entry: Entry) -> bool:
    """Return whether an image was replaced since the correction began that has its name; raises as `Work` does."""
    assert entry.stem is not None, "it was counted"
    journal = correction_journal.read(corrections.journal_path(out, entry.stem))
    return bool(journal.lines) and not _is_of(journal, entry)


def begin_anew(out: Path, entry: Entry) -> list[str]:
    """Set the correction of a former image aside, so that another can begin, and return the names of the files kept.

    Raises
    ------
    ConflictError
        If there is one of the image as it is now: somebody else has begun it.
    InputError, OSError
        As from `corrections.read`, `correction_journal.read` and `corrections.writing`.
    """
    assert entry.stem is not None, "it was counted"
    with corrections.writing(out) as folder:
        journal = correction_journal.read(corrections.journal_path(out, entry.stem))
        if journal.lines and _is_of(journal, entry):
            raise _conflict()
        kept = corrections.set_aside(out, entry.stem)
        rows = corrections.read(out)
        if rows.pop(entry.image, None) is not None:
            corrections.put(folder, rows)
    return kept


def _is_of(journal: Journal, entry: Entry) -> bool:
    return journal.lines[0].get("image_sha256") == entry.sha256


def _is_ours(path: Path) -> bool:
    try:
        return files.is_regular(path) and "labels_sha256" in image_files.read_facts(path)
    except ImageError:
        return False


def _name(by: str) -> str:
    """Return who corrects, in one line of characters that are shown."""
    return "".join(character for character in " ".join(by.split()) if character.isprintable())[:MOST_NAME]


def _conflict() -> ConflictError:
    return ConflictError("this image was corrected elsewhere meanwhile: load it again")
