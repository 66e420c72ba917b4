"""The maps that the network learns to predict, drawn from instance labels.

Each target is a function of labels, uint16 (height, width), that returns float32 (height, width) in [0, 1].
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
    """Return 1 in each nucleus, 0 outside."""
    return (labels > 0).astype(np.float32)


def outline(labels: Labels) -> Map:
    """Return the borders of nuclei, widened: exp(−d² / 2σ²), d the distance to the nearest border, σ = `OUTLINE_PX`.

    A border pixel belongs to a nucleus and has a 4-neighbour outside or in another nucleus; the edge of the image is
    not a border.
    """
    border = _border(labels)
    if not border.any():
        return np.zeros(labels.shape, np.float32)
    away = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    drawn: Map = np.exp(away * away * np.float32(-0.5 / OUTLINE_PX**2))
    return drawn


def distance(labels: Labels) -> Map:
    """Return the distance to the nucleus's own border, 1 at its deepest pixel.

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
    """Return a Gaussian at the middle of each nucleus: 1 there, 0 outside the nucleus.

    exp(−r² / 2s²), r the distance to the middle, s half the radius of a disc of the nucleus's area: unchanged by
    scaling. The middle is the deepest pixel (of several, the one nearest to the centroid): unlike the centroid it is
    always inside the nucleus. The idea is from [1]_.

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


# By head; `presence` describes a view as a whole (see `feed.views`)
TARGETS: dict[str, Callable[[Labels], Map]] = {
    "foreground": foreground,
    "outline": outline,
    "distance": distance,
    "centre": centre,
}
# Targets whose values do not change when the image is scaled or bent: drawn once, then warped with the image
WARPED = ("distance", "centre")


def border_weight(labels: Labels, reach_px: float = 4.0) -> Map:
    """Return up to 1 where two nuclei are within about half of `reach_px` of a pixel, falling to 0 around.

    After U-Net's border weight [1]_: these few pixels decide whether two nuclei are counted as one.

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
    weight: Map = cv2.GaussianBlur(near_two, (0, 0), reach_px / 4)
    return weight


def _depth(labels: Labels) -> Map:
    """Return the distance in pixels to the nucleus's own border, 1 on it."""
    # Pixels on a border between two nuclei are outside for the transform: it then never reaches across.
    inside = (labels > 0) & ~_border(labels, touching=True)
    to_border: Map = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return to_border + (labels > 0)  # so that border pixels count as one deep


def _border(labels: Labels, *, touching: bool = False) -> npt.NDArray[np.bool_]:
    """Return which pixels of a nucleus have a 4-neighbour in another one or, unless `touching`, in the background."""
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
