"""Stained nuclei in bright light: tissue in one purple dye or in H&E, and Giemsa-like smears; RGB.

Light through dye follows Beer and Lambert, with the dyes of `stains`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_host.stains import EOSIN, HAEMATOXYLIN, METHYLENE_BLUE, VIOLET
from cellseg_host.synth import chromatin
from cellseg_host.synth.layout import Layout, Plan, place
from cellseg_host.synth.nuclei import LOBED, PYKNOTIC, Form, Nucleus, make_nucleus
from cellseg_host.synth.optics import Camera, expose, illumination
from cellseg_host.synth.settings import STAINS, SynthSettings
from cellseg_host.synth.texture import Canvas, Shape, angle_of_flow, blur, fibres, flow, noise

SPINDLE = Form(aspect=3.2, spread=0.2, rough=0.07, bend=0.35, corner=-0.15)
EPITHELIAL = Form(aspect=1.8, spread=0.16, rough=0.05, bend=0.15, corner=0.05)
ROUND = Form(aspect=1.2, spread=0.2, rough=0.08, bend=0.12)


@dataclass(frozen=True)
class _Look:
    """What is common to one field. Concentrations are optical densities along unit vectors."""

    stain: str
    diameter_px: float
    plan: Plan
    spindles: float  # share of elongated nuclei
    lobed: float
    dense: float  # share of dark, shrunken or lymphocyte-like nuclei
    nuclear: tuple[float, float]  # concentrations of the blue and red dye in an ordinary nucleus
    matrix: tuple[float, float]  # the same in the tissue between
    variation: float  # of the nuclei's staining
    vesicular: float  # contrast of clumped chromatin
    gaps: float  # share of the field without tissue
    texture: float  # contrast of the matrix
    relief: float  # refractile edges
    ghosts: float  # out-of-focus nuclei for each one in focus
    psf_px: float
    white: tuple[float, float, float]
    vignette: float
    electrons: float
    jpeg: int


def make(settings: SynthSettings, rng: np.random.Generator) -> tuple[npt.NDArray[Any], Layout]:
    """Return an image (height, width, 3) in uint8 or uint16, and its layout."""
    shape = (settings.height, settings.width)
    look = _draw_look(rng, settings)
    along, across = flow(rng, shape, max(7 * look.diameter_px, 0.3 * max(shape)))
    layout = _lay_out(rng, shape, look, across)
    density = _density(rng, layout, look, along, across)
    light = _transmit(rng, density, look)
    return _photograph(rng, light, look, settings.bits), layout


def _draw_look(rng: np.random.Generator, settings: SynthSettings) -> _Look:
    stain = settings.stain or str(rng.choice(STAINS, p=[0.45, 0.3, 0.25]))
    smear = stain == "giemsa"
    diameter = settings.diameter_px or math.exp(rng.uniform(math.log(14), math.log(32 if smear else 46)))
    coverage = math.exp(rng.uniform(math.log(0.09 if smear else 0.07), math.log(0.4 if smear else 0.32)))
    cells = settings.cells_at(coverage, diameter)
    touching = settings.touching if settings.touching is not None else float(rng.beta(2.0, 3.0))
    strength = math.exp(rng.normal(0, 0.2))
    nuclear, matrix = {
        "purple": ((0.03, 0.37), (0.17, 0.08)),
        "he": ((0.44, 0.07), (0.05, 0.16)),
        "giemsa": ((0.20, 0.39), (0.0, 0.0)),
    }[stain]
    return _Look(
        stain=stain,
        diameter_px=diameter,
        plan=Plan(
            cells,
            touching,
            rng.uniform(2.5, 6.0),
            rows=not smear and bool(rng.random() < 0.55),
            clumping=rng.uniform(0.3, 0.9) if smear else rng.uniform(0.6, 1.6),
        ),
        spindles=0.02 if smear else float(rng.choice([0.1, 0.35, 0.9])),
        lobed=rng.uniform(0.05, 0.3) if smear else 0.02,
        dense=rng.uniform(0.3, 0.7) if smear else rng.uniform(0.04, 0.25),
        nuclear=(strength * nuclear[0], strength * nuclear[1]),
        matrix=(matrix[0] * rng.uniform(0.85, 1.15), matrix[1] * rng.uniform(0.7, 1.3)),
        variation=rng.uniform(0.3, 0.5) * (1.3 if smear else 1.0),
        vesicular=rng.uniform(0.15, 0.4),
        gaps=0.0 if smear or stain == "purple" else float(rng.choice([0.0, 0.12, 0.25])),
        texture=rng.uniform(0.5, 1.2),
        relief=rng.uniform(0.3, 1.0),
        ghosts=rng.uniform(0.05, 0.35),
        psf_px=float(np.clip(diameter * rng.uniform(0.025, 0.045), 0.75, 1.5)),
        white=_white(rng, stain),
        vignette=rng.uniform(0.0, 0.06),
        electrons=math.exp(rng.uniform(math.log(60), math.log(250))),
        jpeg=int(rng.integers(88, 97)),
    )


def _white(rng: np.random.Generator, stain: str) -> tuple[float, float, float]:
    """Return the colour of the lamp through bare glass, as a fraction of full scale."""
    base = {"purple": (0.93, 0.92, 0.92), "he": (0.94, 0.93, 0.95), "giemsa": (0.85, 0.85, 0.85)}[stain]
    red, green, blue = (float(np.clip(b + rng.normal(0, 0.015), 0, 1)) for b in base)
    return red, green, blue


def _lay_out(rng: np.random.Generator, shape: Shape, look: _Look, across: Canvas) -> Layout:
    body = ROUND if look.stain == "giemsa" else EPITHELIAL

    def make_one(row: float, col: float, angle: float | None) -> Nucleus:
        follows = look.stain != "giemsa"
        chance = rng.random()
        if angle is None:
            flowing = angle_of_flow(across, row, col) if follows else rng.uniform(0, math.pi)
            angle = flowing + rng.normal(0, 0.3)
            if chance < look.spindles:
                return make_nucleus(rng, "elongated", SPINDLE, 0.85 * look.diameter_px, angle)
            if look.plan.rows:  # epithelium stands on its membrane
                angle += math.pi / 2
        chance = rng.random()
        if chance < look.lobed:
            return make_nucleus(rng, "interphase", LOBED, look.diameter_px, angle)
        if chance < look.lobed + look.dense:
            return make_nucleus(rng, "dying", PYKNOTIC, 0.85 * look.diameter_px, angle)
        return make_nucleus(rng, "interphase", body, look.diameter_px, angle)

    return place(rng, shape, look.plan, look.diameter_px, make_one)


def _density(rng: np.random.Generator, layout: Layout, look: _Look, along: Canvas, across: Canvas) -> Canvas:
    """Return the optical density (height, width, 3) of the slide, each nucleus blurred by its defocus."""
    blue_dye, red_dye, neutral = _matrix(rng, layout, look, along, across)
    dye = _nuclear_dye(rng, layout, look)
    odds = [0.5, 0.4, 0.1] if look.stain == "giemsa" else [0.7, 0.22, 0.08]
    focus = rng.choice(3, len(layout.nuclei), p=np.array(odds))
    nuclear = np.zeros(dye.shape, np.float32)
    for extra, part in zip((0.0, 0.05, 0.1), chromatin.by_focus(dye, layout, focus), strict=False):
        nuclear += blur(part, extra * look.diameter_px)
    nuclear += _ghosts(rng, layout.labels.shape, look)
    tint = np.float32(1) + np.float32(0.12) * noise(rng, layout.labels.shape, 2 * look.diameter_px)
    blue_dye += np.float32(look.nuclear[0]) * nuclear
    red_dye += np.float32(look.nuclear[1]) * nuclear * tint
    first, second = _stain_vectors(rng, look.stain)
    density = blue_dye[..., None] * first + red_dye[..., None] * second
    density += neutral[..., None]
    return np.asarray(density, np.float32)


def _stain_vectors(rng: np.random.Generator, stain: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the two dyes' optical densities, turned a little: batches, pH and scanners differ."""
    pair = {
        "purple": (HAEMATOXYLIN, VIOLET),
        "he": (HAEMATOXYLIN, EOSIN),
        "giemsa": (METHYLENE_BLUE, EOSIN),
    }[stain]
    turned = [np.maximum(np.array(v) + rng.normal(0, 0.02, 3), 0.0) for v in pair]
    first, second = (np.asarray(v / np.linalg.norm(v), np.float32) for v in turned)
    return first, second


