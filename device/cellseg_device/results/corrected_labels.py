"""Corrected labels: reading them from the store, writing them there, and counting their cells as the machine counts."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from cellseg_device.cells import patch
from cellseg_device.cells.counting import Counting, Selection, select
from cellseg_device.cells.measure import Cells, count_in_frame, measure
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.results import correction_journal, corrections, image_files
from cellseg_device.results.correction_journal import CHECKED, Journal
from cellseg_device.results.corrections import Correction
from cellseg_device.results.formats.label_images import consecutive
from cellseg_device.results.image_files import Provenance
from cellseg_device.system import files

Labels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class CorrectedProvenance(Provenance):
    """What a corrected label image was made from, and how far.

    Attributes
    ----------
    labels_sha256 : str
        Digest of the machine's label image that the correction began from.
    revision : int
        Lines of the journal whose changes it has.
    """

    labels_sha256: str = ""
    revision: int = 0


@dataclass(frozen=True)
class Tally:
    """How many cells of corrected labels count.

    Attributes
    ----------
    count, in_frame : int
        All that count, and those by the counting-frame rule.
    left_out : int
        Others: too small, too large, or outside the region.
    """

    count: int
    in_frame: int
    left_out: int


def current(out: Path, stem: str) -> Labels:
    """Return an image's corrected labels as they are now.

    Parameters
    ----------
    out : Path
        The output folder.
    stem : str

    Returns
    -------
    ndarray of uint16, shape (height, width)
        0 is background; the numbers of cells may have gaps.

    Raises
    ------
    InputError
        If there is no correction, or one of its files is missing, damaged or of another correction.
    OSError
        On a fault of the disk.
    """
    journal = correction_journal.read(corrections.journal_path(out, stem))
    if not journal.lines:
        raise InputError(f"{stem}: has no correction: begin one")
    return joined(out, stem, journal)


def checked(out: Path, correction: Correction) -> Labels:
    """Return the corrected labels that a row is of; raises as `current` does, and if they were changed since."""
    journal = correction_journal.read(corrections.journal_path(out, correction.stem))
    if correction.state != CHECKED or not journal.lines or journal.has_changed_since(correction.revision):
        raise InputError("is being corrected again: mark it as checked first")
    return joined(out, correction.stem, journal)


def joined(out: Path, stem: str, journal: Journal) -> Labels:
    """Return what a label image is with the changes of a journal that came after it; raises as `current` does."""
    path = corrections.labels_path(out, stem)
    labels, made_from = _read(path)
    first = journal.lines[0]
    ours = (made_from.image_sha256, made_from.labels_sha256)
    if ours != (first.get("image_sha256"), first.get("labels_sha256")) or made_from.revision > journal.revision:
        raise InputError(f"{path}: is of another correction than its journal: restore both, or move both away")
    try:
        for step in journal.steps[made_from.revision :]:
            if step >= 0:
                patch.parse(journal.lines[step]).apply(labels)
    except patch.PatchError as error:
        raise InputError(
            f"{corrections.journal_path(out, stem)}: {error}: restore the file, or move it and {path.name} away"
        ) from None
    return labels


def _read(path: Path) -> tuple[Labels, CorrectedProvenance]:
    import tifffile

    if not files.is_regular(path):
        raise InputError(f"{path}: is missing: restore it, or move its journal away and begin anew")
    try:
        made_from = image_files.read_facts(path)
        provenance = CorrectedProvenance(
            **{**made_from, "image_bytes": int(made_from["image_bytes"]), "revision": int(made_from["revision"])}  # type: ignore[arg-type]
        )
        labels = tifffile.imread(path)
        if labels.dtype != np.uint16 or labels.ndim != 2:
            raise ValueError("not one page of uint16")
    except OSError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - tifffile raises many kinds on damaged files
        raise InputError(f"{path}: is not a corrected label image ({error}): restore it, or move it away") from None
    return np.ascontiguousarray(labels), provenance


def label_bytes(labels: Labels, pixel_size_um: float | None, provenance: CorrectedProvenance) -> bytes:
    """Return the content of a corrected label image, in the form of the machine's."""
    file = io.BytesIO()
    image_files.write_labels(file, labels, pixel_size_um, provenance)
    return file.getvalue()


def save(  # noqa: PLR0917 - what the two files are made of
    folder: Path,
    stem: str,
    labels: Labels,
    selection: Selection,
    provenance: CorrectedProvenance,
    pixel_size_um: float | None,
) -> None:
    """Write the label image and the table of its cells, both or none; to be called within `corrections.writing`.

    Raises
    ------
    OSError
        If the disk refuses; the former files are then as they were.
    """

    def write_labels(file: BinaryIO) -> None:
        image_files.write_labels(file, labels, pixel_size_um, provenance)

    files.write_all(
        folder,
        {
            f"{stem}{image_files.LABELS}": write_labels,
            f"{stem}{image_files.CELLS}": files.holding(image_files.cells_csv(selection.cells).encode()),
        },
    )


def tally(labels: Labels, image: Image, counting: Counting) -> Tally:
    """Return how many cells count, by an image's own settings.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)
        Numbers may have gaps.
    image : Image
        From `Counting.applied`.
    counting : Counting
    """
    if counting.leaves_out or image.field is not None:
        selection = counted(labels, image, counting)
        in_frame = count_in_frame(consecutive(selection.labels), counting.frame)
        return Tally(len(selection.cells), in_frame, selection.left_out)
    present = np.bincount(labels.reshape(-1), minlength=1) > 0
    count = int(np.count_nonzero(present[1:]))
    edges = {"top": labels[0], "bottom": labels[-1], "left": labels[:, 0], "right": labels[:, -1]}
    touching: set[int] = set()
    for edge in counting.frame:
        touching |= set(np.unique(edges[edge]).tolist())
    return Tally(count, count - len(touching - {0}), 0)


def counted(labels: Labels, image: Image, counting: Counting) -> Selection:
    """Return the cells that count, measured; in the numbers that they have in `labels`.

    Parameters as of `tally`.

    Raises
    ------
    ImageError
        If the settings do not fit the image.
    """
    if labels.shape != image.shape:
        raise ImageError("has another size than its labels: count it again")
    numbers = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=1))
    numbers = numbers[numbers > 0].astype(np.uint16)
    without_gaps = np.ascontiguousarray(consecutive(labels))
    cells = measure(without_gaps, image.pixels, image.pixel_size_um, image.field)
    kept = select(image, without_gaps, cells, counting)
    # `select` numbers anew what it keeps; which those are the unnumbered columns tell
    is_kept = np.zeros(len(cells), bool)
    is_kept[_kept_of(without_gaps, kept.labels)] = True
    own = numbers[is_kept]
    table = Cells(kept.cells.columns | {"label": own.astype(np.int64)})
    back = np.concatenate([np.zeros(1, np.uint16), own])
    return Selection(back[kept.labels], table, kept.left_out, kept.area_px)


def _kept_of(before: Labels, after: Labels) -> npt.NDArray[np.intp]:
    """Return the indices, from 0, of the cells that are in both label images; the first has no gaps."""
    there = np.flatnonzero(np.bincount(before[after > 0], minlength=1))
    return there - 1
