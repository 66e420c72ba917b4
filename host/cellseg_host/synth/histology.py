"""Stained nuclei in bright light: tissue in one purple dye or in H&E, and Giemsa-like smears; RGB.

Light through dye follows Beer and Lambert, with the dyes of `stains`.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_host.stains import EOSIN, HAEMATOXYLIN, METHYLENE_BLUE, SCANNED_EOSIN, SCANNED_HAEMATOXYLIN, VIOLET
from cellseg_host.synth import chromatin, matrix, mishaps, scenery
from cellseg_host.synth.layout import Layout, place
from cellseg_host.synth.look import Look, draw_look
from cellseg_host.synth.nuclei import LOBED, PYKNOTIC, Form, Nucleus, make_nucleus
from cellseg_host.synth.optics import Camera, expose, illumination
from cellseg_host.synth.scenery import Scene
from cellseg_host.synth.settings import SynthSettings
from cellseg_host.synth.texture import Canvas, Shape, angle_of_flow, blur, flow, noise

SPINDLE = Form(aspect=3.2, spread=0.2, rough=0.07, bend=0.35, corner=-0.15)
EPITHELIAL = Form(aspect=1.8, spread=0.16, rough=0.05, bend=0.15, corner=0.05)
ROUND = Form(aspect=1.2, spread=0.2, rough=0.08, bend=0.12)


def make(settings: SynthSettings, rng: np.random.Generator) -> tuple[npt.NDArray[Any], Layout]:
    """Return an image (height, width, 3) in uint8 or uint16, and its layout."""
    # Numbers of its own, so that a plain field is the same with or without scenery
    return make_scene(settings, rng, None if settings.plain else scenery.draw(rng.spawn(1)[0]))


def make_scene(
    settings: SynthSettings, rng: np.random.Generator, scene: Scene | None
) -> tuple[npt.NDArray[Any], Layout]:
    """Return the same in a given scenery; None, and any other stain than H&E, is even tissue on white glass."""
    shape = (settings.height, settings.width)
    look = draw_look(rng, settings)
    scene = scene if look.stain == "he" else None
    look = scenery.seen(look, scene) if scene else look
    along, across = flow(rng, shape, max(7 * look.diameter_px, 0.3 * max(shape)))
    layout = _lay_out(rng, shape, look, across)
    density = _density(rng, layout, look, scene, (along, across))
    light = _transmit(rng, density, look)
    return _photograph(rng, light, look, settings.bits), layout


def _lay_out(rng: np.random.Generator, shape: Shape, look: Look, across: Canvas) -> Layout:
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


def _density(
    rng: np.random.Generator, layout: Layout, look: Look, scene: Scene | None, course: tuple[Canvas, Canvas]
) -> Canvas:
    """Return the optical density (height, width, 3) of the slide, each nucleus blurred by its defocus."""
    blue_dye, red_dye, neutral = matrix.between(rng, layout, look, *course)
    if scene:
        blue_dye, red_dye, neutral = scenery.dressed(
            rng, scene, layout, diameter=look.diameter_px, dyes=(blue_dye, red_dye, neutral), course=course
        )
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
    first, second = _stain_vectors(rng, look)
    density = blue_dye[..., None] * first + red_dye[..., None] * second
    density += neutral[..., None]
    if scene:
        density += scenery.red_cells(rng, scene, layout, look.diameter_px)
        for mishap in scene.mishaps:
            density = mishaps.MISHAPS[mishap](rng, density, look.diameter_px)
    return np.asarray(density, np.float32)


def _stain_vectors(rng: np.random.Generator, look: Look) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the two dyes' optical densities, turned a little: batches, pH and scanners differ."""
    pair = {
        "purple": (HAEMATOXYLIN, VIOLET),
        "he": (HAEMATOXYLIN, EOSIN),
        "giemsa": (METHYLENE_BLUE, EOSIN),
    }[look.stain]
    if look.scanned:
        mixed = (1 - look.scanned) * np.array(pair) + look.scanned * np.array((SCANNED_HAEMATOXYLIN, SCANNED_EOSIN))
        pair = (mixed[0], mixed[1])
    turned = [np.maximum(np.array(v) + rng.normal(0, look.turn, 3), 0.0) for v in pair]
    first, second = (np.asarray(v / np.linalg.norm(v), np.float32) for v in turned)
    return first, second


def _nuclear_dye(rng: np.random.Generator, layout: Layout, look: Look) -> Canvas:
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
    texture += chromatin.spread(layout, look.rim * open_) * rim
    dots = chromatin.spots(rng, layout, ~dense, mean_number=7.0, radius=0.08, reach=0.85)
    texture += np.float32(0.8) * blur(dots, 0.02 * diameter)
    height = chromatin.thickness(layout, 0.55)
    dye = chromatin.spread(layout, level) * texture * height
    dye *= 1 + np.float32(rng.uniform(0.3, 0.7)) * layout.overlap
    return np.asarray(dye, np.float32)


def _ghosts(rng: np.random.Generator, shape: Shape, look: Look) -> Canvas:
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


def _transmit(rng: np.random.Generator, density: Canvas, look: Look) -> Canvas:
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


def _photograph(rng: np.random.Generator, light: Canvas, look: Look, bits: int) -> npt.NDArray[Any]:
    """Return the image of a colour camera; 8-bit ones have been through JPEG once, as most such images have."""
    top = 255 if bits == 8 else 65_535
    camera = Camera(look.electrons * 255 / top, 6.0, 0.0, top)
    image = expose(rng, light * np.float32(top), camera)
    if bits == 8:
        # Demosaicing spreads noise to neighbours, and JPEG leaves its blocks.
        image = cv2.GaussianBlur(image, (0, 0), 0.55)
        if look.sharpened:
            image = cv2.addWeighted(image, 1 + look.sharpened, cv2.GaussianBlur(image, (0, 0), 1.5), -look.sharpened, 0)
        _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, look.jpeg])
        return np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB))
    return image
