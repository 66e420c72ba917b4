"""Where the tiles of an image lie, and which part of each is kept.

Where a tile ends, the network cannot see further, and its output is less accurate. So neighbouring tiles overlap by
twice a margin, and of each tile only the part at least a margin away from a cut is kept. Tiles start at multiples
of the network's stride, so that a pixel has the same place in the network's grids in every tile; with a margin as
large as the receptive field, the stitched maps then equal those of the whole image bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

_LEAST_KEPT = 128


@dataclass(frozen=True)
class Tile:
    """One tile; rows and columns are those of the image padded to whole strides.

    Attributes
    ----------
    row, col : int
        First row and column of the network's input.
    keep_rows, keep_cols : tuple of int
        Half-open range of rows and of columns, in the padded image, whose output is kept.
    """

    row: int
    col: int
    keep_rows: tuple[int, int]
    keep_cols: tuple[int, int]


@dataclass(frozen=True)
class TilePlan:
    """All tiles of an image, of one size.

    Attributes
    ----------
    height, width : int
        Size of the stitched maps: the image's, rounded up to whole strides.
    tile_height, tile_width : int
        Size of every tile.
    tiles : tuple of Tile
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    tiles: tuple[Tile, ...]


def plan_fixed(height: int, width: int, tile: tuple[int, int], margin: int, stride: int) -> TilePlan:
    """Return tiles of a fixed size, for a network with a static shape.

    Parameters
    ----------
    height, width : int
        Image size in pixels.
    tile : tuple of int
        (height, width) of the network's input, multiples of `stride` larger than twice `margin`.
    margin : int
        Pixels, a multiple of `stride`, that are dropped along every cut.
    stride : int
        Largest stride in the network.

    Returns
    -------
    TilePlan
    """
    rows = _spans(_round_up(height, stride), tile[0], margin)
    cols = _spans(_round_up(width, stride), tile[1], margin)
    tiles = tuple(Tile(r, c, kr, kc) for r, kr in rows for c, kc in cols)
    return TilePlan(_round_up(height, stride), _round_up(width, stride), *tile, tiles)


def plan_free(height: int, width: int, max_tile_px: int, margin: int, stride: int) -> TilePlan:
    """Return equal tiles of at most `max_tile_px` pixels, for a network that takes any size.

    Of all grids, it is the one with the fewest pixels to compute: an image that fits is one tile, without overlap.
    If the margins leave no room for tiles that small, they are as small as is sensible.
    """
    rows, cols = _sides(height, margin, stride), _sides(width, margin, stride)
    grids = [(r, c) for r in rows for c in cols if rows[r] * cols[c] <= max_tile_px]
    best = min(grids or [(len(rows), len(cols))], key=lambda grid: grid[0] * rows[grid[0]] * grid[1] * cols[grid[1]])
    return plan_fixed(height, width, (rows[best[0]], cols[best[1]]), margin, stride)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _sides(length: int, margin: int, stride: int) -> dict[int, int]:
    """Return the side of the tiles by the number of tiles along an axis.

    The numbers end where a tile would keep less than twice its margins or than `_LEAST_KEPT` pixels, because smaller
    tiles gain nothing.
    """
    padded = _round_up(length, stride)
    sides = {1: padded}
    while True:
        count = len(sides) + 1
        kept = _round_up(-(-(padded - 2 * margin) // count), stride)
        if kept < max(4 * margin, _LEAST_KEPT) or count > padded // stride:
            return sides
        sides[count] = kept + 2 * margin


def _spans(length: int, side: int, margin: int) -> list[tuple[int, tuple[int, int]]]:
    """Return (start, (keep from, keep to)) of each tile along one axis; the kept ranges have no gap or overlap."""
    if length <= side:
        return [(0, (0, length))]
    step = side - 2 * margin
    starts = [*range(0, length - side, step), length - side]
    spans = []
    keep_from = 0
    for index, start in enumerate(starts):
        last = index == len(starts) - 1
        keep_to = length if last else start + side - margin
        spans.append((start, (keep_from, keep_to)))
        keep_from = keep_to
    return spans
