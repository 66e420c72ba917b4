"""Otsu's threshold and a watershed on the distance transform: OpenCV and NumPy alone."""

from __future__ import annotations

import cv2
import numpy as np


def otsu_labels(pixels: np.ndarray) -> np.ndarray:
    """Otsu's threshold, distance transform, watershed: https://docs.opencv.org/4.x/d3/db4/tutorial_py_watershed.html.

    Beyond the tutorial, nuclei are taken to be what covers less than half of the image, bright or dark.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB.

    Returns
    -------
    ndarray of uint16, shape (height, width)
    """
    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (5, 5), 0)
    _, mask = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if cv2.countNonZero(mask) > mask.size // 2:
        mask = cv2.bitwise_not(mask)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8), iterations=2)
    sure_background = cv2.dilate(mask, np.ones((3, 3), np.uint8), iterations=3)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    _, seeds = cv2.threshold(distance, 0.5 * distance.max(), 255, 0)
    seeds = seeds.astype(np.uint8)
    _, markers = cv2.connectedComponents(seeds)
    markers += 1
    markers[cv2.subtract(sure_background, seeds) == 255] = 0
    markers = cv2.watershed(pixels, markers)
    return np.where(markers > 1, markers - 1, 0).astype(np.uint16)
