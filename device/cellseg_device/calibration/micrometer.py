"""The pixel size from an image of a stage micrometer, whose lines repeat at a known distance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.errors import ImageError
from cellseg_device.image import normalise

_SIDE_PX = 2048  # enough for a hundred lines
_FEWEST_LINES = 4
_HARMONICS = 8
# The pattern that repeats with the lines must make up this part of the image's variance: cells and noise stay far below
_LEAST_EXPLAINED = 0.08
_LEAST_AGREEMENT = 0.7  # of the lines in one part of the image with all
_PHASES = 32
_NOISE_FACTOR = 25.0  # by which a harmonic's peak must exceed the median of the spectrum
_MARK = (255, 0, 128)  # RGB
_MOST_OFF_BINS = 0.75  # by which a harmonic's peak may miss its place


@dataclass(frozen=True)
class Lines:
    """Equally spaced parallel lines in an image.

    Attributes
    ----------
    spacing_px : float
        Distance between two neighbouring lines, at a right angle to them.
    angle_deg : float
        Angle between the direction across the lines and the rows; −90 to 90.
    count : int
        About how many spacings the image holds along that direction.
    offset_px : float
        Distance from the middle of the image to the next line, in that direction.
    """

    spacing_px: float
    angle_deg: float
    count: int
    offset_px: float = 0.0


def find_lines(pixels: npt.NDArray[Any]) -> Lines:
    """Return the lines of a stage micrometer, in any direction.

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
    power[spectrum.cycles() < _FEWEST_LINES] = 0  # uneven light
    strongest = spectrum.peak_near(*np.unravel_index(int(power.argmax()), power.shape))
    best, best_power = strongest, 0.0
    for divisor in (1, 2, 3):  # the strongest peak may be a harmonic
        trial = (strongest[0] / divisor, strongest[1] / divisor)
        total = _comb_power(spectrum, trial) / math.sqrt(divisor)
        if total > 1.2 * best_power:
            best, best_power = trial, total
    fy, fx = _refined(spectrum, best)
    if fx < 0:
        fy, fx = -fy, -fx
    explained, agreement, phase = _folded(part, fy, fx)
    if explained < _LEAST_EXPLAINED or agreement < _LEAST_AGREEMENT:
        raise ImageError("shows no equally spaced lines: focus on the scale, and fill the field with it")
    frequency = math.hypot(fy, fx)
    across = abs(fy) / frequency * height + abs(fx) / frequency * width
    count = int(min(across, max(height, width)) * frequency)
    return Lines(1 / frequency, math.degrees(math.atan2(fy, fx)), count, phase / frequency)


@dataclass(frozen=True)
class _Spectrum:
    """Magnitudes of a real image's spectrum, addressed by frequency in cycles per pixel."""

    power: npt.NDArray[np.float64]
    height: int
    width: int

    def cycles(self) -> npt.NDArray[np.float64]:
        """Return the cycles over the shorter side, for every bin."""
        fy = np.fft.fftfreq(self.height)[:, None]
        fx = np.fft.rfftfreq(self.width)[None, :]
        cycles: npt.NDArray[np.float64] = np.hypot(fy, fx) * min(self.height, self.width)
        return cycles

    def bins(self, frequency: tuple[float, float]) -> tuple[int, int] | None:
        """Return the bin nearest to a frequency; None beyond the highest one."""
        fy, fx = frequency if frequency[1] >= 0 else (-frequency[0], -frequency[1])
        if max(abs(fy), fx) > 0.5 - 2 / min(self.height, self.width):
            return None
        return round(fy * self.height) % self.height, round(fx * self.width)

    def peak_near(self, row: Any, col: Any) -> tuple[float, float]:
        """Return the frequency of the highest bin at most one away, refined by parabolas."""
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
    """Return the offset of the top of a parabola through the logarithms of three neighbours."""
    below, middle, above = (math.log(max(float(v), 1e-12)) for v in values)
    curvature = below - 2 * middle + above
    return 0.0 if curvature >= 0 else min(max((below - above) / (2 * curvature), -0.5), 0.5)