def _nuclear_dye(rng: np.random.Generator, layout: Layout, look: _Look) -> Canvas:
    """Return the dye in the nuclei, 1 in an ordinary one: clumped chromatin, a rim, dark dots; dense ones are plain."""
    shape = layout.labels.shape
    diameter, count = look.diameter_px, len(layout.nuclei)
    kind = chromatin.kinds(layout)
    dense = kind == "dying"
    level = np.exp(look.variation * rng.standard_normal(count))
    level = np.where(dense, level * 1.45, level)
    open_ = np.where(dense, 0.25, rng.uniform(0.4, 1.5, count))  # how vesicular each is
    clump = noise(rng, shape, max(0.028 * diameter, 0.6)) + 0.9 * noise(rng, shape, 0.07 * diameter)
    clump += 0.6 * noise(rng, shape, 0.2 * diameter)
    texture = 1 + chromatin.spread(layout, look.vesicular * open_) * clump
    texture = np.clip(texture, 0.35, 2.2)
    rim = np.exp(-((layout.depth_px - 1.2) ** 2) / np.float32(2 * (0.035 * diameter + 0.5) ** 2))
    texture += chromatin.spread(layout, 0.4 * open_) * rim
    dots = chromatin.spots(rng, layout, ~dense, mean_number=7.0, radius=0.08, reach=0.85)
    texture += np.float32(0.8) * blur(dots, 0.02 * diameter)
    height = chromatin.thickness(layout, 0.55)
    dye = chromatin.spread(layout, level) * texture * height
    dye *= 1 + np.float32(rng.uniform(0.3, 0.7)) * layout.overlap
    return np.asarray(dye, np.float32)


