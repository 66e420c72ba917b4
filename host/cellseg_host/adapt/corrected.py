"""Whether corrections can be learnt from: what is wrong with them, in plain lines, before any work."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.pieces import pieces_of
from cellseg_device.errors import InputError
from cellseg_device.results.correction_faults import listed, note_of_pieces
from cellseg_device.results.correction_file import Corrections, Item
from cellseg_device.results.formats.label_images import consecutive
from cellseg_device.units import plural
from cellseg_host.survey.labels import SPECK_PX


@dataclass(frozen=True)
class Checked:
    """Corrections that can be learnt from.

    Attributes
    ----------
    items : tuple of Item
        Images that differ from each other.
    cells : tuple of int
        For each its cells, without specks.
    notes : tuple of str
        What was left out, or may be wrong.
    digest : str
        SHA-256 of names, pixels and labels.
    """

    items: tuple[Item, ...]
    cells: tuple[int, ...]
    notes: tuple[str, ...]
    digest: str

    @property
    def can_judge(self) -> bool:
        """Whether an image with cells can be held out while another one is learnt from."""
        return sum(count > 0 for count in self.cells) > 1


def check(corrections: Corrections, *, anyway: bool = False) -> Checked:
    """Return which corrections to use, having read each image and its labels once.

    Parameters
    ----------
    corrections : Corrections
    anyway : bool
        Go on without images to judge by.

    Raises
    ------
    InputError
        If there is nothing to learn from, an image or its labels cannot be read, or nothing could be held out to judge
        by.
    """
    items, cells, alike, speckled, specks = [], [], [], [], 0
    pieces: dict[str, npt.NDArray[np.int64]] = {}
    known: dict[str, str] = {}
    whole = hashlib.sha256()
    for item in corrections.items:
        image, labels = corrections.image(item), corrections.labels(item)
        digest = hashlib.sha256(repr((image.pixels.shape, image.pixels.dtype.str)).encode() + image.pixels.tobytes())
        if known.setdefault(digest.hexdigest(), item.name) != item.name:
            alike.append(item.name)
            continue
        kept = without_specks(labels)
        if dropped := len(np.unique(labels[labels > 0])) - int(kept.max(initial=0)):
            specks += dropped
            speckled.append(item.name)
        whole.update(f"{item.name}\0{item.ends}\0{digest.hexdigest()}\0".encode() + kept.tobytes())
        pieces[item.name] = pieces_of(kept)
        items.append(item)
        cells.append(int(kept.max(initial=0)))
    if not items:
        raise InputError(f"{corrections.path}: holds no corrected image: correct some first")
    if not any(cells):
        raise InputError(
            f"{corrections.path}: no corrected image has a cell, so nothing can be learnt: correct images with cells"
        )
    notes = []
    if alike:
        notes.append(f"{plural(len(alike), 'image')} left out, the same as others: {listed(alike)}")
    if speckled:
        notes.append(
            f"{plural(specks, 'speck')} of fewer than {SPECK_PX} px left out of the labels of {listed(speckled)}"
        )
    try:
        in_pieces = note_of_pieces(pieces)
    except InputError as error:
        raise InputError(f"{corrections.path}: {error}") from None
    if in_pieces:
        notes.append(in_pieces)
    checked = Checked(tuple(items), tuple(cells), tuple(notes), whole.hexdigest())
    if not checked.can_judge and not anyway:
        raise InputError(f"{corrections.path}: {_too_few(checked, len(alike))}")
    return checked


def without_specks(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Return labels without the cells of a few pixels, numbered without gaps."""
    area = np.bincount(labels.ravel())
    return consecutive(np.where(area[labels] >= SPECK_PX, labels, 0).astype(np.uint16))


def _too_few(checked: Checked, alike: int) -> str:
    if len(checked.items) > 1:
        what = f"only 1 of {len(checked.items)} images has cells"
    elif alike:
        what = f"all {alike + 1} images are the same"
    else:
        what = "has 1 image"
    return (
        f"{what}, which leaves none to judge the new model by: correct more images, or add --anyway to write a model "
        "that nothing proves better"
    )
