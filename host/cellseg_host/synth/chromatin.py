"""The inside of nuclei for both kinds of microscope: values per nucleus spread over pixels, spots, profiles."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_host.synth.layout import Layout
from cellseg_host.synth.texture import Canvas

_SHIFT = 4


def spread(layout: Layout, values: npt.ArrayLike) -> Canvas:
    """Return for every pixel the value of its nucleus; 0 outside.

    Parameters
    ----------
    layout : Layout
    values : array_like, shape (n,)
    """
    table = np.concatenate([[0.0], np.asarray(values, np.float64).ravel()]).astype(np.float32)
    return table[layout.labels]


def kinds(layout: Layout) -> npt.NDArray[np.str_]:
    """Return the kind of every nucleus, shape (n,)."""
    return np.array([n.kind for n in layout.nuclei], dtype=np.str_)


def thickness(layout: Layout, flatness: float) -> Canvas:
    """Return the height of a flattened ellipsoid over every pixel, 0 outside, 1 in the middle.

    ``(1 - (1 - d/s)²)^((1 - flatness)/2)`` with d the distance to the outline and s the short semi-axis;
    flatness 0 is a half-ellipsoid, 1 a plate.
    """
    short = np.array([n.short_px for n in layout.nuclei])
    depth = np.clip((layout.depth_px - 0.25) * spread(layout, 1 / np.maximum(short, 0.5)), 0, 1)
    height = np.maximum(1 - (1 - depth) ** 2, 0.05) ** np.float32((1 - flatness) / 2)
    return np.asarray(np.where(layout.labels > 0, height, 0), np.float32)


def spots(
    rng: np.random.Generator,
    layout: Layout,
    chosen: npt.NDArray[np.bool_],
    *,
    mean_number: float,
    radius: float,
    reach: float = 0.7,
) -> Canvas:
    """Return round spots scattered inside nuclei: 1 inside a spot, 0 elsewhere, with hard edges.

    Parameters
    ----------
    rng : Generator
    layout : Layout
    chosen : ndarray of bool, shape (n,)
        The nuclei that have them.
    mean_number : float
        Mean of the Poisson number of spots in each.
    radius : float
        Of a spot, relative to the nucleus' short semi-axis.
    reach : float
        Their distance from the middle, relative to the semi-axes.
    """
    canvas = np.zeros(layout.labels.shape, np.float32)
    picked = np.flatnonzero(chosen)
    owner = np.repeat(picked, rng.poisson(mean_number, picked.size))
    if not owner.size:
        return canvas
    shape = np.array([[n.long_px, n.short_px, n.angle] for n in layout.nuclei])[owner]
    rho = reach * np.sqrt(rng.random(owner.size))
    phi = rng.uniform(0, 2 * math.pi, owner.size)
    u, v = shape[:, 0] * rho * np.cos(phi), shape[:, 1] * rho * np.sin(phi)
    cols = layout.centres[owner, 1] + u * np.cos(shape[:, 2]) - v * np.sin(shape[:, 2])
    rows = layout.centres[owner, 0] + u * np.sin(shape[:, 2]) + v * np.cos(shape[:, 2])
    radii = np.maximum(radius * shape[:, 1] * np.exp(rng.normal(0, 0.3, owner.size)), 0.4)
    draw_discs(canvas, rows, cols, radii, np.ones(owner.size))
    canvas[layout.labels == 0] = 0
    return canvas


def draw_discs(
    canvas: Canvas,
    rows: npt.NDArray[np.float64],
    cols: npt.NDArray[np.float64],
    radii: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
) -> None:
    """Paint filled discs in place; all in pixels, with sub-pixel centres."""
    scale = 1 << _SHIFT
    fixed = np.rint(np.stack([cols, rows, radii], 1) * scale).astype(int).tolist()
    for (x, y, radius), value in zip(fixed, values.tolist(), strict=True):
        cv2.circle(canvas, (x, y), radius, value, cv2.FILLED, cv2.LINE_8, _SHIFT)


def by_focus(canvas: Canvas, layout: Layout, focus: npt.NDArray[np.int_]) -> list[Canvas]:
    """Return a canvas split by the nuclei's focus class (0, 1, 2): light adds up, so each part is blurred by itself."""
    classes = spread(layout, focus + 1.0)
    return [canvas * (classes == k + 1) for k in range(int(focus.max(initial=0)) + 1)]
