"""Stained blood smears: red cells with a pale middle, some white cells and platelets, in many laboratories' stains.

Not for counting: a classifier learns from them to tell a smear from tissue, whatever its stain, size and density.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_host.synth.optics import Camera, expose, illumination
from cellseg_host.synth.texture import Canvas, Shape, blur, noise

_CAMERA = Camera(electrons_per_count=30, read_noise_e=30, offset=0, top=255)
_MOST_CELLS = 3000
# Optical density of (red, green, blue) per unit of stain: eosin on haemoglobin, azure on nuclei, and how much both vary
_EOSIN, _AZURE, _SPREAD = np.array([0.12, 0.42, 0.34]), np.array([0.75, 0.85, 0.25]), 0.35


@dataclass(frozen=True)
class _RedCell:
    """What the red cells of one smear have in common: lengths in radii, and shares of the stain."""

    diameter_px: float
    pallor: float  # how much paler the middle is
    middle: float  # radius of the middle
    edge: float  # width of the soft edge
    ring: float  # how much darker a ring along the edge is


def make_smear(rng: np.random.Generator, shape: Shape) -> npt.NDArray[np.uint8]:
    """Return a field of a stained blood smear, RGB, uint8 (height, width, 3)."""
    diameter = math.exp(rng.uniform(math.log(10), math.log(110)))
    red = _red_cells(rng, shape, diameter)
    nuclei, cytoplasm = _white_cells(rng, shape, diameter)
    eosin = _stain(rng, _EOSIN) * rng.uniform(0.5, 1.6)
    azure = _stain(rng, _AZURE) * rng.uniform(0.6, 1.3)
    density = red[..., None] * eosin + nuclei[..., None] * azure
    density += cytoplasm[..., None] * (azure * rng.uniform(0.1, 0.35) + eosin * rng.uniform(0, 0.4))
    plasma = rng.uniform(0, 0.12) * (1 + 0.2 * noise(rng, shape, max(shape) / 6))
    density += plasma[..., None] * _stain(rng, _EOSIN)
    lamp = rng.uniform(0.72, 1.0) * (1 - rng.uniform(0, 0.22, 3))
    light = illumination(rng, shape, rng.uniform(0, 0.3))[..., None] * lamp
    picture = blur(np.asarray(light * np.exp(-2.3 * density), np.float32), rng.uniform(0.4, 0.05 * diameter + 0.8))
    return expose(rng, 255 * picture, _CAMERA)


def _red_cells(rng: np.random.Generator, shape: Shape, diameter: float) -> Canvas:
    """Return the thickness of red cells, about 1 in a cell; where cells overlap, theirs add up."""
    coverage = rng.uniform(0.08, 0.9)
    number = min(max(round(coverage * shape[0] * shape[1] / (math.pi * diameter**2 / 4)), 4), _MOST_CELLS)
    pallor, middle, edge, ring = (rng.uniform(*ends) for ends in ((0, 0.95), (0.25, 0.6), (0.02, 0.06), (-0.3, 0.5)))
    cell = _RedCell(diameter, pallor, middle, edge, ring)
    canvas = np.zeros(shape, np.float32)
    places = _spaced(rng, shape, number, diameter * rng.uniform(0.3, 1.0))
    clumped = rng.uniform(0, 0.5)
    for row, col in places:
        if rng.random() < clumped:  # one that lies on the edge of its neighbour, as in rouleaux
            turn = rng.uniform(0, 2 * math.pi)
            beside = row + 0.8 * diameter * math.sin(turn), col + 0.8 * diameter * math.cos(turn)
            _add_red(rng, canvas, beside, cell)
        _add_red(rng, canvas, (row, col), cell)
    return canvas


def _add_red(rng: np.random.Generator, canvas: Canvas, place: tuple[float, float], cell: _RedCell) -> None:
    """Add one red cell to the canvas in place: a disc with a soft edge, a ring along it and a pale middle."""
    size = cell.diameter_px * math.exp(rng.normal(0, 0.09))
    window, r = _radius(rng, canvas.shape, place, size / 2, 1.35)
    if not r.size:
        return
    disc = 1 / (1 + np.exp((r - 1) / cell.edge))
    middle = 1 - cell.pallor * rng.uniform(0.4, 1) * np.exp(-((r / cell.middle) ** 2))
    ring = 1 + cell.ring * np.exp(-(((r - 0.88) / 0.1) ** 2))
    canvas[window] += np.asarray(disc * middle * ring * rng.uniform(0.8, 1.15), np.float32)


def _white_cells(rng: np.random.Generator, shape: Shape, diameter: float) -> tuple[Canvas, Canvas]:
    """Return the stain in nuclei (and platelets, and parasites) and in the cytoplasm of white cells."""
    nuclei, cytoplasm = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    share = shape[0] * shape[1] / diameter**2
    for _ in range(min(rng.poisson(min(share * rng.choice([0.0, 0.004, 0.012]), 20)), 20)):
        place = (rng.uniform(0, shape[0]), rng.uniform(0, shape[1]))
        size = diameter * rng.uniform(1.2, 2.1)
        _add_disc(rng, cytoplasm, place, size / 2, rng.uniform(0.5, 1.2))
        lobes = int(rng.choice([1, 1, 2, 3, 4]))
        for _ in range(lobes):
            turn, away = rng.uniform(0, 2 * math.pi), size * 0.2 * (lobes > 1)
            lobe = place[0] + away * math.sin(turn), place[1] + away * math.cos(turn)
            _add_disc(rng, nuclei, lobe, size * rng.uniform(0.3, 0.42) / max(lobes, 1.0) ** 0.4, rng.uniform(0.7, 1.2))
    for _ in range(min(rng.poisson(min(share * rng.choice([0.0, 0.02, 0.06]), 150)), 150)):
        place = (rng.uniform(0, shape[0]), rng.uniform(0, shape[1]))
        _add_disc(rng, nuclei, place, max(diameter * rng.uniform(0.06, 0.2), 0.7), rng.uniform(0.3, 1))
    nuclei *= 1 + 0.15 * noise(rng, shape, max(diameter / 8, 0.7))
    return np.clip(nuclei, 0, 1.4), np.clip(cytoplasm, 0, 1.2)


def _add_disc(
    rng: np.random.Generator, canvas: Canvas, place: tuple[float, float], radius: float, value: float
) -> None:
    window, r = _radius(rng, canvas.shape, place, radius, 1.3)
    if r.size:
        canvas[window] += np.asarray(value / (1 + np.exp((r - 1) / 0.06)), np.float32)


def _radius(
    rng: np.random.Generator, shape: tuple[int, ...], place: tuple[float, float], radius: float, aspect: float
) -> tuple[tuple[slice, slice], npt.NDArray[np.float64]]:
    """Return a window around a place, and in it the distance from there in radii of a random ellipse."""
    reach = radius * aspect * 1.4 + 2
    window = tuple(
        slice(max(int(at - reach), 0), min(int(at + reach) + 1, n)) for at, n in zip(place, shape, strict=False)
    )
    rows, cols = np.mgrid[window]
    turn, longer = rng.uniform(0, math.pi), math.sqrt(rng.uniform(1, aspect))
    down, right = rows - place[0], cols - place[1]
    u = (math.cos(turn) * right + math.sin(turn) * down) / longer
    v = (math.cos(turn) * down - math.sin(turn) * right) * longer
    return (window[0], window[1]), np.hypot(u, v) / max(radius, 0.5)


def _spaced(rng: np.random.Generator, shape: Shape, number: int, apart: float) -> npt.NDArray[np.float64]:
    """Return random places, (n, 2), most of them at least `apart` from each other: the best of a few tries each."""
    taken = np.zeros((math.ceil(shape[0] / apart) + 2, math.ceil(shape[1] / apart) + 2), bool)
    places = []
    for _ in range(4 * number):
        place = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        cell = int(place[0] / apart) + 1, int(place[1] / apart) + 1
        if not taken[cell]:
            taken[cell] = True
            places.append(place)
        if len(places) == number:
            break
    return np.array(places)


def _stain(rng: np.random.Generator, colour: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the optical density of a stain as another laboratory has it."""
    return np.asarray(np.abs(colour + _SPREAD * rng.uniform(-1, 1) * rng.normal(0, 0.6, 3)) + 0.02)