def _matrix(
    rng: np.random.Generator, layout: Layout, look: _Look, along: Canvas, across: Canvas
) -> tuple[Canvas, Canvas, Canvas]:
    """Return the dyes between the nuclei, and the neutral shading of refractile edges."""
    shape = layout.labels.shape
    diameter = look.diameter_px
    if look.stain == "giemsa":
        return _plasma(rng, layout, look)
    # Fibres are crimped: their course varies at the scale of a nucleus, and they fray into short pieces.
    crimp = across + np.float32(0.10 * diameter) * noise(rng, shape, 0.35 * diameter)
    fine = fibres(rng, along, crimp, 0.8 * diameter, max(0.07 * diameter, 1.5))
    coarse = fibres(rng, along, crimp, 4.0 * diameter, 0.45 * diameter)
    mottle = sum((noise(rng, shape, s * diameter) for s in (0.06, 0.15, 0.7)), np.zeros(shape, np.float32))
    patchy = np.clip(0.8 + 0.8 * noise(rng, shape, 2.5 * diameter), 0.1, 2)
    pattern = np.float32(look.texture) * patchy * (0.03 * fine + 0.015 * coarse + 0.032 * mottle)
    tissue = np.ones(shape, np.float32)
    if look.gaps:
        holes = noise(rng, shape, 1.6 * diameter) + 0.3 * noise(rng, shape, 0.4 * diameter) + 0.12 * coarse
        edge = np.quantile(holes, look.gaps)
        tissue = 1 / (1 + np.exp(np.clip(-(holes - edge) * 22, -30, 30)))
        # A nucleus takes its cytoplasm with it into a gap.
        own = blur((layout.labels > 0).astype(np.float32), 0.16 * diameter)
        tissue = np.maximum(tissue, np.clip(2.5 * own, 0, 1))
    streaks = np.clip(coarse - 1.0, 0, 2) * np.clip(0.6 + noise(rng, shape, 3 * diameter), 0, 1.5)
    body = blur((layout.labels > 0).astype(np.float32), 0.45 * diameter)
    blue_dye = np.float32(look.matrix[0]) * tissue * (1 + pattern + 0.25 * body)
    red_dye = np.float32(look.matrix[1]) * tissue * (1 + 2 * pattern + 0.5 * body + 0.3 * streaks)
    neutral = np.float32(look.relief) * _wrinkles(rng, along, crimp, diameter) * patchy * tissue
    return np.maximum(blue_dye, 0), np.maximum(red_dye, 0), neutral


