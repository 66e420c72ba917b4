"""What the network learns to draw, from instance labels."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage


def distance(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Distance to the nucleus's own border, 1 at its deepest pixel.

    Normalised per nucleus, so that a threshold finds the core of a small and of a large one alike, and unchanged
    by scaling. Touching nuclei have a valley between them.

    Parameters
    ----------
    labels : ndarray of uint16, shape (height, width)

    Returns
    -------
    ndarray of float32, shape (height, width)
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    # Pixels on a border between two nuclei are outside for the transform: it then never reaches across.
    inside = (labels > 0) & ~_touching_border(labels)
    to_border = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    to_border += labels > 0  # so that border pixels count as one deep
    deepest = ndimage.maximum(to_border, labels, np.arange(labels.max() + 1))
    scale = np.where(deepest > 0, 1 / np.maximum(deepest, 1e-6), 0).astype(np.float32)
    scale[0] = 0
    return (to_border * scale[labels]).astype(np.float32)


def gap_weight(labels: npt.NDArray[np.uint16], reach_px: float = 4.0) -> npt.NDArray[np.float32]:
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


def _touching_border(labels: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """Pixels with a 4-neighbour in another nucleus."""
    border = np.zeros(labels.shape, bool)
    for here, there in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        border[here] |= (labels[here] != labels[there]) & (labels[here] > 0) & (labels[there] > 0)
    return border
