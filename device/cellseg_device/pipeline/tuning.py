"""Thresholds chosen for the best score on images with true labels, and whether the choice holds on other images."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.counting import Counting
from cellseg_device.cells.matching import average_precision
from cellseg_device.errors import ImageError, InputError
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import Separation
from cellseg_device.pipeline.predict import Prediction, Runnable, predict
from cellseg_device.pipeline.segment import LANDSCAPES, labels_of

FOREGROUND = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
PROMINENCE = (0.35, 0.5, 0.7, 1.0)
CONFIDENCE = (0.5, 0.75, 0.8, 0.84, 0.88, 0.91, 0.94)
# Up to the area of the smallest nuclei that the network is meant for, about 6 px across
MIN_AREA_PX = (8, 12, 16, 24, 32)
COUNT_WEIGHT = 0.1

Labels = npt.NDArray[np.uint16]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """How well one setting does on each of several images.

    Attributes
    ----------
    ap50, mean_ap, true, counted : ndarray of float64, shape (images,)
        `matching.average_precision` at an IoU of 0.5 and its mean, and the numbers of cells.
    """

    ap50: Values
    mean_ap: Values
    true: Values
    counted: Values


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes
    ----------
    chosen : tuple of Separation
        The best setting on each part of the images.
    table : dict of Separation to Scores
        Of each setting that was tried, on all images.
    """

    chosen: tuple[Separation, ...]
    table: dict[Separation, Scores]


@dataclass(frozen=True)
class Accuracy:
    """How well an image is counted by settings that were chosen without it.

    Attributes
    ----------
    ap50 : float
        Mean over the images.
    count_error : float
        |Σ counted − Σ true| / Σ true.
    """

    ap50: float
    count_error: float


@dataclass(frozen=True)
class Tuning:
    """Thresholds chosen on all images, and how well such a choice does on an image that had no part in it.

    Attributes
    ----------
    own, chosen : Separation
        Those of the model, and those chosen on all images.
    images, cells : int
    before, after : Accuracy
        With the model's own; and of each image with those that were chosen on the others (leave-one-out).
    settings : int
        How many were tried.
    ms : float
        How long it took to try one on one image.
    """

    own: Separation
    chosen: Separation
    images: int
    cells: int
    before: Accuracy
    after: Accuracy
    settings: int
    ms: float

    @property
    def is_better(self) -> bool:
        """Whether choosing makes the mean AP@0.5 of an image higher, and the error of the count no larger."""
        gains = self.after.ap50 > self.before.ap50 and self.after.count_error <= self.before.count_error
        return gains and self.chosen != self.own


