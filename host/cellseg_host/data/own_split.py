"""A val split for a data set that has none: a few labelled images need no split of the user's own to be trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from cellseg_device.units import plural
from cellseg_host.data.dataset import Dataset, Entry

_SHARE = 4  # one image of so many validates; of many images, one of ten
_MANY = 10
_NAMED = 3  # images that the note names


def completed(dataset: Dataset, seed: int, *, without_labels: bool = False) -> tuple[Dataset, str]:
    """Return a data set that has both a train and a val split, and what to say of that; "" if it had both.

    Where one of the two is missing, the images of the other are divided. One that has neither stays as it is.

    Parameters
    ----------
    dataset : Dataset
    seed : int
        The same seed and ids give the same split: a model is quantized and evaluated with that of its training.
    without_labels : bool
        Divide images without labels as well, as for a classifier of kinds.
    """
    splits = {
        name: [e for e in dataset.entries if e.split == name and (e.is_labelled or without_labels)]
        for name in ("train", "val")
    }
    present = [name for name, entries in splits.items() if entries]
    if len(present) != 1:
        return dataset, ""
    known = splits[present[0]]
    val = _chosen(known, seed)
    missing = "val" if present == ["train"] else "train"
    reason = f"the data set has no {missing} split"
    if not val:
        entries = [dataclasses.replace(e, split=split) for e in known for split in ("train", "val")]
        others = [e for e in dataset.entries if e not in known]
        many = "the same image" if len(known) == 1 else f"the same {plural(len(known), 'image')}"
        note = (
            f"validating on {many} as training, since {reason} and too few images with cells: the scores prove nothing"
        )
        return dataclasses.replace(dataset, entries=(*entries, *others)), note
    ids = {e.id for e in known}
    entries = [_moved(e, val) if e.id in ids else e for e in dataset.entries]
    names = ", ".join(sorted(val)[:_NAMED]) + (" …" if len(val) > _NAMED else "")
    note = f"validating on {len(val)} of the {plural(len(known), 'image')}, {names}: {reason}"
    return dataclasses.replace(dataset, entries=tuple(entries)), note


def _chosen(entries: Sequence[Entry], seed: int) -> set[str]:
    """Return the ids of the images to validate on; none if at most one has cells, which is needed for training."""
    order = np.random.default_rng(seed).permutation(len(entries))
    shuffled = [sorted(entries, key=lambda entry: entry.id)[place] for place in order]
    rich = [entry.id for entry in shuffled if entry.cells or not entry.is_labelled]
    number = max(1, min(round(len(entries) / _SHARE), max(_MANY, len(entries) // _MANY)))
    return set(rich[: min(number, len(rich) - 1)]) if rich else set()


def _moved(entry: Entry, val: Collection[str]) -> Entry:
    return dataclasses.replace(entry, split="val" if entry.id in val else "train")
