"""Images in bands of rows, so that what is computed on the way to a result does not take several times its memory."""

from __future__ import annotations

from collections.abc import Iterator

BAND_PX = 250_000


def bands(height: int, width: int, multiple: int = 1) -> Iterator[slice]:
    """Yield the rows of an image in bands of about `BAND_PX` pixels, from the top.

    Parameters
    ----------
    height, width : int
    multiple : int
        Every band but the last has a multiple of this number of rows.
    """
    rows = max(BAND_PX // max(width, 1) // multiple, 1) * multiple
    for begin in range(0, height, rows):
        yield slice(begin, min(begin + rows, height))
