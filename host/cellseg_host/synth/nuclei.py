"""The outline of one nucleus: ellipses bent and roughened by a few low Fourier terms, and their raster."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_POINTS = 64
_SHARPEST = 4.5  # harmonic of the outline that is damped to 61 %
_SHIFT = 4  # fractional bits of OpenCV's polygon coordinates


@dataclass(frozen=True)
class Form:
    """The family of shapes that a nucleus is drawn from.

    Attributes
    ----------
    aspect : float
        Mean ratio of the long to the short axis.
    spread : float
        Standard deviation of the logarithm of the diameter.
    rough : float
        Size of the outline's irregularity, relative to the radius.
    bend : float
        Standard deviation of the bending of the long axis: beans and bananas.
    corner : float
        Superellipse exponent's departure from 2: above 0 boxy, below 0 spindle-like with pointed ends.
    """

    aspect: float = 1.35
    spread: float = 0.17
    rough: float = 0.05
    bend: float = 0.18
    corner: float = 0.0


METAPHASE = Form(aspect=2.6, spread=0.12, rough=0.14, bend=0.25, corner=0.2)
PYKNOTIC = Form(aspect=1.15, spread=0.2, rough=0.09, bend=0.1)
LOBED = Form(aspect=1.4, spread=0.12, rough=0.26, bend=0.5)


@dataclass(frozen=True, eq=False)
class Nucleus:
    """One nucleus before it has a place.

    Attributes
    ----------
    kind : {"interphase", "mitotic", "dying", "elongated"}
    mask : ndarray of bool, shape (h, w)
        Its raster, free of the image's border; its reference point is (h // 2, w // 2).
    depth_px : ndarray of float32, shape (h, w)
        Distance to its outline, 0 outside.
    long_px, short_px : float
        Semi-axes.
    angle : float
        Direction of the long axis, radians from the column axis towards the row axis.
    """

    kind: str
    mask: npt.NDArray[np.bool_]
    depth_px: npt.NDArray[np.float32]
    long_px: float
    short_px: float
    angle: float

    @property
    def area_px(self) -> int:
        """Pixels of the raster."""
        return int(np.count_nonzero(self.mask))


def make_nucleus(rng: np.random.Generator, kind: str, form: Form, diameter_px: float, angle: float) -> Nucleus:
    """Return a random nucleus.

    Parameters
    ----------
    rng : Generator
    kind : str
        Kept in the result; decides how it is rendered.
    form : Form
    diameter_px : float
        Median equivalent diameter; the nucleus' own is log-normal around it.
    angle : float
        Direction of its long axis, radians.
    """
    aspect = 1 + (form.aspect - 1) * rng.gamma(4.0, 0.25)
    # Beyond 2.5 sigma a nucleus is no longer plausible.
    diameter = diameter_px * math.exp(form.spread * float(np.clip(rng.standard_normal(), -2.5, 2.5)))
    points = _outline(rng, form, aspect)
    points *= 0.5 * diameter * math.sqrt(math.pi / _polygon_area(points))
    long_px, short_px = float(np.abs(points[:, 1]).max()), float(np.abs(points[:, 0]).max())
    turned = points @ np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    mask = _raster(turned)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    return Nucleus(kind, mask, np.asarray(depth, np.float32), long_px, min(short_px, long_px), angle)


def _outline(rng: np.random.Generator, form: Form, aspect: float) -> npt.NDArray[np.float64]:
    """Return a random closed outline of about unit radius, (row, col), its long axis along the columns."""
    t = np.linspace(0, 2 * math.pi, _POINTS, endpoint=False)
    cosine, sine = np.cos(t), np.sin(t)
    power = 2 / (2 + form.corner)
    x = np.sign(cosine) * np.abs(cosine) ** power * math.sqrt(aspect)
    y = np.sign(sine) * np.abs(sine) ** power / math.sqrt(aspect)
    # Radial Fourier terms 2…7 falling as k^-1.8: the low ones make eggs and triangles, the high ones dents.
    order = np.arange(2, 8)
    amplitude = form.rough * rng.standard_normal(6) * (order / 2.0) ** -1.8
    phase = rng.uniform(0, 2 * math.pi, 6)
    radial = 1 + (amplitude[:, None] * np.cos(order[:, None] * t + phase[:, None])).sum(0)
    radial = np.clip(radial, 0.55, 1.6)
    x, y = x * radial, y * radial
    y = y + form.bend * rng.standard_normal() * (x**2 / aspect - 0.5) / math.sqrt(aspect)
    points = np.stack([y - y.mean(), x - x.mean()], axis=1)
    # Membranes have tension, so there are no corners: a Gaussian over the outline, applied to its Fourier series.
    damping = np.exp(-0.5 * (np.fft.fftfreq(_POINTS, 1 / _POINTS) / _SHARPEST) ** 2)
    return np.asarray(np.fft.ifft(np.fft.fft(points, axis=0) * damping[:, None], axis=0).real)


def _polygon_area(points: npt.NDArray[np.float64]) -> float:
    y, x = points[:, 0], points[:, 1]
    return max(0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))), 1e-6)


def _raster(points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return the filled outline in the smallest odd-sized patch around its reference point, with a margin of 2 px."""
    half = np.ceil(np.abs(points).max(axis=0)).astype(int) + 2
    patch = np.zeros((2 * half[0] + 1, 2 * half[1] + 1), np.uint8)
    # fillPoly also fills the pixels that the outline runs through: half a pixel is taken off for that.
    radius = np.maximum(np.hypot(points[:, 0], points[:, 1]), 1e-6)
    inner = points * (np.maximum(radius - 0.5, 0.3) / radius)[:, None]
    corners = np.rint((inner[:, ::-1] + half[::-1]) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(patch, [corners], 1, lineType=cv2.LINE_8, shift=_SHIFT)
    return np.asarray(patch, bool)
