"""What makes tissue look like no other: its stain and ground, grain, clefts, fat, lumens, red cells; none is a nucleus.

Lengths are in diameters of an ordinary nucleus.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from cellseg_host.synth import chromatin
from cellseg_host.synth.layout import Layout
from cellseg_host.synth.look import Look
from cellseg_host.synth.texture import Canvas, Shape, bent, blur, fibres, noise

_WHITE = (0.95, 0.94, 0.95)
_GROUNDS = ((0.93, 0.94, 0.82), (0.80, 0.83, 0.80), (0.90, 0.88, 0.93))  # yellowish, grey, the blue of a lamp
_RED_CELLS = (0.12, 0.80, 0.62)
_YELLOW_CELLS = (0.06, 0.08, 0.60)  # without eosin
_MISHAPS = {"dust": 0.25, "pigment": 0.12, "lint": 0.08, "fold": 0.08}  # share of the fields; no ink over nuclei


@dataclass(frozen=True)
class Scene:
    """What a field of tissue has beside nuclei.

    Attributes
    ----------
    nuclear, blue, red : float
        Gains of the dye in nuclei, and of haematoxylin and eosin between them.
    scanned, turn : float
        0 for the dyes' own colours to 1 for those that slide scanners show; standard deviation of their vectors.
    white : tuple of float
        The light through bare glass, (red, green, blue), as a fraction of full scale.
    grain : float
        Contrast of the tissue's finest texture.
    bundles : float
        Contrast of bundles of fibres.
    clefts, foam, fat, lumen : float
        Shares of the field: bright cracks between bundles, small bubbles, round holes with a rim, large smooth holes.
    halos : float
        Share of the nuclei within a bright ring, where the tissue has shrunk.
    vesicular, rim, variation : float
        Gains of the contrast inside nuclei, of their rims, and of the differences between them.
    red_cells : float
        Clusters of red cells in an area of 100 diameters squared.
    is_blue_only : bool
        Haematoxylin without a counter-stain: red cells are yellow.
    mishaps : tuple of str
        Names of `mishaps.MISHAPS`.
    sharpened : float
        Strength of the camera's unsharp mask.
    """

    nuclear: float = 1.0
    blue: float = 1.0
    red: float = 1.0
    scanned: float = 0.5
    turn: float = 0.05
    white: tuple[float, float, float] = _WHITE
    grain: float = 0.15
    bundles: float = 0.2
    clefts: float = 0.0
    foam: float = 0.0
    fat: float = 0.0
    lumen: float = 0.0
    halos: float = 0.0
    vesicular: float = 1.0
    rim: float = 1.0
    variation: float = 1.0
    red_cells: float = 0.0
    is_blue_only: bool = False
    mishaps: tuple[str, ...] = ()
    sharpened: float = 0.0


def draw(rng: np.random.Generator) -> Scene:
    """Return the scenery of a field, as different from the next as two laboratories and two organs are."""
    blue_only = bool(rng.random() < 0.12)
    tinted = rng.random() < (0.7 if blue_only else 0.25)
    ground = np.array(_GROUNDS[0 if blue_only else int(rng.integers(3))] if tinted else _WHITE)
    red, green, blue = (float(v) for v in np.clip(ground + rng.normal(0, 0.012, 3), 0, 0.99))
    return Scene(
        nuclear=math.exp(rng.normal(0.05, 0.3)),
        blue=math.exp(rng.uniform(-1.2, 0.9)) * (0.4 if blue_only else 1.0),
        red=math.exp(rng.uniform(-0.9, 0.9)) * (0.1 if blue_only else 1.0),
        scanned=rng.uniform(0, 1),
        white=(red, green, blue),
        grain=rng.uniform(0.06, 0.28),
        bundles=float(rng.choice([0.1, 0.3, 0.5])),
        clefts=_sometimes(rng, 0.45, 0.02, 0.15),
        foam=_sometimes(rng, 0.35, 0.05, 0.3),
        fat=_sometimes(rng, 0.2, 0.05, 0.35),
        lumen=_sometimes(rng, 0.3, 0.05, 0.3),
        halos=_sometimes(rng, 0.5, 0.1, 0.5),
        vesicular=math.exp(rng.uniform(-0.3, 0.9)),
        rim=math.exp(rng.uniform(-0.3, 1.1)),
        variation=rng.uniform(0.8, 1.6),
        red_cells=_sometimes(rng, 0.4, 0.2, 2.0),
        is_blue_only=blue_only,
        mishaps=tuple(name for name, share in _MISHAPS.items() if rng.random() < share),
        sharpened=_sometimes(rng, 0.4, 0.3, 1.2),
    )


def _sometimes(rng: np.random.Generator, share: float, low: float, high: float) -> float:
    value = rng.uniform(low, high)
    return value if rng.random() < share else 0.0


def dressed(
    rng: np.random.Generator,
    scene: Scene,
    layout: Layout,
    *,
    diameter: float,
    dyes: tuple[Canvas, Canvas, Canvas],
    course: tuple[Canvas, Canvas],
) -> tuple[Canvas, Canvas, Canvas]:
    """Return the dyes between the nuclei with the scene's texture and holes.

    Parameters
    ----------
    rng : Generator
    scene : Scene
    layout : Layout
    diameter : float
        Of an ordinary nucleus, in pixels.
    dyes : tuple of ndarray, shape (height, width), float32
        Haematoxylin, eosin and neutral shading, in optical density.
    course : (along, across)
        The flow of the tissue.
    """
    shape = layout.labels.shape
    along, across = course
    crimp = across + np.float32(0.12 * diameter) * noise(rng, shape, 0.4 * diameter)
    bundles = fibres(rng, along, crimp, 5 * diameter, 0.4 * diameter)
    fine = noise(rng, shape, max(0.045 * diameter, 0.7)) + np.float32(0.8) * noise(rng, shape, 0.13 * diameter)
    patchy = np.clip(1 + 0.3 * noise(rng, shape, 3 * diameter), 0.3, 1.6)
    bundled = np.exp(np.float32(scene.bundles) * bundles)
    texture = bundled * np.exp(np.float32(scene.grain) * patchy * fine)
    fill = _holes(rng, scene, layout, diameter, (along, crimp))
    own = (layout.labels > 0).astype(np.float32)
    fill = np.maximum(fill, np.clip(2.5 * blur(own, 0.13 * diameter), 0, 1))  # a nucleus keeps its cytoplasm
    fill *= 1 - _halos(rng, scene, layout, diameter)
    blue, red, neutral = dyes
    uneven = np.exp(np.float32(0.3) * noise(rng, shape, 2.5 * diameter))
    blue = np.float32(scene.blue) * blue * fill * bundled * uneven
    red = np.float32(scene.red) * red * fill * texture
    return np.asarray(blue, np.float32), np.asarray(red, np.float32), neutral * np.minimum(fill, 1)


def _holes(
    rng: np.random.Generator, scene: Scene, layout: Layout, diameter: float, course: tuple[Canvas, Canvas]
) -> Canvas:
    """Return how much of the tissue is there: 0 in a hole, 1 in ordinary tissue, more on the rim of a vacuole."""
    shape = layout.labels.shape
    fill = np.ones(shape, np.float32)
    if scene.clefts:
        cracks = fibres(rng, *course, 3 * diameter, 0.22 * diameter) + noise(rng, shape, 3 * diameter)
        fill *= 1 - np.float32(rng.uniform(0.6, 1)) * _above(cracks, scene.clefts, 8)
    if scene.foam:
        bubbles = noise(rng, shape, 0.2 * diameter) + np.float32(1.5) * noise(rng, shape, 3 * diameter)
        fill *= 1 - np.float32(rng.uniform(0.4, 0.9)) * _above(bubbles, scene.foam, 5)
    if scene.lumen:
        smooth = noise(rng, shape, 3 * diameter) + np.float32(0.06) * noise(rng, shape, 0.4 * diameter)
        fill *= 1 - np.float32(rng.uniform(0.75, 1)) * _above(smooth, scene.lumen, 30)
    if scene.fat:
        vacuoles = _vacuoles(rng, shape, scene.fat, diameter)
        rims = np.clip(blur(vacuoles, 0.12 * diameter) * 3, 0, 1) - vacuoles
        fill *= 1 + np.float32(rng.uniform(0, 0.5)) * np.maximum(rims, 0)
        fill *= 1 - np.float32(rng.uniform(0.9, 1)) * vacuoles
    return fill


def _above(values: Canvas, share: float, steepness: float) -> Canvas:
    """Return 1 in the highest `share` of a canvas and 0 elsewhere, with a smooth edge."""
    edge = np.quantile(values[::4, ::4], 1 - share)
    return np.asarray(1 / (1 + np.exp(np.clip(-(values - edge) * steepness, -30, 30))), np.float32)


def _vacuoles(rng: np.random.Generator, shape: Shape, share: float, diameter: float) -> Canvas:
    """Return discs of one size or many, side by side with thin walls, 1 inside; a little out of round."""
    largest = diameter * math.exp(rng.uniform(math.log(0.4), math.log(3)))
    count = min(int(1.5 * share * shape[0] * shape[1] / largest**2) + 1, 600)
    centre = rng.uniform(0, 1, 2) * shape
    places = rng.normal(centre, 0.35 * max(shape), (count, 2)) if rng.random() < 0.5 else rng.random((count, 2)) * shape
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + np.where(np.eye(count), np.inf, 0)
    room = 0.5 * apart.min(axis=1, initial=4 * largest) - 0.06 * diameter
    radii = np.minimum(largest * rng.uniform(0.5, 1, count), room)
    is_open = radii > 0.12 * diameter
    canvas = np.zeros(shape, np.float32)
    rows, cols = places[is_open].T
    chromatin.draw_discs(canvas, rows, cols, radii[is_open], np.ones(int(is_open.sum())))
    return blur(bent(rng, canvas, 0.1 * largest, 0.8 * largest), 0.025 * diameter)


def _halos(rng: np.random.Generator, scene: Scene, layout: Layout, diameter: float) -> Canvas:
    """Return bright rings about some of the nuclei, 0 elsewhere and inside."""
    chosen = rng.random(len(layout.nuclei)) < scene.halos
    near = blur(chromatin.spread(layout, chosen.astype(float)), 0.09 * diameter)
    return np.asarray(np.float32(0.85) * np.clip(2.5 * near, 0, 1) * (layout.labels == 0), np.float32)


def red_cells(rng: np.random.Generator, scene: Scene, layout: Layout, diameter: float) -> Canvas:
    """Return the optical density of red cells, (height, width, 3): packed or strewn, but not over a nucleus."""
    shape = layout.labels.shape
    amount = np.zeros(shape, np.float32)
    for _ in range(int(rng.poisson(scene.red_cells * shape[0] * shape[1] / (10 * diameter) ** 2))):
        count = int(math.exp(rng.uniform(0, 4)))
        spread = diameter * 0.25 * math.sqrt(count) * rng.uniform(0.8, 2)
        rows, cols = (rng.normal(rng.uniform(0, n), spread, count) for n in shape)
        radii = diameter * rng.uniform(0.32, 0.45) * np.exp(rng.normal(0, 0.08, count))
        levels = rng.uniform(0.7, 1.1, count)
        chromatin.draw_discs(amount, rows, cols, radii, 0.35 * levels)  # a gap between two that touch
        chromatin.draw_discs(amount, rows, cols, 0.9 * radii, levels)
        if rng.random() < 0.5:  # seen flat: paler in the middle
            chromatin.draw_discs(amount, rows, cols, 0.45 * radii, levels * rng.uniform(0.6, 0.9))
    if not amount.any():
        return np.zeros((*shape, 3), np.float32)
    amount = bent(rng, blur(amount, 0.035 * diameter), 0.14 * diameter, 0.4 * diameter)
    amount *= 1 - np.clip(2 * blur((layout.labels > 0).astype(np.float32), 0.05 * diameter), 0, 1)
    colour = np.array(_YELLOW_CELLS if scene.is_blue_only else _RED_CELLS) * np.exp(rng.normal(0, 0.15, 3))
    amount *= np.float32(rng.uniform(0.5, 1.1) * (0.5 if scene.is_blue_only else 1))
    amount *= 1 + np.float32(0.15) * noise(rng, shape, 0.5 * diameter)
    return np.asarray(amount[..., None] * colour.astype(np.float32), np.float32)


def seen(look: Look, scene: Scene) -> Look:
    """Return the look of a field in this scenery: dyes, ground, chromatin and camera."""
    blue, red = look.nuclear
    return dataclasses.replace(
        look,
        nuclear=(scene.nuclear * blue, scene.nuclear * red),
        white=scene.white,
        scanned=scene.scanned,
        turn=scene.turn,
        vesicular=scene.vesicular * look.vesicular,
        rim=scene.rim * look.rim,
        variation=scene.variation * look.variation,
        sharpened=scene.sharpened,
    )
