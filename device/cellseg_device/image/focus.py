"""How sharp an image is, as one number: Brenner's gradient, made independent of the brightness of the light."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy.typing as npt

_APART_PX = 2


def score(pixels: npt.NDArray[Any]) -> float:
    """Return the sharpness of a field: higher is sharper, however bright the light.

    It is the root mean square difference of pixels two apart (along rows and columns), divided by the mean intensity.
    Blurring the image lowers it.

    Parameters
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)

    Returns
    -------
    float
        0 or more, without unit; 0 for a black image and for one less than three pixels wide and high.

    Notes
    -----
    Brenner's measure [1]_ is simple, has a single peak through focus, and is robust to noise, since pixels two apart
    differ about twice as much as direct neighbours; [2]_ compares it with others. Compare only fields that hold about
    the same number of cells: an empty field has few edges to be sharp.

    References
    ----------
    .. [1] J. F. Brenner et al., An automated microscope for cytologic research: a preliminary evaluation.
       Journal of Histochemistry and Cytochemistry 24(1), 100–111 (1976).
    .. [2] Y. Sun, S. Duthaler, B. J. Nelson, Autofocusing in computer microscopy: selecting the optimal focus
       algorithm. Microscopy Research and Technique 65(3), 139–149 (2004).
    """
    brightness = sum(mean**2 for mean in cv2.mean(pixels))  # by channel
    total = pairs = 0.0
    for near, far in (
        (pixels[:, :-_APART_PX], pixels[:, _APART_PX:]),
        (pixels[:-_APART_PX], pixels[_APART_PX:]),
    ):
        if near.size:
            total += cv2.norm(near, far, cv2.NORM_L2SQR)
            pairs += near.shape[0] * near.shape[1]
    return math.sqrt(total / pairs / brightness) if pairs and brightness else 0.0
