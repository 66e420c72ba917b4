"""Nuclei in DAPI or Hoechst as a widefield microscope and a camera show them: grey, bright on dark.

The chain is that of SIMCEP (Lehmussola et al., IEEE Trans. Med. Imaging 26(7), 2007: shape, texture,
placement, optics, detector), with the detector of EMVA 1288; the ranges were set by eye and by statistics
against BBBC038.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_host.synth import chromatin
from cellseg_host.synth.layout import Layout, Plan, place
from cellseg_host.synth.nuclei import METAPHASE, PYKNOTIC, Form, Nucleus, make_nucleus
from cellseg_host.synth.optics import Camera, expose, illumination
from cellseg_host.synth.settings import SynthSettings
from cellseg_host.synth.texture import Canvas, Shape, angle_of_flow, blur, fibres, flow, noise

_COUNTS_8, _COUNTS_12 = 255, 4095


@dataclass(frozen=True)
class _Look:
    """What is common to one field. Intensities are relative to an ordinary nucleus."""

    diameter_px: float
    form: Form
    plan: Plan
    aligned: float  # probability that a nucleus follows the flow of its neighbours
    mitotic: float
    dying: float
    brightness_cv: float
    flatness: float
    grain: float  # contrast of fine chromatin
    nucleoli: float  # dark spots per nucleus
    chromocentres: float  # bright spots per nucleus (mouse)
    psf_px: float
    defocus: tuple[float, float, float]  # odds of: in focus, a little off, far off
    haze: float
    background: float
    cytoplasm: float
    vignette: float
    debris: float  # specks per million pixels
    peak: float  # of an ordinary nucleus, as a fraction of the camera's range
    electrons: float  # per 1/255 of the camera's range
    read_noise_e: float


def make(settings: SynthSettings, rng: np.random.Generator) -> tuple[npt.NDArray[Any], Layout]:
    """Return an image (height, width) in uint8 or uint16, and its layout."""
    shape = (settings.height, settings.width)
    look = _draw_look(rng, settings)
    layout = _lay_out(rng, shape, look)
    signal = _signal(rng, layout, look)
    camera = _camera(rng, look, settings.bits)
    unit = look.peak * camera.top
    return expose(rng, signal * np.float32(unit), camera), layout


def _draw_look(rng: np.random.Generator, settings: SynthSettings) -> _Look:
    diameter = settings.diameter_px or math.exp(rng.uniform(math.log(13), math.log(44)))
    # Small nuclei in real sets are mostly thick: round, spotted, hazy tissue or suspension cells.
    thick = bool(rng.random() < (0.5 if diameter < 20 else 0.12))
    cells = settings.cells_at(math.exp(rng.uniform(math.log(0.05), math.log(0.28))), diameter)
    touching = settings.touching if settings.touching is not None else float(rng.beta(1.3, 3.5))
    form = Form(
        aspect=1.14 if thick else rng.uniform(1.25, 1.6),
        spread=rng.uniform(0.1, 0.2),
        rough=rng.uniform(0.03, 0.08),
        bend=0.06 if thick else rng.uniform(0.1, 0.25),
        corner=rng.uniform(-0.05, 0.2),
    )
    haze = rng.uniform(0.08, 0.25) if thick else rng.uniform(0.02, 0.09)
    return _Look(
        diameter_px=diameter,
        form=form,
        plan=Plan(cells, touching, rng.uniform(2.2, 5.0), clumping=rng.uniform(0.2, 1.4)),
        aligned=0.0 if thick else float(rng.choice([0.0, 0.7])),
        mitotic=rng.uniform(0, 0.05),
        dying=rng.uniform(0, 0.04),
        brightness_cv=rng.uniform(0.12, 0.32),
        flatness=rng.uniform(0.2, 0.45) if thick else rng.uniform(0.55, 0.8),
        grain=rng.uniform(0.09, 0.2),
        nucleoli=0.4 if thick else rng.uniform(0.5, 3.0),
        chromocentres=rng.uniform(3, 8) if thick and rng.random() < 0.7 else rng.choice([0.0, 0.0, 1.5]),
        psf_px=float(np.clip(diameter * rng.uniform(0.03, 0.05), 0.9, 1.8)),
        defocus=(0.6, 0.3, 0.1) if thick else (0.86, 0.11, 0.03),
        haze=haze,
        background=rng.uniform(0.01, 0.09),
        cytoplasm=rng.choice([0.0, 0.015, 0.04]) * rng.uniform(0.5, 1.5),
        vignette=rng.uniform(0.02, 0.3),
        debris=rng.uniform(0, 140),
        peak=math.exp(rng.uniform(math.log(0.07), math.log(0.55))),
        electrons=math.exp(rng.uniform(math.log(10), math.log(80))),
        read_noise_e=rng.uniform(1.5, 8),
    )


def _lay_out(rng: np.random.Generator, shape: Shape, look: _Look) -> Layout:
    _, across = flow(rng, shape, 0.6 * max(shape), bend=0.8)

    def make_one(row: float, col: float, angle: float | None) -> Nucleus:
        if angle is None:
            follows = rng.random() < look.aligned
            flowing = angle_of_flow(across, row, col) + rng.normal(0, 0.35)
            angle = flowing if follows else rng.uniform(0, math.pi)
        chance = rng.random()
        if chance < look.mitotic:
            return make_nucleus(rng, "mitotic", METAPHASE, 0.66 * look.diameter_px, angle)
        if chance < look.mitotic + look.dying:
            return make_nucleus(rng, "dying", PYKNOTIC, 0.55 * look.diameter_px, angle)
        return make_nucleus(rng, "interphase", look.form, look.diameter_px, angle)

    return place(rng, shape, look.plan, look.diameter_px, make_one)


def _signal(rng: np.random.Generator, layout: Layout, look: _Look) -> Canvas:
    """Return the mean light at the camera, 1 for an ordinary nucleus."""
    shape = layout.labels.shape
    diameter = look.diameter_px
    emitted = _emission(rng, layout, look)
    focus = rng.choice(3, len(layout.nuclei), p=np.array(look.defocus))
    focus[chromatin.kinds(layout) == "dying"] = 0
    signal = np.zeros(shape, np.float32)
    for extra, part in zip((0.0, 0.045, 0.11), chromatin.by_focus(emitted, layout, focus), strict=False):
        signal += blur(part, math.hypot(look.psf_px, extra * diameter))
    # Light from above and below the focal plane: a wide, weak halo about every nucleus.
    signal += np.float32(0.55 * look.haze) * blur(emitted, 0.3 * diameter)
    signal += np.float32(look.haze) * blur(emitted, 1.1 * diameter)
    signal += _background(rng, layout, look)
    signal += blur(_debris(rng, shape, look), look.psf_px)
    return signal * illumination(rng, shape, look.vignette)


def _emission(rng: np.random.Generator, layout: Layout, look: _Look) -> Canvas:
    """Return the fluorescence of the nuclei themselves, before any blur."""
    shape = layout.labels.shape
    diameter, count = look.diameter_px, len(layout.nuclei)
    kind = chromatin.kinds(layout)
    level = np.exp(look.brightness_cv * rng.standard_normal(count))
    level = np.where(kind == "mitotic", level * rng.uniform(1.7, 3.2, count), level)
    level = np.where(kind == "dying", level * rng.uniform(1.5, 3.0, count), level)
    contrast = np.where(kind == "interphase", rng.uniform(0.6, 1.4, count), 1.8) * look.grain
    grain = 0.8 * noise(rng, shape, max(0.03 * diameter, 0.6)) + 0.7 * noise(rng, shape, 0.08 * diameter)
    grain += 0.45 * noise(rng, shape, 0.2 * diameter)
    texture = 1 + chromatin.spread(layout, contrast) * grain
    texture = np.clip(texture, 0.4, 1.9)
    interphase = kind == "interphase"
    dark = chromatin.spots(rng, layout, interphase, mean_number=look.nucleoli, radius=0.17, reach=0.6)
    texture *= 1 - np.float32(rng.uniform(0.2, 0.45)) * blur(dark, 0.03 * diameter)
    if look.chromocentres:
        bright = chromatin.spots(rng, layout, interphase, mean_number=look.chromocentres, radius=0.17)
        texture += np.float32(rng.uniform(0.4, 1.1)) * blur(bright, 0.025 * diameter)
    balls = chromatin.spots(rng, layout, kind == "dying", mean_number=6.0, radius=0.35)
    texture += 0.7 * balls
    emitted = chromatin.spread(layout, level) * texture * chromatin.thickness(layout, look.flatness)
    emitted *= 1 + np.float32(rng.uniform(0.1, 0.6)) * layout.overlap
    return np.asarray(emitted, np.float32)


def _background(rng: np.random.Generator, layout: Layout, look: _Look) -> Canvas:
    """Return medium and dim autofluorescence: cytoplasm around the nuclei and sometimes stretched fibres."""
    shape = layout.labels.shape
    diameter = look.diameter_px
    light = np.full(shape, look.background, np.float32)
    light *= 1 + np.float32(0.12) * noise(rng, shape, 6 * diameter)
    if look.cytoplasm > 0:
        body = blur((layout.labels > 0).astype(np.float32), 0.55 * diameter)
        grain = np.clip(1 + 0.45 * noise(rng, shape, 0.25 * diameter), 0.1, 3)
        light += np.float32(2.2 * look.cytoplasm) * body * grain
    if rng.random() < 0.35:
        along, across = flow(rng, shape, 8 * diameter, bend=0.5)
        strands = fibres(rng, along, across, 5 * diameter, max(0.12 * diameter, 1.5))
        where = np.clip(noise(rng, shape, 3 * diameter), 0, 2)
        light += np.float32(0.012) * np.clip(strands - 1.0, 0, 3) * where
    return np.maximum(light, 0)


def _debris(rng: np.random.Generator, shape: Shape, look: _Look) -> Canvas:
    """Return specks far smaller than a nucleus, mostly dim: dust, vesicles, bits of dead cells; unlabelled."""
    canvas = np.zeros(shape, np.float32)
    count = int(rng.poisson(look.debris * shape[0] * shape[1] / 1e6))
    # Some lie in little heaps.
    parents = rng.integers(0, max(count // 3, 1), count)
    rows = rng.uniform(0, shape[0], count)[parents] + rng.normal(0, 0.25 * look.diameter_px, count)
    cols = rng.uniform(0, shape[1], count)[parents] + rng.normal(0, 0.25 * look.diameter_px, count)
    radii = look.diameter_px * rng.uniform(0.01, 0.06, count)
    chromatin.draw_discs(canvas, rows, cols, radii, 0.9 * rng.beta(1.0, 3.0, count))
    return canvas


def _camera(rng: np.random.Generator, look: _Look, bits: int) -> Camera:
    if bits == 8:
        return Camera(look.electrons, look.read_noise_e, rng.uniform(0.5, 6), _COUNTS_8)
    scale = 255 / _COUNTS_12
    return Camera(look.electrons * scale, look.read_noise_e, rng.uniform(90, 110), _COUNTS_12)
