"""Faults of images, in three strengths each: pure functions that make a field harder, together with its truth.

Those of the camera and the objective are here, those of the slide and of what lies beside the cells in `scene_faults`.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import instances
from cellseg_device.image import decode
from cellseg_host.synth import scene_faults
from cellseg_host.synth.fault import WHITE, Fault, Field, in_bytes, in_place, in_range

STRENGTHS = ("mild", "middle", "strong")
MAX_PX = 16_000_000  # an image that magnification would make larger is first cropped to its middle

_ELECTRONS_A_LEVEL = 4.0
_READ_NOISE_E = 2.0
_FULL_WELL_E = 10_000.0
_DARK_LEVELS = 4


def faulty(field: Field, name: str, strength: int, image_id: str) -> Field:
    """Return the field with one of `FAULTS`; always the same for the same arguments.

    Parameters
    ----------
    field : Field
    name : str
    strength : int
        Index into `STRENGTHS`.
    image_id : str
        Seeds the random numbers, with the fault and the strength.
    """
    fault = FAULTS[name]
    seed = zlib.crc32(f"{image_id} {name} {strength}".encode())
    return fault.apply(field, fault.strengths[strength], np.random.default_rng(seed))


def magnified(field: Field, diameter_px: float, rng: np.random.Generator) -> Field:
    """Return the field scaled so that the median cell has this diameter.

    Smaller by area averaging, as larger pixels would see it; larger by cubic interpolation: rounder and smoother than
    what a stronger objective shows. The truth is scaled to the nearest pixel. A cell that has no pixel left is none;
    all others count, those that are smaller than the model's smallest cell too, since a user would miss them. A field
    without a cell has no size to be scaled from and stays as it is.
    """
    if not field.diameter_px:
        return field
    ratio = diameter_px / field.diameter_px
    pixels, labels = _middle(field.pixels, ratio), _middle(field.labels, ratio)
    height, width = (max(round(n * ratio), 1) for n in labels.shape)
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return Field(cv2.resize(pixels, (width, height), interpolation=how), instances.number(scaled, 1), diameter_px)


def _middle(values: npt.NDArray[Any], ratio: float) -> npt.NDArray[Any]:
    """Return the middle of an image, with at most `MAX_PX` pixels after scaling."""
    share = min(math.sqrt(MAX_PX / (values.shape[0] * values.shape[1])) / ratio, 1.0)
    height, width = (max(int(n * share), 1) for n in values.shape[:2])
    top, left = (values.shape[0] - height) // 2, (values.shape[1] - width) // 2
    return np.ascontiguousarray(values[top : top + height, left : left + width])


def in_sixteen_bits(field: Field, top: float, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Return 16-bit pixels of a camera with an offset, whose cells reach nine tenths of `top` counts."""
    offset = min(top / 20, 200)
    counts = offset + (0.9 * top - offset) * in_range(field.pixels)
    pixels: npt.NDArray[np.uint16] = np.rint(np.clip(counts, 0, top)).astype(np.uint16)
    return pixels


def dim(field: Field, levels: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return few grey levels from background to the brightest cells, with the noise of so little light.

    Four electrons make a grey level and one level of light is everywhere; electrons are Poisson, and the camera
    adds a read noise of two.
    """
    electrons = rng.poisson(_ELECTRONS_A_LEVEL * (levels * np.maximum(in_range(field.pixels), 0) + 1))
    read = electrons + rng.normal(0, _READ_NOISE_E, electrons.shape)
    return np.clip(np.rint(read / _ELECTRONS_A_LEVEL + _DARK_LEVELS), 0, 255).astype(np.uint8)


def noisy(field: Field, deviation: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Add Gaussian noise, independent in every value."""
    clean = in_range(field.pixels)
    return in_bytes(clean + np.float32(deviation) * rng.standard_normal(clean.shape, np.float32))


def blurred(field: Field, part: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Blur by a Gaussian whose standard deviation is this share of the median diameter."""
    return in_bytes(cv2.GaussianBlur(in_range(field.pixels), (0, 0), part * max(field.diameter_px, 1.0)))


def inverted(field: Field, taken: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return dark cells in bright light (stained tissue: bright on dark), which absorb up to this share of it.

    The light has the noise of 10,000 electrons, the full well of a usual camera: the weaker the contrast, the more the
    noise shows.
    """
    passed = np.clip(1 - np.float32(taken) * in_range(field.pixels), 0, None)
    electrons = rng.poisson(_FULL_WELL_E * passed)
    pixels: npt.NDArray[np.uint8] = np.clip(np.rint(electrons * (WHITE / _FULL_WELL_E)), 0, 255).astype(np.uint8)
    return pixels


def compressed(field: Field, quality: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Pass the image through a JPEG file of this quality; colours at half resolution, as usual."""
    pixels = in_bytes(in_range(field.pixels))
    stored = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return decode.decode(data.tobytes()).pixels


FAULTS = {
    "small nuclei": Fault(magnified, (12, 10, 8), "px median diameter"),
    "large nuclei": Fault(magnified, (40, 65, 100), "px median diameter"),
    "16 bit": Fault(in_place(in_sixteen_bits), (65_535, 4_095, 1_023), "highest count"),
    "dim": Fault(in_place(dim), (64, 24, 10), "grey levels"),
    "noisy": Fault(in_place(noisy), (0.03, 0.08, 0.15), "of the range, standard deviation"),
    "blurred": Fault(in_place(blurred), (0.05, 0.1, 0.2), "median diameters, standard deviation"),
    "inverted": Fault(in_place(inverted), (0.8, 0.3, 0.12), "of the light taken by the brightest cells"),
    "JPEG": Fault(in_place(compressed), (70, 40, 15), "quality"),
    **scene_faults.FAULTS,
}
