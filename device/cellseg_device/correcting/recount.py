"""Labels that were corrected in other programs, taken into the store of corrections, an image at a time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.counting import parse_key
from cellseg_device.cells.pieces import pieces_of
from cellseg_device.correcting import edits
from cellseg_device.correcting.numbering import Renumbered, renumbered
from cellseg_device.correcting.work import Work
from cellseg_device.errors import NO_MEMORY, CellsegError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.results import export
from cellseg_device.results.correction_faults import note_of_pieces
from cellseg_device.results.correction_journal import CHECKED
from cellseg_device.results.entry import Entry
from cellseg_device.results.export import Originals
from cellseg_device.results.formats import outline_files
from cellseg_device.results.formats.label_images import Labels, consecutive

EDIT = "recount"
# What programs add to an image's name, the longest first
_ENDINGS = (".labels", "_cp_masks", "_rois", ".rois", "_seg", "_masks", "_labels", "-labels")
_LISTED = 3


@dataclass(frozen=True)
class Recounted:
    """What came of one file.

    Attributes
    ----------
    file : str
    image : str or None
        Name of the image that it is of; None if there is none.
    count, count_in_frame : int or None
        By the machine.
    former_count : int or None
        Of the correction that there was before; None if there was none.
    corrected_count, corrected_in_frame : int or None
        None if it was refused.
    added, removed, changed : int
        Cells that are new, gone, or have other pixels, compared with what there was before.
    notes : tuple of str
        What should be said of it.
    reason : str or None
        Why it was refused.
    """

    file: str
    image: str | None = None
    count: int | None = None
    count_in_frame: int | None = None
    former_count: int | None = None
    corrected_count: int | None = None
    corrected_in_frame: int | None = None
    added: int = 0
    removed: int = 0
    changed: int = 0
    notes: tuple[str, ...] = ()
    reason: str | None = None


def stems_of(path: Path) -> list[str]:
    """Return the names, without ending, that the image of a file may have: as it is, and without what programs add."""
    stem = path.stem
    shorter = [stem.removesuffix(ending) for ending in _ENDINGS if stem.endswith(ending)]
    return [stem, *[name for name in shorter if name]]


def image_of(path: Path, entries: Collection[Entry]) -> Entry:
    """Return the counted image that a file of labels is named after: after its result, or after the image file.

    Raises
    ------
    InputError
        If it is none, or could be several.
    """
    for stem in stems_of(path):
        found = [e for e in entries if stem in (e.stem, Path(e.image).stem, Path(e.image).name)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(entry.image for entry in found[:_LISTED]) + (", …" if len(found) > _LISTED else "")
            raise InputError(f"could be of {names}: say which with --image")
    raise InputError(
        "is named after no image that was counted: give it the name of its image, or name that with --image"
    )


def recount(out: Path, path: Path, entry: Entry, originals: Originals, *, by: str = "") -> Recounted:
    """Take the labels in a file for those of an image, as checked, and return what changed.

    Parameters
    ----------
    out : Path
        The output folder.
    path : Path
        Label image, ROIs or GeoJSON: `outline_files.read`.
    entry : Entry
        Of the image, which was counted.
    originals : Originals
        The image is needed, to measure its cells.
    by : str
        Who corrected it; empty if unknown.
    """
    assert entry.counts is not None, "it was counted"
    asked = Recounted(str(path), entry.image, entry.counts.count, entry.counts.count_in_frame)
    try:
        return _recounted(asked, out, entry, originals, by=by)
    except CellsegError as error:
        reason = error.message.removeprefix(f"{path}: ")
    except MemoryError:
        reason = NO_MEMORY
    except OSError as error:
        reason = f"cannot be read or written ({error.strerror}): make room or fix the disk, then try again"
    return Recounted(asked.file, asked.image, asked.count, asked.count_in_frame, reason=reason)


def _recounted(asked: Recounted, out: Path, entry: Entry, originals: Originals, *, by: str) -> Recounted:
    counts, path = entry.counts, Path(asked.file)
    assert counts is not None, "it was counted"
    drawn = outline_files.read(path, (counts.height_px, counts.width_px))
    notes = list(drawn.notes)
    stored = export.stored(out, entry)
    subject = export.subject(entry, stored.labels, originals)
    counting = parse_key(entry.settings or "{}")
    work = Work(out, entry, subject.image, counting)
    former = work.tally.count if work.revision else None
    inside, outside_px = _inside(drawn.labels, subject.image)
    if outside_px:
        notes.append(f"{outside_px:,} px outside of the region in which cells are counted were left out")
    made = renumbered(inside, work.labels)
    if note := note_of_pieces({path.name: _pieces(made)}):
        notes.append(note)
    if made.added or made.changed or made.removed:
        work.edit(EDIT, lambda there: edits.replace(there, made.labels), given={"file": path.name}, by=by)
    work.mark(CHECKED, by=by)
    return Recounted(
        asked.file,
        asked.image,
        asked.count,
        asked.count_in_frame,
        former,
        work.tally.count,
        work.tally.in_frame,
        len(made.added),
        made.removed,
        len(made.changed),
        tuple(notes),
    )


def _pieces(made: Renumbered) -> npt.NDArray[np.int64]:
    """Return of how many pieces each cell consists; those that were not drawn anew count as one."""
    pieces = pieces_of(consecutive(made.labels))
    numbers = np.flatnonzero(np.bincount(made.labels.reshape(-1)))
    pieces[~np.isin(numbers[numbers > 0], [*made.added, *made.changed])] = 1
    return pieces


def _inside(labels: Labels, image: Image) -> tuple[Labels, int]:
    """Return labels without what lies outside of the field, and how many pixels that was."""
    if image.field is None:
        return labels, 0
    is_outside = (image.field == 0) & (labels > 0)
    kept = np.where(is_outside, 0, labels).astype(np.uint16)
    return consecutive(kept).astype(np.uint16), int(np.count_nonzero(is_outside))
