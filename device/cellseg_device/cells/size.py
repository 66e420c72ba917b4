"""The size of an image's cells, estimated from the foreground alone, before they are separated."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt


def large_diameter_px(inside: npt.NDArray[np.uint8], reduction: int, at_least_px: float) -> int | None:
    """Return the diameter of typical cells, if they are large.

    Each component counts with the width of its widest place, which is about the same for touching and for single cells.
    The median is weighted by the components' areas, so that fragments and specks hardly count.

    Parameters
    ----------
    inside : ndarray of uint8, shape (h, w)
        0 outside cells.
    reduction : int
        Image pixels per pixel of `inside`, along an axis.
    at_least_px : float
        Diameter from which cells count as large.

    Returns
    -------
    int or None
        In pixels of the image; None if the typical cell is smaller than `at_least_px`, or there is none.
    """
    # Taxicab distance: in integers, and so the same on every machine; at the middle of a disc it is the radius
    depth = cv2.distanceTransform(
        cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L1, 3, dstType=0
    )
    least = int(at_least_px / (2 * reduction) + 0.5)
    deep = depth > least
    if not deep.any():
        return None
    count, found, stats, _ = cv2.connectedComponentsWithStats((depth > 0).astype(np.uint8), connectivity=4)
    deepest = np.zeros(count, np.int64)
    np.maximum.at(deepest, found[deep], depth[deep])
    order = np.argsort(deepest[1:], kind="stable") + 1
    area = np.cumsum(stats[order, cv2.CC_STAT_AREA], dtype=np.int64)
    middle = int(deepest[order[np.searchsorted(area * 2, area[-1])]])
    return (2 * middle - 1) * reduction if middle else None