def tune(
    model: Runnable,
    images: int,
    read: Callable[[int], tuple[Image, Labels]],
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Tuning:
    """Return the thresholds that suit images with true labels best; which pieces are joined stays as it is.

    Parameters
    ----------
    model : Runnable
    images : int
        How many there are.
    read : callable
        Returns an image and its labels by its number. Each is read, and the network run over it, three times, which
        takes less memory than to keep the maps of all, and less time than to try all settings.
    progress : callable
        Receives how many settings were tried on how many images, multiplied, and about how many will be.

    Raises
    ------
    InputError
        If there are fewer than two images, or none has a cell.
    """
    if images < 2:
        raise InputError("one corrected image cannot show what is better on another: correct at least two")
    own = model.card.separation
    work = _Work(model, images, read, progress)
    parts = np.vstack([np.ones(images), 1 - np.eye(images)])  # all, and each without one
    found = search(_around(own, has_landscape=any(model.card.output(name) for name in LANDSCAPES)), work.scores, parts)
    chosen, *without = found.chosen
    before = found.table[own]
    on_others = [(found.table[setting], image) for image, setting in enumerate(without)]
    after = Scores(
        np.array([scores.ap50[image] for scores, image in on_others]),
        np.array([scores.mean_ap[image] for scores, image in on_others]),
        before.true,
        np.array([scores.counted[image] for scores, image in on_others]),
    )
    return Tuning(
        own, chosen, images, int(before.true.sum()), _accuracy(before), _accuracy(after), len(found.table), work.ms
    )


def search(
    first: Sequence[Separation], score: Callable[[Sequence[Separation]], Iterable[Scores]], parts: Values
) -> Found:
    """Return the best setting on each part of the images: first of these, then by what is dropped.

    The score is the mean of AP@0.5 and the mean AP (which depends more on outlines), minus `COUNT_WEIGHT` times the
    error of the total count. Parts are searched together, so that what several try is scored once.

    Parameters
    ----------
    first : sequence of Separation
    score : callable
        Returns the scores of settings on all images, in their order; called three times.
    parts : ndarray, shape (parts, images)
        1 for the images of a part, 0 for the others.
    """
    table: dict[Separation, Scores] = {}
    values: dict[Separation, Values] = {}
    candidates = [tuple(first)] * len(parts)
    chosen: tuple[Separation, ...] = ()
    for refined in (_by_confidence, _by_area, None):
        new = [setting for setting in dict.fromkeys(itertools.chain(*candidates)) if setting not in table]
        for setting, scores in zip(new, score(new), strict=True):
            table[setting], values[setting] = scores, _values(scores, parts)
        chosen = tuple(
            max(settings, key=lambda setting, part=part: values[setting][part])  # type: ignore[misc]
            for part, settings in enumerate(candidates)
        )
        if refined is not None:
            candidates = [refined(setting) for setting in chosen]
    return Found(chosen, table)


def scores(pairs: Iterable[tuple[Labels, Labels]]) -> Scores:
    """Return the scores of true and counted labels of several images, numbered from 1 without gaps."""
    return _scores([_row(true, counted) for true, counted in pairs])


def _row(true: Labels, counted: Labels) -> tuple[float, ...]:
    precision = average_precision(true, counted)
    return float(precision[0]), float(precision.mean()), int(true.max(initial=0)), int(counted.max(initial=0))


def _scores(rows: Sequence[tuple[float, ...]]) -> Scores:
    return Scores(*np.array(rows, np.float64).reshape(-1, 4).T)


def _values(scores: Scores, parts: Values) -> Values:
    """Return a setting's score on each part."""
    precision = parts @ (scores.ap50 + scores.mean_ap) / 2 / parts.sum(axis=1)
    true, counted = parts @ scores.true, parts @ scores.counted
    error: Values = np.abs(counted - true) / np.maximum(true, 1)
    return np.asarray(precision - COUNT_WEIGHT * error)


def _accuracy(scores: Scores) -> Accuracy:
    true, counted = scores.true.sum(), scores.counted.sum()
    return Accuracy(float(scores.ap50.mean()), float(abs(counted - true) / true))


def _around(own: Separation, *, has_landscape: bool) -> list[Separation]:
    """Return what is tried first; the model's own setting comes first, so that it stays where none is better."""
    prominences = (own.prominence, *PROMINENCE) if has_landscape else (own.prominence,)
    both = itertools.product((own.foreground, *FOREGROUND), prominences)
    return list(dict.fromkeys(dataclasses.replace(own, foreground=f, prominence=p) for f, p in both))


def _by_confidence(best: Separation) -> tuple[Separation, ...]:
    return tuple(dataclasses.replace(best, confidence=value) for value in dict.fromkeys((best.confidence, *CONFIDENCE)))


def _by_area(best: Separation) -> tuple[Separation, ...]:
    return tuple(
        dataclasses.replace(best, min_area_px=value) for value in dict.fromkeys((best.min_area_px, *MIN_AREA_PX))
    )


class _Work:
    """Scores settings on images, of which one at a time is in memory."""

    def __init__(
        self,
        model: Runnable,
        images: int,
        read: Callable[[int], tuple[Image, Labels]],
        progress: Callable[[int, int], object],
    ) -> None:
        self._model, self._images, self._read, self._progress = model, images, read, progress
        self._tried = 0
        self._left = [len(FOREGROUND) * len(PROMINENCE), len(CONFIDENCE), len(MIN_AREA_PX)]  # about
        self._s = 0.0

    @property
    def ms(self) -> float:
        """How long it took to try one setting on one image."""
        return 1000 * self._s / max(self._tried, 1)

    def scores(self, settings: Sequence[Separation]) -> list[Scores]:
        """Return the scores of these settings on all images."""
        self._left.pop(0)
        rows: list[list[tuple[float, ...]]] = [[] for _ in settings]
        total = self._tried + (len(settings) + sum(self._left)) * self._images
        for number in range(self._images if settings else 0):
            image, true = self._read(number)
            prediction = predict(Counting().applied(image), self._model)
            begun = time.perf_counter()
            for row, setting in zip(rows, settings, strict=True):
                row.append(_row(true, _labels(prediction, setting)))
            self._s += time.perf_counter() - begun
            self._tried += len(settings)
            self._progress(self._tried, total)
        found = [_scores(row) for row in rows]
        if found and not found[0].true.any():
            raise InputError("the corrected labels are empty, and cells are what is scored: correct images with some")
        return found


def _labels(prediction: Prediction, separation: Separation) -> Labels:
    """Return labels as a count has them; none where it gives the image up for having more specks than labels."""
    try:
        return labels_of(prediction, separation)
    except ImageError:
        return np.zeros(prediction.image.shape, np.uint16)
