"""The positions of nuclei: alone, touching, in clusters and rows; and the exact labels that follow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_host.synth.nuclei import Nucleus
from cellseg_host.synth.texture import Shape, noise

# A position with the direction of a nucleus there; None leaves the direction to chance
Maker = Callable[[float, float, float | None], Nucleus]

_TRIES = 40
_GIVE_UP_AFTER = 60  # nuclei in a row without room: the field is full
_GAP_PX = 2
_MAX_OVERLAP = 0.16  # share of the smaller of the two


@dataclass(frozen=True)
class Plan:
    """How nuclei are spread.

    Attributes
    ----------
    cells : int
    touching : float
        Share of them that touch another.
    cluster : float
        Mean number in a touching group (2 or more).
    rows : bool
        Groups are palisades (side by side, as in epithelium) instead of clumps.
    clumping : float
        Contrast of the density over the field: 0 is even.
    """

    cells: int
    touching: float
    cluster: float = 2.8
    rows: bool = False
    clumping: float = 0.8


@dataclass(frozen=True, eq=False)
class Layout:
    """The nuclei in place.

    Attributes
    ----------
    labels : ndarray of int32, shape (height, width)
        1…n in raster order of each nucleus' first pixel.
    depth_px : ndarray of float32, shape (height, width)
        Distance to the outline of the pixel's own nucleus, as if it were alone and the image had no border.
    overlap : ndarray of bool, shape (height, width)
        True where two nuclei overlap: both are in the light path.
    nuclei : list of Nucleus
        The nucleus of label k is at k - 1.
    centres : ndarray of float64, shape (n, 2)
        (row, col); may lie beyond the border.
    """

    labels: npt.NDArray[np.int32]
    depth_px: npt.NDArray[np.float32]
    overlap: npt.NDArray[np.bool_]
    nuclei: list[Nucleus]
    centres: npt.NDArray[np.float64]


@dataclass(eq=False)
class _Board:
    """The field while nuclei are being placed on it."""

    labels: npt.NDArray[np.int32]
    depth_px: npt.NDArray[np.float32]
    overlap: npt.NDArray[np.bool_]
    nuclei: list[Nucleus] = field(default_factory=list)
    centres: list[tuple[int, int]] = field(default_factory=list)


def place(rng: np.random.Generator, shape: Shape, plan: Plan, diameter_px: float, make: Maker) -> Layout:
    """Return nuclei placed on a field.

    Parameters
    ----------
    rng : Generator
    shape : (height, width)
    plan : Plan
    diameter_px : float
        Typical diameter, for the distances tried.
    make : callable
        ``make(row, col, angle or None) -> Nucleus``.

    Returns
    -------
    Layout
        With `plan.cells` nuclei, or fewer if the field is full.
    """
    board = _Board(np.zeros(shape, np.int32), np.zeros(shape, np.float32), np.zeros(shape, bool))
    sites = _Sites(rng, shape, plan, 0.35 * diameter_px)
    wanted = round(plan.touching * plan.cells)
    wanted = 2 if wanted == 1 and plan.cells > 1 else wanted
    grouped = _place_groups(board, plan, wanted, sites, make) if wanted > 1 else 0
    missed = 0
    for _ in range(plan.cells - grouped):
        missed = 0 if _place_alone(board, sites, make) else missed + 1
        if missed >= _GIVE_UP_AFTER:
            break
    return _finish(board)


class _Sites:
    """Yield endless positions, denser where a smooth random density is high; some just beyond the border."""

    def __init__(self, rng: np.random.Generator, shape: Shape, plan: Plan, margin: float) -> None:
        self.rng, self._margin = rng, margin
        self._size = (shape[0] + 2 * margin, shape[1] + 2 * margin)
        self._grid = (24, 24)
        density = np.exp(plan.clumping * noise(rng, self._grid, 4.0).astype(np.float64)).ravel()
        self._weights = np.cumsum(density / density.sum())

    def draw(self) -> tuple[float, float]:
        cell = min(int(np.searchsorted(self._weights, self.rng.random())), self._weights.size - 1)
        place = np.array(divmod(cell, self._grid[1])) + self.rng.random(2)
        row, col = place / self._grid * self._size - self._margin
        return float(row), float(col)


def _place_alone(board: _Board, sites: _Sites, make: Maker) -> bool:
    nucleus = None
    for _ in range(_TRIES):
        row, col = sites.draw()
        if nucleus is None:  # one outline for all tries, unless the flow of the tissue turns it
            nucleus = make(row, col, None)
        if _is_free(board, nucleus, (int(row), int(col))):
            _put(board, nucleus, (int(row), int(col)))
            return True
    return False


def _place_groups(board: _Board, plan: Plan, wanted: int, sites: _Sites, make: Maker) -> int:
    """Place groups of touching nuclei until there are `wanted` or no room is left; return their number."""
    placed, missed = 0, 0
    while placed < wanted and missed < _GIVE_UP_AFTER:
        left = wanted - placed
        size = min(2 + int(sites.rng.geometric(1 / max(plan.cluster - 1, 1.0))) - 1, left)
        size = left if left - size == 1 else size  # no single nucleus is left over
        grown = _grow_group(board, size, sites, make, rows=plan.rows)
        placed += grown
        missed = 0 if grown else missed + 1
    return placed


def _grow_group(board: _Board, size: int, sites: _Sites, make: Maker, *, rows: bool) -> int:
    rng = sites.rng
    for attempt in range(_TRIES):
        row, col = sites.draw()
        if attempt % 10 == 0:  # drawing an outline costs more than trying a position
            first = make(row, col, None)
        if _is_free(board, first, (int(row), int(col))):
            break
    else:
        return 0
    height, width = board.labels.shape
    # The first of a group lies inside the field; otherwise its only partner might lie beyond the border.
    centre = (min(max(int(row), 0), height - 1), min(max(int(col), 0), width - 1))
    if not _is_free(board, first, centre):
        return 0
    _put(board, first, centre)
    start = len(board.nuclei)
    members = [start]
    turn = rng.normal(0, 0.08)
    side = 1.0
    for _ in range(size - 1):
        for attempt in range(12):
            anchor = members[-1] if rows else members[int(rng.integers(len(members)))]
            at, of = board.centres[anchor - 1], board.nuclei[anchor - 1]
            if rows:
                if attempt == 6:  # this end is blocked: continue at the other
                    members.reverse()
                    side, anchor = -side, members[-1]
                    at, of = board.centres[anchor - 1], board.nuclei[anchor - 1]
                angle: float | None = of.angle + turn + rng.normal(0, 0.12)
                heading = of.angle + side * math.pi / 2 + rng.normal(0, 0.25)
            else:
                angle, heading = None, rng.uniform(0, 2 * math.pi)
            if rows or attempt % 4 == 0:
                nucleus = make(at[0], at[1], angle)
            if _attach(rng, board, nucleus, anchor, heading):
                members.append(len(board.nuclei))
                break
    if len(members) == 1 and size > 1:
        _take_back(board)
        return 0
    return len(members)


def _attach(rng: np.random.Generator, board: _Board, nucleus: Nucleus, anchor: int, heading: float) -> bool:
    """Slide a nucleus towards its anchor until they overlap a little; refuse deep overlaps."""
    at, of = board.centres[anchor - 1], board.nuclei[anchor - 1]
    area = min(nucleus.area_px, of.area_px)
    # Most just touch, which leaves a neck between them; a few overlap well.
    contact = max(2.0, area * 0.08 * rng.beta(1.0, 4.0))
    far = of.long_px + nucleus.long_px + 2
    step = max(1.0, 0.03 * far)
    distance = far
    while distance > 0.2 * far:
        centre = (round(at[0] + distance * math.sin(heading)), round(at[1] + distance * math.cos(heading)))
        here = _window(board, nucleus, centre)
        if here is None:
            return False
        image, patch = here
        under = board.labels[image][nucleus.mask[patch]]
        on_anchor = int(np.count_nonzero(under == anchor))
        others = int(np.count_nonzero(under)) - on_anchor
        if on_anchor + others > max(_MAX_OVERLAP * area, 3) or others > max(0.07 * area, 1):
            return False
        if on_anchor >= contact:
            if not _is_visible(board, nucleus, under.size):
                return False
            _put(board, nucleus, centre)
            return True
        distance -= step
    return False


def _window(
    board: _Board, nucleus: Nucleus, centre: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """Return slices of the board and of the nucleus' patch where they meet, None if they do not."""
    image, patch = [], []
    for middle, extent, size in zip(centre, nucleus.mask.shape, board.labels.shape, strict=True):
        start = middle - extent // 2
        low, high = max(start, 0), min(start + extent, size)
        if low >= high:
            return None
        image.append(slice(low, high))
        patch.append(slice(low - start, high - start))
    return (image[0], image[1]), (patch[0], patch[1])


