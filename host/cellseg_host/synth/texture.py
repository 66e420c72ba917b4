"""Random fields: smooth noise of one length scale, wavy fibres, and blurs of any width at bounded cost."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Canvas = npt.NDArray[np.float32]
Shape = tuple[int, int]


def blur(canvas: Canvas, sigma: float) -> Canvas:
    """Return a Gaussian blur; wide ones are computed on a reduced canvas, which makes no visible difference.

    Parameters
    ----------
    canvas : ndarray, shape (height, width) or (height, width, 3), float32
    sigma : float
        Standard deviation in pixels; below 0.15 the canvas is returned as it is.
    """
    if sigma < 0.15:
        return canvas
    height, width = canvas.shape[:2]
    step = min(int(sigma / 2.5), height, width)
    if step < 2:
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)
    size = (math.ceil(width / step), math.ceil(height / step))
    small = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step, borderType=cv2.BORDER_REFLECT)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def noise(rng: np.random.Generator, shape: Shape, scale: float) -> Canvas:
    """Return smooth Gaussian noise, mean 0 and standard deviation 1 over the ensemble.

    Parameters
    ----------
    rng : Generator
    shape : (height, width)
    scale : float
        Correlation length in pixels (standard deviation of the smoothing Gaussian).
    """
    height, width = shape
    step = max(1.0, scale / 1.5)
    grid = (math.ceil(height / step) + 6, math.ceil(width / step) + 6)
    sigma = max(scale / step, 0.3)
    small = rng.standard_normal(grid, dtype=np.float32)
    small = np.asarray(cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)
    small *= np.float32(2 * math.sqrt(math.pi) * sigma)  # white noise through a Gaussian: sd = 1/(2√π σ)
    if step == 1.0:
        return small[3 : 3 + height, 3 : 3 + width]
    # A random shift below the spacing, so that the grid's nodes are at no fixed place in the image
    shift = rng.uniform(1, 3, 2)
    matrix = np.array([[1 / step, 0, shift[1]], [0, 1 / step, shift[0]]])
    return np.asarray(
        cv2.warpAffine(
            small,
            matrix,
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        ),
        np.float32,
    )


def bent(rng: np.random.Generator, canvas: Canvas, shift: float, scale: float) -> Canvas:
    """Return a canvas whose shapes are out of true: each pixel is taken from beside it, by smooth noise.

    Parameters
    ----------
    rng : Generator
    canvas : ndarray, shape (height, width), float32
    shift : float
        Standard deviation of the shift in each direction, pixels.
    scale : float
        Its correlation length in pixels.
    """
    height, width = canvas.shape
    rows, cols = np.indices((height, width), np.float32)
    rows, cols = (at + np.float32(shift) * noise(rng, (height, width), scale) for at in (rows, cols))
    return np.asarray(cv2.remap(canvas, cols, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.float32)


def flow(rng: np.random.Generator, shape: Shape, scale: float, bend: float = 0.35) -> tuple[Canvas, Canvas]:
    """Return coordinates along and across slowly turning fibres.

    Parameters
    ----------
    rng : Generator
    shape : (height, width)
    scale : float
        Length over which the fibres turn, in pixels.
    bend : float
        Slope of the turning: 0 is straight.

    Returns
    -------
    along, across : ndarray, shape (height, width), float32
        In pixels; `along` has no meaning beyond texture look-up, ``grad(across)`` is normal to the fibres.
    """
    angle = rng.uniform(0, math.pi)
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    cols = np.arange(shape[1], dtype=np.float32)[None, :]
    along = np.float32(math.cos(angle)) * cols + np.float32(math.sin(angle)) * rows
    across = np.float32(-math.sin(angle)) * cols + np.float32(math.cos(angle)) * rows
    across = across + np.float32(bend * scale) * noise(rng, shape, scale)
    across += np.float32(0.12 * bend * scale) * noise(rng, shape, scale / 4)
    return along, across


def fibres(rng: np.random.Generator, along: Canvas, across: Canvas, length: float, thickness: float) -> Canvas:
    """Return noise stretched along the flow: mean 0, standard deviation about 1.

    Parameters
    ----------
    rng : Generator
    along, across : ndarray, shape (height, width), float32
        From `flow`.
    length, thickness : float
        Correlation lengths along and across the fibres, in pixels.
    """
    u = (along - along.min()) / np.float32(length) + 2
    v = (across - across.min()) / np.float32(thickness) + 2
    grid = (min(int(v.max()) + 4, 16_000), min(int(u.max()) + 4, 16_000))
    small = rng.standard_normal(grid, dtype=np.float32)
    out = cv2.remap(small, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(out, np.float32) * np.float32(1.35)


def angle_of_flow(across: Canvas, row: float, col: float) -> float:
    """Return the direction of the fibres at a point, radians from the column axis towards the row axis."""
    height, width = across.shape
    r0, r1 = _span(row, height)
    c0, c1 = _span(col, width)
    down = float(across[r1, c0] - across[r0, c0]) / max(r1 - r0, 1)
    right = float(across[r0, c1] - across[r0, c0]) / max(c1 - c0, 1)
    return math.atan2(-right, down) if down or right else 0.0


def _span(position: float, size: int, reach: int = 6) -> tuple[int, int]:
    middle = min(max(int(position), 0), size - 1)
    return max(middle - reach, 0), min(middle + reach, size - 1)
