"""Pictures of the images on which the models do best and worst, and on which they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from cellseg_host.data.dataset import Entry
from cellseg_host.evaluation import metrics
from cellseg_host.evaluation.evaluate import ImageScore
from cellseg_host.evaluation.metrics import Labels
from cellseg_host.report import plots
from cellseg_host.report.plots import Picture
from cellseg_host.report.scoring import ScoredImage

WINDOW_PX = 160
PANEL_PX = 360  # shown at half this size: an outline of two pixels is one on the screen
# On a model's panel: counted cells that match a true one, true cells it missed, and counted cells that match none
MATCHED_COLOUR, MISSED_COLOUR, EXTRA_COLOUR = plots.PREDICTION_COLOUR, plots.TRUTH_COLOUR, (255, 60, 200)


@dataclass(frozen=True)
class Shown:
    """A window of one image, of at most 160 × 160 pixels, as the report shows it.

    Attributes
    ----------
    entry : Entry
    scores : tuple of ImageScore
        Of the whole image, one for each model.
    plain, truth : ndarray of uint8, shape (360, 360, 3)
        The image, and the image with the outlines of the true cells.
    models : tuple of ndarray of uint8, each of shape (360, 360, 3)
        For each model the image with the cells that it matched, missed and added.
    """

    entry: Entry
    scores: tuple[ImageScore, ...]
    plain: Picture
    truth: Picture
    models: tuple[Picture, ...]


class Showcase:
    """Keeps pictures of the few images that are worth a look, while all of them pass by.

    Parameters
    ----------
    each : int
        Images of each kind.
    """

    def __init__(self, each: int = 3) -> None:
        self._each = each
        # Sorted by a key that is higher the more an image belongs there
        self._best: list[tuple[tuple[float, float, str], Shown]] = []
        self._worst: list[tuple[tuple[float, float, str], Shown]] = []
        self._disputed: list[tuple[tuple[float, float, str], Shown]] = []

    def add(self, scored: ScoredImage) -> None:
        """Draw one image if it is among the best, the worst or the most disputed so far."""
        ap50 = [m.score.ap50 for m in scored.models]
        mean_ap = [m.score.mean_ap for m in scored.models]
        good = (float(np.mean(ap50)), float(np.mean(mean_ap)))
        name = scored.entry.id
        keys = (
            (self._best, (*good, name), self._each),
            (self._worst, (-good[0], -good[1], name), self._each),
            # More than are shown, since some of them may be among the best or worst
            (self._disputed, (float(np.ptp(ap50)), float(np.ptp(mean_ap)), name), 3 * self._each),
        )
        shown = None
        for kept, key, most in keys:
            if len(kept) < most or key > kept[-1][0]:
                shown = shown or show(scored)
                kept.append((key, shown))
                kept.sort(key=lambda pair: pair[0], reverse=True)
                del kept[most:]

    def groups(self) -> dict[str, list[Shown]]:
        """Return the images by ``best``, ``worst`` and ``disputed``; none is in two groups."""
        taken: set[str] = set()
        groups = {}
        # Of few images only half can be the best
        count = len({s.entry.id for _, s in (*self._best, *self._worst)})
        limits = {"best": min(self._each, -(-count // 2)), "worst": self._each, "disputed": self._each}
        for title, kept in (("best", self._best), ("worst", self._worst), ("disputed", self._disputed)):
            fresh = [s for key, s in kept if s.entry.id not in taken and (title != "disputed" or key[0] > 0)]
            groups[title] = fresh[: limits[title]]
            taken |= {s.entry.id for s in groups[title]}
        return groups


def show(scored: ScoredImage) -> Shown:
    """Draw the window of an image in which the models err most."""
    window = worst_window(scored.true, [m.labels for m in scored.models])
    plain = plots.enlarged(plots.picture(scored.image)[window], PANEL_PX)
    true = plots.enlarged(scored.true[window], PANEL_PX)
    truth = plain.copy()
    plots.outline(truth, true, plots.TRUTH_COLOUR, 2)
    panels = []
    for model in scored.models:
        panels.append(plain.copy())
        _compare(panels[-1], scored.true, model.labels, window)
    return Shown(scored.entry, tuple(m.score for m in scored.models), plain, truth, tuple(panels))


def worst_window(true: Labels, predicted: Sequence[Labels], side: int = WINDOW_PX) -> tuple[slice, slice]:
    """Return the square in which the models disagree most with the truth; of equal ones, the one with most cells.

    Parameters
    ----------
    true : ndarray of uint16, shape (height, width)
    predicted : sequence of ndarray of uint16
    side : int
        Of the square in pixels, at most.
    """
    side = min(*true.shape, side)
    interest = 0.01 * (true > 0).astype(np.float64)
    for labels in predicted:
        interest += (labels > 0) != (true > 0)
    total = cv2.integral(interest)
    inside = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    if np.ptp(inside) < 1e-6:
        row, col = ((n - side) // 2 for n in true.shape)
    else:
        row, col = np.unravel_index(np.argmax(inside), inside.shape)
    return slice(int(row), int(row) + side), slice(int(col), int(col) + side)


def _compare(panel: Picture, true: Labels, predicted: Labels, window: tuple[slice, slice]) -> None:
    """Draw the cells that are matched, missed and added (both thicker); they are matched over the whole image."""
    match = metrics.matches(true, predicted)
    is_missed = np.concatenate(([False], ~match.any(axis=1)))
    is_extra = np.concatenate(([False], ~match.any(axis=0)))
    true, predicted = (plots.enlarged(labels[window], PANEL_PX) for labels in (true, predicted))
    plots.outline(panel, np.where(is_extra[predicted], 0, predicted).astype(np.uint16), MATCHED_COLOUR, 2)
    for labels, chosen, colour in ((true, is_missed, MISSED_COLOUR), (predicted, is_extra, EXTRA_COLOUR)):
        plots.outline(panel, np.where(chosen[labels], labels, 0).astype(np.uint16), colour, 3)