def _is_visible(board: _Board, nucleus: Nucleus, visible_px: int) -> bool:
    """Return whether enough is inside the border to count as a nucleus: a twelfth of it, or half of a tiny image."""
    return visible_px >= min(max(nucleus.area_px / 12, 3), board.labels.size / 2)


def _is_free(board: _Board, nucleus: Nucleus, centre: tuple[int, int]) -> bool:
    here = _window(board, nucleus, centre)
    if here is None:
        return False
    image, patch = here
    mask = nucleus.mask[patch]
    if not _is_visible(board, nucleus, int(np.count_nonzero(mask))):
        return False
    labels = board.labels[image]
    if not labels.any():  # the patch's own margin is the gap
        return True
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((2 * _GAP_PX + 1,) * 2, np.uint8))
    return not labels[grown > 0].any()


def _put(board: _Board, nucleus: Nucleus, centre: tuple[int, int]) -> None:
    """Add a nucleus; where two overlap, a pixel goes to the one in which it lies deeper, so contacts are flat."""
    here = _window(board, nucleus, centre)
    assert here is not None
    image, patch = here
    labels, depth = board.labels[image], board.depth_px[image]
    mask, own = nucleus.mask[patch], nucleus.depth_px[patch]
    both = mask & (labels > 0)
    board.overlap[image] |= both
    wins = mask & (own > depth)
    board.nuclei.append(nucleus)
    board.centres.append(centre)
    labels[wins] = len(board.nuclei)
    depth[wins] = own[wins]


