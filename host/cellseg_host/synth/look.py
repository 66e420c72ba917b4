"""What is common to one field of stained tissue or of a smear: its dyes, its nuclei, its light and its camera."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cellseg_host.synth.layout import Plan
from cellseg_host.synth.settings import STAINS, SynthSettings


@dataclass(frozen=True)
class Look:
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
    rim: float = 0.4  # contrast of the nuclei's rims
    scanned: float = 0.0  # 0: the dyes' own colours … 1: as slide scanners show them
    turn: float = 0.02  # standard deviation of the dyes' vectors
    sharpened: float = 0.0  # strength of the camera's unsharp mask


def draw_look(rng: np.random.Generator, settings: SynthSettings) -> Look:
    """Return a random look within the settings."""
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
    return Look(
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
