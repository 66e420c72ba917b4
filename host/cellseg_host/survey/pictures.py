"""Pictures of the images that are most unlike the others, with the outlines of their cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cellseg_host.data.dataset import Dataset
from cellseg_host.report import plots
from cellseg_host.report.plots import TRUTH_COLOUR, Picture
from cellseg_host.survey.facts import Facts

EACH = 6
_SIDE_PX = 360


@dataclass(frozen=True)
class Extreme:
    """One of the images that are furthest out in some way.

    Attributes
    ----------
    facts : Facts
    words : str
        How far.
    picture : ndarray of uint8, shape (height, width, 3)
        The whole image, at most 360 px large, with the outlines of its cells.
    """

    facts: Facts
    words: str
    picture: Picture


# By title: what is measured, how it is said, whether the largest are meant, and whether only images with cells are
_Way = tuple[Callable[[Facts], float], Callable[[Facts], str], bool, bool]
_WAYS: dict[str, _Way] = {
    "Darkest": (lambda one: one.brightness, lambda one: f"mean {one.brightness:.1%} of what it can hold", False, False),
    "Brightest": (
        lambda one: one.brightness,
        lambda one: f"mean {one.brightness:.1%} of what it can hold",
        True,
        False,
    ),
    "Least sharp": (lambda one: one.sharpness, lambda one: f"sharpness {one.sharpness:.3f}", False, False),
    "Most cells in their area": (lambda one: one.density, lambda one: f"{one.cells:,} cells", True, True),
    "Smallest cells": (lambda one: _median(one), lambda one: f"median {_median(one):.0f} px", False, True),
    "Largest cells": (lambda one: _median(one), lambda one: f"median {_median(one):.0f} px", True, True),
    "Most touching": (lambda one: one.touching, lambda one: f"{one.touching:.0%} of {one.cells:,} cells", True, True),
}


def extremes(dataset: Dataset, facts: Sequence[Facts]) -> Iterator[tuple[str, list[Extreme]]]:
    """Yield a title and the six images that are furthest out in that way, for each way in which they differ."""
    for title, (value, words, is_largest, needs_cells) in _WAYS.items():
        some = [one for one in facts if one.cells or not needs_cells]
        if len({value(one) for one in some}) < 2:
            continue
        ranked = sorted(some, key=lambda one: (value(one), one.entry.id), reverse=is_largest)
        yield title, [Extreme(one, words(one), _picture(dataset, one)) for one in ranked[:EACH]]


def _median(one: Facts) -> float:
    return float(np.median(one.diameters_px))


def _picture(dataset: Dataset, one: Facts) -> Picture:
    image = dataset.image(one.entry)
    shown = plots.picture(image)
    scale = min(1.0, _SIDE_PX / max(image.shape))
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    panel: Picture = np.ascontiguousarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA))
    if one.entry.is_labelled:
        labels = cv2.resize(dataset.labels(one.entry), size, interpolation=cv2.INTER_NEAREST)
        plots.outline(panel, np.asarray(labels, np.uint16), TRUTH_COLOUR)
    return panel