def _take_back(board: _Board) -> None:
    """Remove the last nucleus; it was placed alone, so nothing lies under it."""
    here = _window(board, board.nuclei[-1], board.centres[-1])
    assert here is not None
    labels, depth = board.labels[here[0]], board.depth_px[here[0]]
    gone = labels == len(board.nuclei)
    labels[gone], depth[gone] = 0, 0
    board.nuclei.pop()
    board.centres.pop()


def _finish(board: _Board) -> Layout:
    """Return labels of one component each, numbered in raster order without gaps."""
    labels = board.labels
    for number, (nucleus, centre) in enumerate(zip(board.nuclei, board.centres, strict=True), start=1):
        here = _window(board, nucleus, centre)
        if here is not None:
            _keep_largest_piece(labels[here[0]], number)
    flat = labels.ravel()
    inside = np.flatnonzero(flat)
    first = np.full(len(board.nuclei) + 1, flat.size, np.int64)
    np.minimum.at(first, flat[inside], inside)
    order = [int(k) for k in np.argsort(first[1:], kind="stable") + 1 if first[k] < flat.size]
    table = np.zeros(len(board.nuclei) + 1, np.int32)
    table[order] = np.arange(1, len(order) + 1)
    return Layout(
        table[labels],
        np.where(labels > 0, board.depth_px, np.float32(0)),
        board.overlap & (labels > 0),
        [board.nuclei[k - 1] for k in order],
        np.array([board.centres[k - 1] for k in order], np.float64).reshape(-1, 2),
    )


def _keep_largest_piece(labels: npt.NDArray[np.int32], number: int) -> None:
    own = labels == number
    pieces, parts, stats, _ = cv2.connectedComponentsWithStats(own.astype(np.uint8), connectivity=4)
    if pieces > 2:
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        labels[own & (parts != largest)] = 0
