"""What a model can learn from in the store of corrections: checked images, or the parts of them that were corrected."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import NO_MEMORY, CellsegError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.model import card as cards
from cellseg_device.model.card import Card
from cellseg_device.model.interpreter import bundled_path
from cellseg_device.pipeline import in_use
from cellseg_device.pipeline.models import kind_of
from cellseg_device.results import corrected_labels, corrections, export
from cellseg_device.results.correction_items import LONGEST_NAME, Correction, Crop, cut
from cellseg_device.results.correction_journal import CHECKED
from cellseg_device.results.corrections import STALE
from cellseg_device.results.entry import Entry
from cellseg_device.results.export import Originals
from cellseg_device.results.formats.label_images import Labels, consecutive
from cellseg_device.results.ledger import FILE_NAME, Ledger

LONGEST_SIDE_PX = 512  # of what is handed over at once
MOST_CROPS = 8  # of an image


@dataclass(frozen=True)
class Material:
    """Checked images that one model counted, or models that were made from it.

    Attributes
    ----------
    entries : tuple of Entry
    kind : str
        `models.kind_of` those that counted them.
    card : Card or None
        Of the bundled model of that kind if it has counted some of them, else of that which counted most; None if it is
        not here any more.
    model_sha256 : str
        Of its file.
    others : dict of str to int
        How many checked images there are of other kinds.
    stale : int
        How many more were replaced since they were checked.
    """

    entries: tuple[Entry, ...]
    kind: str
    card: Card | None
    model_sha256: str
    others: dict[str, int]
    stale: int


def material(out: Path, kind: str | None = None) -> Material:
    """Return what can be learnt from in a results folder.

    Parameters
    ----------
    out : Path
        The output folder.
    kind : str or None
        That of the models which counted the images; None for that of most of them.

    Raises
    ------
    InputError
        If no image is checked that such a model counted.
    OutputError, OSError
        If the ledger or the store cannot be read.
    """
    rows = {image: row for image, row in corrections.read(out).items() if row.state == CHECKED}
    with closing(Ledger(out / FILE_NAME, is_for_reading=True)) as ledger:
        entries = [entry for image in rows if (entry := ledger.get(image)) is not None]
    sound = [entry for entry in entries if corrections.standing(entry, rows[entry.image]) != STALE]
    if not sound:
        raise InputError(f"no image in {out} is checked: correct some on the page of 'serve', or with 'recount'")
    # What a gate took for empty no model has counted: it teaches any
    counted = [entry for entry in sound if entry.model_sha256 != entry.gate_sha256] or sound
    known = _cards(out, {entry.model_sha256 for entry in counted})
    kinds = _kinds(counted, known)
    numbers = Counter(kinds[entry.model_sha256] for entry in counted)
    chosen = kind or numbers.most_common(1)[0][0]
    if chosen not in numbers:
        raise InputError(f"no checked image was counted by {chosen}: choose one of {', '.join(numbers)}")
    models = Counter(entry.model_sha256 for entry in counted if kinds[entry.model_sha256] == chosen)
    starts = [sha256 for sha256 in models if sha256 in known and known[sha256].name == chosen]
    sha256 = starts[0] if starts else models.most_common(1)[0][0]
    return Material(
        tuple(entry for entry in sound if kinds.get(entry.model_sha256, chosen) == chosen),
        chosen,
        known.get(sha256),
        sha256,
        {other: number for other, number in numbers.items() if other != chosen},
        len(rows) - len(sound),
    )


def kinds_of(out: Path, entries: Iterable[Entry]) -> dict[str, str]:
    """Return `models.kind_of` the models that counted images, by their digests; of one that is not here its name."""
    counted = list(entries)
    return _kinds(counted, _cards(out, {entry.model_sha256 for entry in counted}))


def _kinds(entries: Iterable[Entry], known: dict[str, Card]) -> dict[str, str]:
    return {
        entry.model_sha256: kind_of(known[entry.model_sha256]) if entry.model_sha256 in known else entry.model
        for entry in entries
    }


def taught(out: Path, entry: Entry, originals: Originals, card: Card | None) -> list[Correction]:
    """Return a checked image, or of one that is larger than `LONGEST_SIDE_PX` the parts in which it was corrected.

    Where nothing was wrong that is the part with the most cells.

    Raises
    ------
    ImageError, InputError
        If the image is not there any more, or its correction not as it was written.
    OSError
        On a fault of the disk.
    """
    assert entry.stem is not None, "it was counted"
    machine = export.stored(out, entry).labels
    labels = corrected_labels.current(out, entry.stem)
    image = export.subject(entry, machine, originals).image
    if max(image.shape) <= LONGEST_SIDE_PX:
        shown = Image(image.searched, image.pixel_size_um, ends=image.ends)
        parts = [Correction(_name(entry.stem, None), shown, consecutive(labels).astype(np.uint16))]
    else:
        seen_by = card or cards.of_file(bundled_path())
        places = crops(machine, labels)
        parts = [cut(image, labels, crop, seen_by, name=_name(entry.stem, crop)) for crop in places]
    row = corrections.get(out, entry)
    source, sha256, at = Path(entry.image).name, entry.sha256 or "", None if row is None else row.checked_at
    return [dataclasses.replace(part, source=source, source_sha256=sha256, corrected_at=at) for part in parts]


def crops(machine: Labels, corrected: Labels) -> list[Crop]:
    """Return the parts of an image in which labels were corrected most, of parts that cover it without overlap.

    Parameters
    ----------
    machine, corrected : ndarray of uint16, shape (height, width)

    Returns
    -------
    list of (row, column, height, width)
        At most `MOST_CROPS`; the part with the most cells, if nothing differs.
    """
    parts = _parts(machine.shape)
    differing = np.array([np.count_nonzero(_of(machine, part) != _of(corrected, part)) for part in parts])
    if not differing.any():
        return [parts[int(np.argmax([len(np.unique(_of(corrected, part))) for part in parts]))]]
    most = np.argsort(-differing, kind="stable")[:MOST_CROPS]
    return [parts[number] for number in sorted(most.tolist()) if differing[number]]


def _parts(shape: Sequence[int]) -> list[Crop]:
    """Return the fewest parts of about one size that cover an image."""
    edges = [np.linspace(0, side, -(-side // LONGEST_SIDE_PX) + 1).astype(int).tolist() for side in shape]
    return [
        (top, left, below - top, right - left)
        for top, below in zip(edges[0], edges[0][1:], strict=False)
        for left, right in zip(edges[1], edges[1][1:], strict=False)
    ]


def _of(labels: Labels, crop: Crop) -> npt.NDArray[np.uint16]:
    row, column, height, width = crop
    return labels[row : row + height, column : column + width]


def _name(stem: str, crop: Crop | None) -> str:
    ending = "" if crop is None else f"-r{crop[0]}-c{crop[1]}"
    room = LONGEST_NAME - len(ending)
    if len(stem.encode()) > room or stem.startswith("."):
        digest = hashlib.sha256(stem.encode()).hexdigest()[:16]
        stem = f"{stem.lstrip('.').encode()[: room - 17].decode(errors='ignore')}-{digest}"
    return f"{stem}{ending}"


def _cards(out: Path, wanted: set[str]) -> dict[str, Card]:
    """Return the cards of models by their digests, of the bundled ones and of those that were put into use here."""
    own = in_use.path_in(out).parent
    found: dict[str, Card] = {}
    for path in (*bundled_path().parent.glob("*.tflite"), *own.glob("*.tflite")):
        try:
            data = cards.read_model_file(path)
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 in wanted:
                found[sha256] = cards.read_from(data)
        except CellsegError:
            continue
    return found


class Teaching:
    """The corrections of some material, an image at a time; those that cannot be had are left out.

    Parameters
    ----------
    out : Path
        The output folder.
    given : Material
    originals : Originals

    Attributes
    ----------
    left_out : dict of str to str
        Why, by image.
    """

    def __init__(self, out: Path, given: Material, originals: Originals) -> None:
        self._out, self._given, self._originals = out, given, originals
        self.left_out: dict[str, str] = {}

    def __iter__(self) -> Iterator[Correction]:
        """Yield what there is of each image."""
        for entry in self._given.entries:
            try:
                yield from taught(self._out, entry, self._originals, self._given.card)
            except CellsegError as error:
                self.left_out[entry.image] = error.message
            except MemoryError:
                self.left_out[entry.image] = NO_MEMORY
            except OSError as error:
                self.left_out[entry.image] = f"cannot be read ({error.strerror}): check the disk"
