"""Counts that a person corrected, in place of the machine's: what is checked, of images that are still the same."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from cellseg_device.errors import OutputError
from cellseg_device.results import corrections
from cellseg_device.results.correction_journal import CHECKED
from cellseg_device.results.corrections import RECOUNTED, STALE, Correction
from cellseg_device.results.entry import CELLS
from cellseg_device.results.ledger import FILE_NAME, Ledger
from cellseg_device.summary.tables import Field
from cellseg_device.units import plural

COLUMNS = ("corrected_count", "corrected_count_in_frame", "checked_at", "checked_by")


@dataclass(frozen=True)
class Checked:
    """The corrections that count.

    Attributes
    ----------
    by_image : dict of str to Correction
    notes : tuple of str
        What should be said of the others, and of images that were counted again since.
    """

    by_image: dict[str, Correction]
    notes: tuple[str, ...] = ()

    def applied(self, fields: Sequence[Field]) -> list[Field]:
        """Return fields with the corrected counts; what a person has checked is not doubtful any more."""
        return [
            field
            if (found := self.by_image.get(field.image)) is None
            else replace(
                field,
                count=found.corrected_count,
                in_frame=found.corrected_in_frame,
                is_flagged=False,
                is_checked=True,
                cells=f"{corrections.FOLDER_NAME}/{found.stem}{CELLS}",
            )
            for field in fields
        ]

    def values(self, image: str) -> list[object]:
        """Return what the `COLUMNS` of an image hold."""
        found = self.by_image.get(image)
        if found is None:
            return [None] * len(COLUMNS)
        return [found.corrected_count, found.corrected_in_frame, found.checked_at, found.by or None]


def read(out: Path) -> Checked:
    """Return the corrections of a results folder that count.

    Raises
    ------
    InputError
        If their table is damaged.
    """
    try:
        found = {name: row for name, row in corrections.read(out).items() if row.state == CHECKED}
        if not found:
            return Checked({})
        with closing(Ledger(out / FILE_NAME, is_for_reading=True)) as ledger:
            entries = {image: ledger.get(image) for image in found}
    except (OSError, OutputError) as error:
        why = error.message if isinstance(error, OutputError) else error.strerror
        return Checked({}, (f"corrected counts are left out, since they cannot be compared with the ledger ({why})",))
    standing = {
        image: STALE if entry is None else corrections.standing(entry, found[image]) for image, entry in entries.items()
    }
    stale = sum(one == STALE for one in standing.values())
    again = sum(one == RECOUNTED for one in standing.values())
    notes = []
    if stale:
        notes.append(f"{plural(stale, 'correction')} left out, since the image is another one now: correct it again")
    if again:
        notes.append(f"{plural(again, 'image')} counted again since the correction, which holds: look at it once more")
    return Checked({image: row for image, row in found.items() if standing[image] != STALE}, tuple(notes))
