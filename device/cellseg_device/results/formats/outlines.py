"""Outlines as text: a line x,y,x,y… for each cell, the format of Cellpose, which its ImageJ macro reads.

Unlike Cellpose's they run along the pixel borders. Holes and further parts of a cell are in its line too: the path goes
there and comes back the same way, so that nothing is filled between them, by either fill rule.
"""

from __future__ import annotations

from cellseg_device.cells.polygons import Ring
from cellseg_device.results.formats.content import Content


def encode(content: Content) -> bytes:
    """Return a result as lines of whole numbers, in the order of the labels."""
    lines = (
        ",".join(map(str, _path([ring for polygon in polygons for ring in polygon])))
        for polygons in content.polygons.values()
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _path(rings: list[Ring]) -> list[int]:
    """Return one closed path along all rings, with bridges between them along the pixel grid."""
    path: list[int] = rings[0].ravel().tolist()
    back: list[int] = []
    x, y = path[:2]
    for ring in rings[1:]:
        next_x, next_y = ring[0].tolist()
        path += [x, y, next_x, y, *ring.ravel().tolist()]
        back = [next_x, y, x, y, *back]
        x, y = next_x, next_y
    return [*path, x, y, *back] if back else path
