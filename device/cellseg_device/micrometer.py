"""The pixel size from an image of a stage micrometer: its lines repeat at a known distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ImageError

_SIDE_PX = 2048  # enough for a hundred lines
_FEWEST_LINES = 4
_HARMONICS = 8
# Height of the strongest peak over the median of the spectrum: what has no lines stays far below
_LEAST_CONTRAST = 50.0


@dataclass(frozen=True)
class Lines:
    """Equally spaced parallel lines in an image.

    Attributes
    ----------
    spacing_px : float
        Distance of two neighbouring lines, at a right angle to them.
    angle_deg : float
        Of the direction across the lines, against the rows; −90 to 90.
    count : int
        How many spacings the image holds along that direction, about.
    """

    spacing_px: float
    angle_deg: float
    count: int


def find_lines(pixels: npt.NDArray[Any]) -> Lines:
    """Find the lines of a stage micrometer, whatever their direction.

    Parameters
    ----------
    pixels : ndarray, shape (height, width) or (height, width, 3)

    Raises
    ------
    ImageError
        If there are no equally spaced lines, or fewer than four.

    Notes
    -----
    Equally spaced lines are a comb in the two-dimensional spectrum. The fundamental is the lowest frequency whose
    multiples together hold most of the power: a line thinner than the space between has many, and longer marks at each
    fifth or tenth line add weaker peaks below. The peak is then refined by a parabola through its logarithm, on the
    highest harmonic that stands out, which divides the error by its number.
    """
    grey = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    height, width = (min(n, _SIDE_PX) for n in grey.shape)
    if min(height, width) < 16:
        raise ImageError("is too small to show a scale")
    top, left = (grey.shape[0] - height) // 2, (grey.shape[1] - width) // 2
    part = grey[top : top + height, left : left + width].astype(np.float32)
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    power = np.abs(np.fft.rfft2((part - part.mean()) * window)).astype(np.float64)
    spectrum = _Spectrum(power, height, width)
    power[spectrum.cycles() < _FEWEST_LINES] = 0  # the light's slope
    strongest = spectrum.peak_near(*np.unravel_index(int(power.argmax()), power.shape))
    if power.max() < _LEAST_CONTRAST * max(float(np.median(power)), 1e-9):
        raise ImageError("shows no equally spaced lines: focus on the scale, and fill the field with it")
    best, best_power = strongest, 0.0
    for divisor in (1, 2, 3):  # the strongest peak may be a harmonic
        trial = (strongest[0] / divisor, strongest[1] / divisor)
        total = _comb_power(spectrum, trial) / math.sqrt(divisor)
        if total > 1.2 * best_power:
            best, best_power = trial, total
    fy, fx = _refined(spectrum, best)
    frequency = math.hypot(fy, fx)
    across = abs(fy) / frequency * height + abs(fx) / frequency * width
    angle = math.degrees(math.atan2(fy, fx))
    return Lines(1 / frequency, (angle + 90) % 180 - 90, int(min(across, max(height, width)) * frequency))


@dataclass(frozen=True)
class _Spectrum:
    """Magnitudes of a real image's spectrum, addressed by frequency in cycles per pixel."""

    power: npt.NDArray[np.float64]
    height: int
    width: int

    def cycles(self) -> npt.NDArray[np.float64]:
        """Cycles over the shorter side, for every bin."""
        fy = np.fft.fftfreq(self.height)[:, None]
        fx = np.fft.rfftfreq(self.width)[None, :]
        return np.hypot(fy, fx) * min(self.height, self.width)

    def bins(self, frequency: tuple[float, float]) -> tuple[int, int] | None:
        """The bin next to a frequency; None beyond the highest one."""
        fy, fx = frequency if frequency[1] >= 0 else (-frequency[0], -frequency[1])
        if max(abs(fy), fx) > 0.5 - 2 / min(self.height, self.width):
            return None
        return round(fy * self.height) % self.height, round(fx * self.width)

    def peak_near(self, row: Any, col: Any) -> tuple[float, float]:
        """Frequency of the highest bin within one of this, refined by parabolas."""
        rows = [(int(row) + step) % self.height for step in (-1, 0, 1)]
        cols = [min(max(int(col) + step, 0), self.power.shape[1] - 1) for step in (-1, 0, 1)]
        near = self.power[np.ix_(rows, cols)]
        at = np.unravel_index(int(near.argmax()), near.shape)
        row, col = rows[at[0]], cols[at[1]]
        dy = _vertex([self.power[(row + step) % self.height, col] for step in (-1, 0, 1)])
        mirrored = [abs(col + step) for step in (-1, 0, 1)]
        dx = _vertex([self.power[row, c] if c < self.power.shape[1] else 0.0 for c in mirrored])
        signed = row - self.height if row > self.height // 2 else row
        return (signed + dy) / self.height, (col + dx) / self.width


def _vertex(values: list[Any]) -> float:
    """Offset of the top of a parabola through the logarithms of three neighbours."""
    below, middle, above = (math.log(max(float(v), 1e-12)) for v in values)
    curvature = below - 2 * middle + above
    return 0.0 if curvature >= 0 else min(max((below - above) / (2 * curvature), -0.5), 0.5)


def _comb_power(spectrum: _Spectrum, frequency: tuple[float, float]) -> float:
    """Sum of the magnitudes at the multiples of a frequency."""
    bins = [spectrum.bins((frequency[0] * k, frequency[1] * k)) for k in range(1, _HARMONICS + 1)]
    return sum(_highest(spectrum, at) for at in bins if at is not None)


def _highest(spectrum: _Spectrum, at: tuple[int, int]) -> float:
    rows = [(at[0] + step) % spectrum.height for step in (-1, 0, 1)]
    cols = [c for c in range(at[1] - 1, at[1] + 2) if 0 <= c < spectrum.power.shape[1]]
    return float(spectrum.power[np.ix_(rows, cols)].max())


def _refined(spectrum: _Spectrum, fundamental: tuple[float, float]) -> tuple[float, float]:
    """Follow the harmonics upwards, each bettering the estimate for the next."""
    best = fundamental
    floor = _LEAST_CONTRAST / 2 * float(np.median(spectrum.power))
    for number in range(1, _HARMONICS + 1):
        at = spectrum.bins((best[0] * number, best[1] * number))
        if at is None or _highest(spectrum, at) < floor:
            continue
        fy, fx = spectrum.peak_near(*at)
        if best[1] < 0 or (best[1] * number < 1 / spectrum.width and fy * best[0] < 0):
            fy, fx = -fy, -fx
        best = (fy / number, fx / number)
    return best