def _wrinkles(rng: np.random.Generator, along: Canvas, across: Canvas, diameter: float) -> Canvas:
    """Return refractile edges: a bright line beside a dark one, along the level lines of stretched noise."""
    height = fibres(rng, along, across, 1.4 * diameter, max(0.28 * diameter, 2.5))
    crease = np.exp(-(height**2) / np.float32(2 * 0.16**2))
    slope = height / np.float32(0.16)
    return np.asarray(np.float32(0.024) * crease * slope, np.float32)


def _plasma(rng: np.random.Generator, layout: Layout, look: _Look) -> tuple[Canvas, Canvas, Canvas]:
    """Return what lies between the cells of a smear: pale cytoplasm, unstained red cells with refractile rims."""
    shape = layout.labels.shape
    diameter = look.diameter_px
    body = blur((layout.labels > 0).astype(np.float32), 0.22 * diameter)
    film = np.clip(noise(rng, shape, 0.8 * diameter), 0, 2) * np.clip(2.2 * body, 0, 1)
    red_dye = np.float32(0.07) * film + np.float32(0.012)
    blue_dye = np.float32(0.025) * film + np.float32(0.008)
    count = int(rng.poisson(rng.choice([0.0, 0.05, 0.14]) * shape[0] * shape[1] / diameter**2))
    cells = np.zeros(shape, np.float32)
    rows, cols = rng.uniform(0, shape[0], count), rng.uniform(0, shape[1], count)
    radii = diameter * rng.uniform(0.3, 0.45, count)
    chromatin.draw_discs(cells, rows, cols, radii, rng.uniform(0.6, 1, count))
    cells = blur(cells, 0.05 * diameter)
    rims = cells - blur(cells, 0.08 * diameter)
    neutral = np.float32(0.03) * cells - np.float32(0.10 * look.relief) * rims
    neutral += np.float32(0.006) * noise(rng, shape, 1.5 * diameter)
    return blue_dye, red_dye, neutral


def _ghosts(rng: np.random.Generator, shape: Shape, look: _Look) -> Canvas:
    """Return nuclei far below the focal plane: pale smudges that nobody would outline. Not labelled."""
    canvas = np.zeros(shape, np.float32)
    count = int(rng.poisson(look.ghosts * look.plan.cells))
    semi = 0.5 * look.diameter_px
    scale = 16
    for _ in range(count):
        axes = (int(scale * semi * rng.uniform(0.9, 1.6)), int(scale * semi * rng.uniform(0.5, 0.9)))
        centre = (int(scale * rng.uniform(0, shape[1])), int(scale * rng.uniform(0, shape[0])))
        level = rng.uniform(0.1, 0.42)
        cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, level, cv2.FILLED, cv2.LINE_8, 4)
    return blur(canvas, 0.2 * look.diameter_px)


def _transmit(rng: np.random.Generator, density: Canvas, look: _Look) -> Canvas:
    """Return the light at the sensor, as a fraction of full scale: Beer-Lambert, then the blur in each colour."""
    light = np.exp(np.float32(-math.log(10)) * density)
    light *= np.array(look.white, np.float32)
    light *= illumination(rng, density.shape[:2], look.vignette)[..., None]
    # Lateral colour: red and blue fall a fraction of a pixel beside green.
    shift = rng.normal(0, 0.5 if look.stain == "giemsa" else 0.3, 2)
    height, width = density.shape[:2]
    for channel, sign in ((0, 1.0), (1, 0.0), (2, -1.0)):
        plane = blur(np.ascontiguousarray(light[..., channel]), look.psf_px * (1 + 0.12 * abs(sign)))
        matrix = np.array([[1, 0, sign * shift[0]], [0, 1, sign * shift[1]]])
        light[..., channel] = cv2.warpAffine(plane, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(light, np.float32)


def _photograph(rng: np.random.Generator, light: Canvas, look: _Look, bits: int) -> npt.NDArray[Any]:
    """Return the image of a colour camera; 8-bit ones have been through JPEG once, as most such images have."""
    top = 255 if bits == 8 else 65_535
    camera = Camera(look.electrons * 255 / top, 6.0, 0.0, top)
    image = expose(rng, light * np.float32(top), camera)
    if bits == 8:
        # Demosaicing spreads noise to neighbours, and JPEG leaves its blocks.
        image = cv2.GaussianBlur(image, (0, 0), 0.55)
        _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB))
    return image
