"""One field from its settings and seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_host.synth import fluorescence, histology
from cellseg_host.synth.settings import SynthSettings

_MAKERS = {"fluorescence": fluorescence.make, "histology": histology.make}


def make_field(settings: SynthSettings, seed: int | Sequence[int]) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint16]]:
    """Return a synthetic field of view.

    Parameters
    ----------
    settings : SynthSettings
    seed : int or sequence of int
        Non-negative; ``(seed, index)`` makes independent fields of one series. The same settings and seed
        give the same field on one machine with one set of library versions.

    Returns
    -------
    image : ndarray, uint8 or uint16
        (height, width) for fluorescence, (height, width, 3) RGB for histology.
    labels : ndarray of uint16, shape (height, width)
        0 is background; 1…n without gaps, in raster order of each nucleus' first pixel, each one 4-connected
        component.
    """
    image, layout = _MAKERS[settings.kind](settings, np.random.default_rng(np.random.SeedSequence(seed)))
    return image, layout.labels.astype(np.uint16)
