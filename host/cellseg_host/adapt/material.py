"""All images that a model learns from while it adapts, as a data set of its own in the work folder.

::

    WORK/data/              a canonical data set: the sets "corrected", "synthetic", and those that are replayed
    WORK/data/corrected.json    of each corrected image its name and the raw values that become black and white
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cellseg_device.image.pixels import Image
from cellseg_device.results.correction_file import Corrections
from cellseg_device.system import files
from cellseg_host.adapt import replay
from cellseg_host.adapt.corrected import Checked, without_specks
from cellseg_host.adapt.folds import Fold
from cellseg_host.adapt.replay import Picture
from cellseg_host.adapt.settings import CORRECTED
from cellseg_host.data import dataset as datasets
from cellseg_host.data.dataset import Dataset, Entry, diameters_px, kind_of, save_png, write_manifest
from cellseg_host.data.whole_folder import whole_folder
from cellseg_host.synth.write import SET

_ABOUT = "corrected.json"
_TUNED_SHARE = 0.5  # of as many images that are replayed
_MOST_TUNED = 60  # corrected images by which thresholds are chosen: more change little and take their time
_MOST_WATCHED = 2  # of them, that are scored after each epoch, for the history alone


@dataclass(frozen=True)
class Material(Dataset):
    """The data set in the work folder.

    Attributes
    ----------
    about : mapping
        By id of a corrected image its ``name`` and ``ends``.
    """

    about: Mapping[str, Mapping[str, object]]

    def image(self, entry: Entry) -> Image:
        """Return the decoded image, to be normalised as the field was that it is cut from."""
        ends = self.about.get(entry.id, {}).get("ends")
        image = super().image(entry)
        return dataclasses.replace(image, ends=tuple(ends)) if isinstance(ends, Sequence) else image

    def name(self, identity: str) -> str:
        """Return the name that an image has for the user."""
        return str(self.about.get(identity, {}).get("name", identity))

    @property
    def corrected(self) -> tuple[Entry, ...]:
        """The user's images, in the order of the corrections."""
        return tuple(entry for entry in self.entries if entry.set == CORRECTED)

    @property
    def held_back(self) -> tuple[Entry, ...]:
        """Images of the kinds that are replayed, of which none is trained on."""
        return tuple(entry for entry in self.entries if entry.set != CORRECTED and entry.split == "test")

    def training(self, fold: Fold) -> Material:
        """Return what a model is trained on; its val split only keeps the history."""
        own = self._of(fold)
        return self._with((*own, *self._replayed, *_as_val(_some(own, _MOST_WATCHED))))

    def tuning(self, fold: Fold) -> Material:
        """Return the images by which thresholds are chosen, as both train and val split.

        To the corrected ones come half as many that are replayed: they keep the thresholds from what suits a few images
        by chance.
        """
        own = _some(self._of(fold), _MOST_TUNED)
        chosen = (*own, *_spread(self._replayed, math.ceil(_TUNED_SHARE * len(own))))
        return self._with((*chosen, *_as_val(chosen)))

    @property
    def _replayed(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.set != CORRECTED and entry.split == "train")

    def _of(self, fold: Fold) -> tuple[Entry, ...]:
        corrected = self.corrected
        return tuple(corrected[place] for place in fold.train)

    def _with(self, entries: Iterable[Entry]) -> Material:
        return dataclasses.replace(self, entries=tuple(entries))


@dataclass(frozen=True)
class Sources:
    """What the data set is made from.

    Attributes
    ----------
    corrections : Corrections
    checked : Checked
    kinds : tuple of str
        Of the synthetic fields that are replayed.
    replayed : Dataset or None
        Real images that are replayed.
    seed : int
    """

    corrections: Corrections
    checked: Checked
    kinds: tuple[str, ...]
    replayed: Dataset | None
    seed: int

    @cached_property
    def chosen(self) -> tuple[Entry, ...]:
        """The real images that are replayed."""
        return () if self.replayed is None else replay.chosen(self.replayed, self.seed)

    @property
    def images(self) -> int:
        """Number of images in all."""
        return len(self.checked.items) + replay.fields(self.kinds) + len(self.chosen)

    def pictures(self) -> Iterator[Picture]:
        """Yield all images, one after the other."""
        for number, item in enumerate(self.checked.items):
            labels = without_specks(self.corrections.labels(item))
            yield Picture(_id(number), CORRECTED, CORRECTED, "train", self.corrections.image(item), labels)
        yield from replay.synthetic(self.kinds, self.seed)
        for number, entry in enumerate(self.chosen):
            assert self.replayed is not None
            name = f"replayed {entry.set}" if entry.set in (CORRECTED, SET) else entry.set
            image, labels = self.replayed.image(entry), self.replayed.labels(entry)
            yield Picture(f"replayed-{number:03d}", name, entry.modality, entry.split, image, labels)


def make(root: Path, sources: Sources, on_image: Callable[[int, int], object] = lambda *_: None) -> Material:
    """Write the data set, whole or not at all, and return it.

    Parameters
    ----------
    root : Path
    sources : Sources
    on_image : callable
        Called with (images made, images to make).
    """
    about = {_id(n): {"name": item.name, "ends": item.ends} for n, item in enumerate(sources.checked.items)}
    with whole_folder(root) as folder:
        for name in ("images", "labels"):
            (folder / name).mkdir()
        entries = []
        for picture in sources.pictures():
            entries.append(_write(folder, picture))
            on_image(len(entries), sources.images)
        files.write(folder / _ABOUT, json.dumps(about, ensure_ascii=False).encode())
        write_manifest(folder, entries)
    return load(root)


def load(root: Path) -> Material:
    """Open the data set of a work folder."""
    about = json.loads((root / _ABOUT).read_text(encoding="utf-8"))
    return Material(root, datasets.load(root).entries, about)


def _id(number: int) -> str:
    return f"corrected-{number:04d}"


def _write(folder: Path, picture: Picture) -> Entry:
    save_png(folder / "images" / f"{picture.id}.png", picture.image.pixels)
    save_png(folder / "labels" / f"{picture.id}.png", picture.labels)
    diameters = diameters_px(picture.labels)
    return Entry(
        picture.id,
        picture.set,
        picture.split,
        picture.modality,
        kind_of(picture.modality),
        *picture.image.shape,
        int(picture.labels.max(initial=0)),
        round(float(np.median(diameters)), 1) if len(diameters) else 0.0,
    )


def _some(entries: Sequence[Entry], most: int) -> tuple[Entry, ...]:
    """Return at most so many of the entries, evenly spread; those with cells first."""
    return _spread(sorted(entries, key=lambda entry: not entry.cells), most)


def _spread(entries: Sequence[Entry], most: int) -> tuple[Entry, ...]:
    return tuple(entries[:: -(-len(entries) // most)]) if entries else ()


def _as_val(entries: Iterable[Entry]) -> Iterator[Entry]:
    return (dataclasses.replace(entry, split="val") for entry in entries)
