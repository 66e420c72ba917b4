"""What is wrong with a data set, in sentences: what has to be mended before anyone trains on it, and what to know."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.results.correction_faults import listed
from cellseg_device.units import plural
from cellseg_host.data.dataset import SPLITS, short
from cellseg_host.survey.facts import Facts
from cellseg_host.survey.likeness import Pair, alike

_SAME = 0.999  # correlation from which two images are called the same
_MANY = 0.05  # share of cells from which a fault of labels is none of a few slips
_MANY_BOXES = 0.5
_SATURATED = 0.01
_MOST_FIELD_DARK = 0.5  # mean of the pixels: on a brighter field white is what it should be
_FEW_LEVELS = 16
_FEW_CELLS = 50


@dataclass(frozen=True)
class Finding:
    """A sentence about a data set.

    Attributes
    ----------
    text : str
    images : tuple of str
        The ids of the images that it is about.
    is_fault : bool
        What has to be mended, since a model trained on it, or its scores, would be wrong; else what is good to know.
    """

    text: str
    images: tuple[str, ...] = ()
    is_fault: bool = False


def find(facts: Sequence[Facts]) -> list[Finding]:
    """Return the findings about a data set, faults first."""
    found = [*_twins(facts), *_labels(facts), *_splits(facts), *_light(facts)]
    return sorted(found, key=lambda finding: not finding.is_fault)


def twins(facts: Sequence[Facts]) -> list[Pair]:
    """Return the images that are in one split and, the same or nearly so, in another."""
    return sorted(
        alike([one.look for one in facts], [one.entry.split for one in facts]),
        key=lambda pair: (-pair.correlation, pair.first, pair.second),
    )


def _twins(facts: Sequence[Facts]) -> Iterator[Finding]:
    pairs = twins(facts)
    for is_same, words in ((True, "in another split as well"), (False, "almost the same as one in another split")):
        chosen = [pair for pair in pairs if (pair.correlation >= _SAME) is is_same]
        if not chosen:
            continue
        ids = [(facts[pair.first].entry, facts[pair.second].entry) for pair in chosen]
        named = listed([f"{short(one.id)} in {one.split} as {short(other.id)} in {other.split}" for one, other in ids])
        number = len({one.id for one, _ in ids})
        yield Finding(
            f"{plural(number, 'image')} {_are(number)} {words}, so scores look better than they are: "
            f"put both into one split ({named})",
            tuple(dict.fromkeys(entry.id for both in ids for entry in both)),
            is_fault=True,
        )


def _labels(facts: Sequence[Facts]) -> Iterator[Finding]:
    """Yield what is amiss with labels: a fault where it is so of many cells, since that is no slip of the hand."""
    cells = sum(one.cells for one in facts)
    kinds: tuple[tuple[str, str, str, float], ...] = (
        ("boxes", "a rectangle, as if drawn for a detector", "draw their outlines", _MANY_BOXES),
        ("in_pieces", "in several places under one number", "give each cell a number of its own", _MANY),
        ("holed", "drawn with a hole", "fill it, unless the cell has one", _MANY),
        ("specks", "a speck of under 4 pixels", "remove it", _MANY),
    )
    for name, words, remedy, many in kinds:
        numbers = {one.entry.id: int(getattr(one.faults, name)) for one in facts if one.faults is not None}
        images = [identity for identity, number in numbers.items() if number]
        total = sum(numbers.values())
        if not total or (name == "boxes" and total < many * cells):  # a few cells may well be rectangles
            continue
        yield Finding(
            f"{plural(total, 'cell')} of {cells:,} {_are(total)} {words}: {remedy} ({_named(images)})",
            tuple(images),
            is_fault=total >= many * cells,
        )


def _splits(facts: Sequence[Facts]) -> Iterator[Finding]:
    """Yield what one split lacks: nothing to learn, nothing to judge by, or a kind of images that was never learnt."""
    by_split = {name: [one for one in facts if one.entry.split == name] for name in SPLITS}
    labelled = {name: [one for one in some if one.entry.is_labelled] for name, some in by_split.items()}
    if any(labelled.values()):
        cells = sum(one.cells for one in labelled["train"])
        if not cells:
            yield Finding("no image in the split train has a cell: there is nothing to learn", is_fault=True)
        elif cells < _FEW_CELLS:
            yield Finding(f"the split train has {plural(cells, 'cell')}: label more images, a hundred cells at least")
        for name in ("val", "test"):
            if not labelled[name]:
                yield Finding(
                    f"no image with labels is in the split {name}: write '{name}' into some rows of manifest.csv"
                )
    learnt = {_group(one) for one in by_split["train"]}
    for name in ("val", "test"):
        unknown = defaultdict(list)
        for one in by_split[name]:
            if by_split["train"] and _group(one) not in learnt:
                unknown[_group(one)].append(one.entry.id)
        for group, images in unknown.items():
            yield Finding(
                f"{plural(len(images), 'image')} of {group} {_are(len(images))} in the split {name}, but none in train",
                tuple(images),
            )


def _light(facts: Sequence[Facts]) -> Iterator[Finding]:
    tests: tuple[tuple[Callable[[Facts], bool], str], ...] = (
        (lambda one: one.levels == 0, "of one grey: nothing can be seen"),
        (
            lambda one: 0 < one.levels < _FEW_LEVELS,
            f"dark or flat: under {_FEW_LEVELS} levels lie between dark and bright, so expose longer",
        ),
        (
            lambda one: one.saturated > _SATURATED and one.brightness < _MOST_FIELD_DARK,
            "over-exposed: over 1 % of the pixels are as bright as can be, so expose shorter",
        ),
    )
    for is_so, words in tests:
        images = [one.entry.id for one in facts if is_so(one)]
        if images:
            yield Finding(
                f"{plural(len(images), 'image')} {_are(len(images))} {words} ({_named(images)})", tuple(images)
            )


def _group(one: Facts) -> str:
    """Return the kind of images that one belongs to, in words."""
    return f"{one.entry.set}, {one.entry.modality}"


def _named(images: Sequence[str]) -> str:
    return listed([short(identity) for identity in images])


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def spread(values: Sequence[float] | npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the 5 %, 50 % and 95 % quantiles; NaN without values."""
    if not len(values):
        return (float("nan"),) * 3
    low, middle, high = (float(value) for value in np.quantile(values, (0.05, 0.5, 0.95)))
    return low, middle, high
