"""From light to counts: uneven illumination, shot and read noise, and the camera's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_host.synth.texture import Canvas, Shape


@dataclass(frozen=True)
class Camera:
    """A linear camera.

    Attributes
    ----------
    electrons_per_count : float
    read_noise_e : float
        Standard deviation of the read noise, electrons.
    offset : float
        Counts in the dark.
    top : int
        Highest count.
    """

    electrons_per_count: float
    read_noise_e: float
    offset: float
    top: int


def illumination(rng: np.random.Generator, shape: Shape, strength: float) -> Canvas:
    """Return the illumination of the field, 1 at its brightest: a parabola around an off-centre point.

    Parameters
    ----------
    rng : Generator
    shape : (height, width)
    strength : float
        Loss in the farthest corner of a centred field, 0 to 1.
    """
    centre = 0.5 + rng.normal(0, 0.18, 2)
    stretch = np.exp(rng.normal(0, 0.2, 2))
    rows = (np.arange(shape[0], dtype=np.float32)[:, None] + 0.5) / shape[0] - np.float32(centre[0])
    cols = (np.arange(shape[1], dtype=np.float32)[None, :] + 0.5) / shape[1] - np.float32(centre[1])
    fall = np.float32(stretch[0]) * rows**2 + np.float32(stretch[1]) * cols**2
    return np.asarray(np.maximum(1 - np.float32(2 * strength) * fall, 0.3), np.float32)


def expose(rng: np.random.Generator, signal: Canvas, camera: Camera) -> npt.NDArray[Any]:
    """Return an image of a mean signal.

    Electrons are Poisson, the read noise is Gaussian and the rest is rounding (EMVA Standard 1288, linear
    camera model).

    Parameters
    ----------
    rng : Generator
    signal : ndarray of float32
        Mean counts above the offset, any shape.
    camera : Camera

    Returns
    -------
    ndarray of uint8 where `camera.top` is 255, else uint16
    """
    electrons = np.maximum(signal, 0) * np.float32(camera.electrons_per_count)
    counts = _poisson(rng, electrons)
    counts += np.float32(camera.read_noise_e) * rng.standard_normal(signal.shape, dtype=np.float32)
    counts *= np.float32(1 / camera.electrons_per_count)
    counts += np.float32(camera.offset)
    dtype = np.uint8 if camera.top == 255 else np.uint16
    return np.clip(np.rint(counts), 0, camera.top).astype(dtype)


def _poisson(rng: np.random.Generator, mean: Canvas) -> Canvas:
    """Return random counts: Poisson for few electrons, its Gaussian limit (much faster) above 50."""
    out = mean + np.sqrt(mean) * rng.standard_normal(mean.shape, dtype=np.float32)
    few = mean < 50
    out[few] = rng.poisson(mean[few])
    return np.asarray(out, np.float32)
