"""What the network learns to draw, from instance labels.

Each target is a function of labels, uint16 (height, width), that gives float32 (height, width) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Labels = npt.NDArray[np.uint16]
Map = npt.NDArray[np.float32]

OUTLINE_PX = 1.5  # standard deviation of the outline's width


def foreground(labels: Labels) -> Map:
    """1 in a nucleus, 0 outside."""
    return (labels > 0).astype(np.float32)


def outline(labels: Labels) -> Map:
    """Borders of nuclei, widened: exp(−d² / 2σ²), d the distance to the nearest border pixel, σ = `OUTLINE_PX`.

    A border pixel is one of a nucleus with a 4-neighbour outside or in another nucleus; where the image cuts a
    nucleus is no border.
    """
    border = _border(labels)
    if not border.any():
        return np.zeros(labels.shape, np.float32)
    away = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.exp(away * away * np.float32(-0.5 / OUTLINE_PX**2))


def distance(labels: Labels) -> Map:
    """Distance to the nucleus's own border, 1 at its deepest pixel.

    Normalised per nucleus, so that a threshold finds the core of a small and of a large one alike, and unchanged
    by scaling. Touching nuclei have a valley between them.
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    depth = _depth(labels)
    deepest = ndimage.maximum(depth, labels, np.arange(int(labels.max()) + 1))
    scale = np.where(deepest > 0, 1 / np.maximum(deepest, 1e-6), 0).astype(np.float32)
    scale[0] = 0
    return (depth * scale[labels]).astype(np.float32)


def centre(labels: Labels) -> Map:
    """A Gaussian at the middle of each nucleus, 1 there, and 0 outside the nucleus.

    exp(−r² / 2s²), r the distance to the middle, s half the radius of a disc of the nucleus's area: unchanged by
    scaling. The middle is the deepest pixel (the one nearest to the centroid, where there are several), which unlike
    the centroid lies in the nucleus whatever its shape. The idea is that of [1]_.

    References
    ----------
    .. [1] B. Cheng et al., Panoptic-DeepLab: a simple, strong, and fast baseline for bottom-up panoptic segmentation.
       CVPR 2020.
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    rows, cols = np.nonzero(labels)
    numbers = labels[rows, cols]
    area = np.bincount(numbers)
    full = np.maximum(area, 1)
    depth = _depth(labels)[rows, cols]
    from_centroid = np.hypot(
        rows - (np.bincount(numbers, rows) / full)[numbers], cols - (np.bincount(numbers, cols) / full)[numbers]
    )
    # The last of each nucleus is the deepest, and of those the nearest to the centroid
    order = np.lexsort((-from_centroid, depth, numbers))
    middle = order[np.cumsum(area)[numbers[order]] - 1]
    squared = (rows[order] - rows[middle]) ** 2 + (cols[order] - cols[middle]) ** 2
    drawn = np.zeros(labels.shape, np.float32)
    drawn[rows[order], cols[order]] = np.exp(-2 * np.pi * squared / area[numbers[order]])  # 2 s² = area / 2π
    return drawn


# By head; `presence` is of a view as a whole (see `feed.views`).
TARGETS: dict[str, Callable[[Labels], Map]] = {
    "foreground": foreground,
    "outline": outline,
    "distance": distance,
    "centre": centre,
}
# Those whose values do not change when the image is scaled or bent: drawn once for an image, then warped with it
WARPED = ("distance", "centre")


def gap_weight(labels: Labels, reach_px: float = 4.0) -> Map:
    """High where two nuclei are within about half of `reach_px` of a pixel, falling to 0 around; at most 1.

    The idea of U-Net's border weight [1]_: the few pixels that decide whether two nuclei are counted as one.

    References
    ----------
    .. [1] O. Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation. MICCAI 2015.
    """
    if labels.max(initial=0) < 2:
        return np.zeros(labels.shape, np.float32)
    # Where a maximum and a minimum filter over the labels see two different nuclei
    size = int(reach_px) // 2 * 2 + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    highest = cv2.dilate(labels, kernel)
    lowest = cv2.erode(np.where(labels == 0, np.uint16(65_535), labels), kernel)
    near_two = ((highest != lowest) & (lowest != 65_535)).astype(np.float32)
    return cv2.GaussianBlur(near_two, (0, 0), reach_px / 4)


def _depth(labels: Labels) -> Map:
    """Distance in px to the nucleus's own border, 1 on it."""
    # Pixels on a border between two nuclei are outside for the transform: it then never reaches across.
    inside = (labels > 0) & ~_border(labels, touching=True)
    to_border = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return to_border + (labels > 0)  # so that border pixels count as one deep


def _border(labels: Labels, touching: bool = False) -> npt.NDArray[np.bool_]:
    """Pixels of a nucleus with a 4-neighbour in another nucleus or, unless only `touching` counts, in none."""
    border = np.zeros(labels.shape, bool)
    for here, there in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        other = (labels[here] != labels[there]) & (labels[here] > 0)
        border[here] |= other & (labels[there] > 0) if touching else other
    return border