def _comb_power(spectrum: _Spectrum, frequency: tuple[float, float]) -> float:
    """Return the sum of the magnitudes at the multiples of a frequency."""
    bins = [spectrum.bins((frequency[0] * k, frequency[1] * k)) for k in range(1, _HARMONICS + 1)]
    return sum(_highest(spectrum, at) for at in bins if at is not None)


def _highest(spectrum: _Spectrum, at: tuple[int, int]) -> float:
    rows = [(at[0] + step) % spectrum.height for step in (-1, 0, 1)]
    cols = [c for c in range(at[1] - 1, at[1] + 2) if 0 <= c < spectrum.power.shape[1]]
    return float(spectrum.power[np.ix_(rows, cols)].max())


def _refined(spectrum: _Spectrum, fundamental: tuple[float, float]) -> tuple[float, float]:
    """Return the fundamental frequency, refined from harmonic to harmonic upwards."""
    best = fundamental
    floor = _NOISE_FACTOR * float(np.median(spectrum.power))
    for number in range(1, _HARMONICS + 1):
        at = spectrum.bins((best[0] * number, best[1] * number))
        if at is None or _highest(spectrum, at) < floor:
            continue
        fy, fx = spectrum.peak_near(*at)
        if best[1] < 0 or (best[1] * number < 1 / spectrum.width and fy * best[0] < 0):
            fy, fx = -fy, -fx
        off = math.hypot((fy - number * best[0]) * spectrum.height, (fx - number * best[1]) * spectrum.width)
        if off < _MOST_OFF_BINS:
            best = (fy / number, fx / number)
    return best


def draw_lines(pixels: npt.NDArray[Any], lines: Lines) -> npt.NDArray[np.uint8]:
    """Return a picture for checking the lines: every one of them is marked over a third of the field.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB.
    """
    picture = normalise.stretched(pixels, 0.5, 99.5)
    height, width = picture.shape[:2]
    angle = math.radians(lines.angle_deg)
    across, along = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    middle, reach = np.array([width / 2, height / 2]), min(height, width) / 6
    for number in range(-lines.count, lines.count + 1):
        at = middle + across * (lines.offset_px + number * lines.spacing_px)
        ends = [tuple(int(v) for v in np.rint((at + side * reach * along) * 16)) for side in (-1, 1)]
        cv2.line(picture, ends[0], ends[1], _MARK, 1, cv2.LINE_AA, shift=4)
    return picture


def _folded(part: npt.NDArray[np.float32], fy: float, fx: float) -> tuple[float, float, float]:
    """Return how well the image repeats at the spacing of the lines.

    Returns
    -------
    float
        Part of the variance (without slow changes of the light) that the mean over all lines explains.
    float
        Smallest correlation between the mean over a quarter of the lines and that over all.
    float
        Where a line is, in spacings from the middle of the image.
    """
    spacing = 1 / math.hypot(fy, fx)
    slow = cv2.blur(part, (2 * round(spacing) + 1,) * 2)
    detail = (cv2.GaussianBlur(part, (0, 0), max(spacing / 10, 0.5)) - slow).ravel()  # with less noise
    rows, cols = (np.arange(n) + 0.5 - n / 2 for n in part.shape)
    place = (fy * rows[:, None] + fx * cols).ravel()
    phase = (place % 1 * _PHASES).astype(np.intp) % _PHASES
    mean = _mean(phase, detail)
    explained = float((mean[phase] ** 2).mean() / max(float((detail**2).mean()), 1e-9))
    bounds = np.quantile(place[:: len(place) // 10_000 + 1], (0, 0.25, 0.5, 0.75, 1))
    parts = [(place >= low) & (place < high) for low, high in pairwise(bounds)]
    agreement = min(_correlation(_mean(phase[inside], detail[inside]), mean) for inside in parts)
    return explained, agreement, (int(np.abs(mean).argmax()) + 0.5) / _PHASES


def _mean(phase: npt.NDArray[np.intp], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the mean of the values by phase."""
    sums = np.bincount(phase, values, _PHASES).astype(np.float64)
    found: npt.NDArray[np.float64] = sums / np.maximum(np.bincount(phase, minlength=_PHASES), 1)
    return found


def _correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float((a * b).sum() / max(math.sqrt(float((a * a).sum() * (b * b).sum())), 1e-9))  # both about zero
