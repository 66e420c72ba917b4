"""Tissue in H&E without a nucleus, each field full of something that is mistaken for one: the right count is 0."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cellseg_host.synth import histology, scenery
from cellseg_host.synth.scenery import Scene
from cellseg_host.synth.settings import SynthSettings
from cellseg_host.synth.texture import Shape

Change = Callable[[np.random.Generator, Scene], Scene]

_DIAMETER_PX = (14.0, 50.0)  # of the nuclei that are not there


def make_negative(kind: str, shape: Shape, seed: int | tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Return one field of tissue without a nucleus.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    shape : (height, width)
    seed : int or tuple of int
        Non-negative; the same kind, shape and seed make the same field.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
    """
    numbers = seed if isinstance(seed, tuple) else (seed,)
    rng = np.random.default_rng([*numbers, list(KINDS).index(kind)])
    scene = KINDS[kind](rng, scenery.draw(rng))
    diameter = math.exp(rng.uniform(*np.log(_DIAMETER_PX)))
    settings = SynthSettings("histology", *shape, cells=0, diameter_px=diameter, stain="he")
    return histology.make_scene(settings, rng, scene)[0]


def _holes(rng: np.random.Generator, scene: Scene) -> Scene:
    """Fat, foam, lumens: bright and round in dark tissue."""
    fat, foam, lumen = rng.uniform(0.1, 0.6), rng.uniform(0, 0.4), rng.uniform(0, 0.3)
    return dataclasses.replace(scene, fat=fat, foam=foam, lumen=lumen, red=1.5)


def _fibres(rng: np.random.Generator, scene: Scene) -> Scene:
    """Dark bundles with bright clefts between them."""
    clefts, bundles, red = rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.8), math.exp(rng.uniform(0, 1))
    return dataclasses.replace(scene, clefts=clefts, bundles=bundles, red=red)


def _red_cells(rng: np.random.Generator, scene: Scene) -> Scene:
    """Red cells, of all these the most like nuclei in size."""
    return dataclasses.replace(scene, red_cells=rng.uniform(2, 12))


def _with(*names: str) -> Change:
    """Return a change that adds some of `mishaps.MISHAPS`."""
    return lambda _, scene: dataclasses.replace(scene, mishaps=tuple(dict.fromkeys((*scene.mishaps, *names))))


KINDS: dict[str, Change] = {
    "holes": _holes,
    "fibres": _fibres,
    "red cells": _red_cells,
    "folds": _with("fold"),
    "pen marks": _with("pen"),
    "dust and pigment": _with("dust", "pigment", "lint"),
}
