"""The road of one image, from its bytes to labels and a table of cells, with the time each step took."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device import image as images
from cellseg_device import instances, normalise, quality, size, tiling
from cellseg_device.card import QUANTITIES, Card, Separation
from cellseg_device.counting import Counting, Counts, select, sum_up
from cellseg_device.image import Image
from cellseg_device.instances import Limits
from cellseg_device.measure import Cells, measure
from cellseg_device.model import MapSpec, Model

STEPS = ("decode", "normalise", "tiles", "invoke", "stitch", "instances", "measure", "write")

# A network that takes any size sees a field of up to this size as a whole, without overlap. A larger one is tiled, and
# into smaller tiles: the runtime takes some 70 bytes a pixel of them, beside an image that needs its memory itself.
MAX_WHOLE_PX = 2_000_000
MAX_TILE_PX = 500_000

# An image is not scaled for a diameter this near to the model's: the pixels it was taken in are the better ones.
_NEAR_RATIO = 1.15
_MOST_ENLARGED = 4.0
# Cells so many times as large as the model's fall to pieces: without being told, the image is scaled for them, to this
# size (models/NOTES.md: at 65 px AP@0.5 0.689 became 0.793, and the untouched images lost 0.003).
_LARGE_RATIO, _SCALED_RATIO = 2.6, 1.2
_GLANCE = 2  # every other pixel of the foreground is enough to tell
_MAX_ENLARGED_PX = 16_000_000

# What tells touching cells apart, the first that a model draws
RELIEFS = ("distance", "centre", "outline")

Maps = dict[str, npt.NDArray[np.int8]]


@dataclass
class Stopwatch:
    """Adds up milliseconds by step."""

    ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time the block under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] = self.ms.get(name, 0.0) + (time.perf_counter() - start) * 1e3


@dataclass(frozen=True)
class Look:
    """An image and what the network says of it.

    Attributes
    ----------
    image : Image
    shape : (int, int)
        (height, width) at which the network saw it.
    maps : dict of str to ndarray of int8
        As from `predict`, at that size.
    model : Model
        Whose maps these are.
    """

    image: Image
    shape: tuple[int, int]
    maps: Maps
    model: Model


@dataclass(frozen=True)
class Segmentation:
    """What the road gives for one image.

    Attributes
    ----------
    image : Image
    labels : ndarray of uint16, shape (height, width)
        Of the cells that are counted.
    cells : Cells
    counts : Counts
    """

    image: Image
    labels: npt.NDArray[np.uint16]
    cells: Cells
    counts: Counts


def segment(
    data: bytes, model: Model, watch: Stopwatch | None = None, counting: Counting | None = None
) -> Segmentation:
    """Decode an image file, label its cells, measure and count them.

    Parameters
    ----------
    data : bytes
        A PNG, JPEG or TIFF file.
    model : Model
    watch : Stopwatch or None
        Receives the time of each step.
    counting : Counting or None
        None for the defaults.

    Raises
    ------
    ImageError
        If the file is no such image, has more than 65,535 cells, or does not go with the settings.
    """
    watch, counting = watch or Stopwatch(), counting or Counting()
    image = counting.applied(decode(data, watch))
    return finish(look(image, model, watch, counting.diameter_px(image)), watch, counting)


def decode(data: bytes, watch: Stopwatch) -> Image:
    """Decode an image file, timed.

    Raises
    ------
    ImageError
        If the file is no such image.
    """
    with watch.step("decode"):
        return images.decode(data)


def look(image: Image, model: Model, watch: Stopwatch, diameter_px: float | None = None) -> Look:
    """Run the network over an image; with a diameter, at the size at which its cells are as large as the model's.

    Without one, cells that turn out to be much larger than the model's are looked at again, at about that size.
    """
    if diameter_px is None:
        maps = predict(image, model, watch)
        with watch.step("instances"):
            large_px = _large_diameter_px(maps["foreground"], image.shape, model)
        if large_px is None:
            return Look(image, image.shape, maps, model)
        maps.clear()
        diameter_px = large_px / _SCALED_RATIO
    with watch.step("normalise"):
        scaled = _scaled(image, diameter_px / model.card.cell_diameter_px)
    return Look(image, scaled.shape, predict(scaled, model, watch), model)


def separated(seen: Look) -> npt.NDArray[np.uint16]:
    """Labels, of the image's own shape.

    Raises
    ------
    ImageError
        If there are more than 65,535 cells.
    """
    model, shape = seen.model, seen.image.shape
    separation = model.card.separation
    labels = label(seen.maps, seen.shape, model.maps, separation)
    if seen.shape == shape:
        return labels
    threshold = model.maps["foreground"].threshold(separation.foreground)
    return instances.rescale(labels, seen.maps["foreground"], threshold, shape)


def finish(seen: Look, watch: Stopwatch, counting: Counting) -> Segmentation:
    """Go the second half of the road: label the cells, measure and count them; the maps are let go of on the way.

    Raises
    ------
    ImageError
        If there are more than 65,535 cells, or the settings do not fit the image.
    """
    image, model = seen.image, seen.model
    with watch.step("instances"):
        labels = separated(seen)
    seen.maps.clear()
    with watch.step("measure"):
        return counted(image, labels, seen.shape[0] / image.shape[0] / model.card.cell_diameter_px, counting)


def counted(image: Image, labels: npt.NDArray[np.uint16], ratio_per_px: float, counting: Counting) -> Segmentation:
    """Measure the cells of a label image, judge them, and count those that are to be counted.

    Parameters
    ----------
    image : Image
    labels : ndarray of uint16, shape (height, width)
        Cells numbered 1…n without a gap; 0 is background.
    ratio_per_px : float
        By which a diameter in pixels of the image becomes `Quality.diameter_ratio`.
    counting : Counting

    Raises
    ------
    ImageError
        If the settings do not fit the image.
    """
    cells = measure(labels, image.pixels, image.pixel_size_um)
    judged = quality.judge(image, labels, cells, ratio_per_px)
    chosen = select(labels, cells, image.pixel_size_um, counting)
    return Segmentation(image, chosen.labels, chosen.cells, sum_up(image, chosen, judged, counting))


def shown(image: Image, card: Card) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """What of an image a network with this card is shown, and the table from its values to levels."""
    ends = card.low_percentile, card.high_percentile
    pixels, counts = normalise.seen(image.searched, image.histograms, *ends)
    return pixels, normalise.level_table(counts, *ends)


def predict(image: Image, model: Model, watch: Stopwatch | None = None) -> Maps:
    """Run the network over an image and stitch its maps.

    Returns
    -------
    dict of str to ndarray of int8
        By quantity; each covers the image padded to whole strides, at the map's own resolution.
    """
    watch = watch or Stopwatch()
    card = model.card
    with watch.step("normalise"):
        pixels, levels = shown(image, card)
        table = model.input_table(levels)
    with watch.step("tiles"):
        if model.tile:
            plan = tiling.plan_fixed(*image.shape, model.tile, card.margin, card.stride)
        else:
            limit = MAX_WHOLE_PX if image.shape[0] * image.shape[1] <= MAX_WHOLE_PX else MAX_TILE_PX
            plan = tiling.plan_free(*image.shape, limit, card.margin, card.stride)
        model.resize(plan.tile_height, plan.tile_width)
        maps = {
            quantity: np.empty((plan.height // spec.reduction, plan.width // spec.reduction), np.int8)
            for quantity, spec in model.maps.items()
        }
    for tile in plan.tiles:
        with watch.step("tiles"):
            _fill(model.input_view(), pixels, tile.row, tile.col, table)
        with watch.step("invoke"):
            model.invoke()
        with watch.step("stitch"):
            for quantity, spec in model.maps.items():
                _stitch(maps[quantity], model.output_tensor(spec), spec, tile)
    return maps


def label(
    maps: Maps, shape: tuple[int, int], specs: Mapping[str, MapSpec], settings: Separation
) -> npt.NDArray[np.uint16]:
    """Labels, shape `shape`, from the maps of `predict` and what their values mean."""
    relief, spec = relief_of(maps, specs)
    labels = instances.separate(maps["foreground"], relief, shape, limits(specs["foreground"], spec, settings))
    return np.ascontiguousarray(labels[: shape[0], : shape[1]])


def relief_of(maps: Maps, specs: Mapping[str, MapSpec]) -> tuple[npt.NDArray[np.int8] | None, MapSpec | None]:
    """The map that is high inside cells and low between them, and what its values mean; None where there is none."""
    for quantity in RELIEFS:
        if quantity in specs:
            # ~v = -1 - v: turned over, exactly
            return ~maps[quantity] if quantity == "outline" else maps[quantity], specs[quantity]
    return None, None


def limits(foreground: MapSpec, relief: MapSpec | None, settings: Separation) -> Limits:
    """The settings in int8 values of these maps."""
    join: tuple[float, ...] = ()
    if settings.join and relief:
        bias, depth, sure, *others = dataclasses.astuple(settings.join)
        sure *= foreground.step
        join = (bias - sure * foreground.zero, depth * relief.step, sure, *others)
    return Limits(
        foreground.threshold(settings.foreground),
        relief.rise(settings.rise) if relief else 1,
        foreground.threshold(settings.confidence),
        join,
        settings.min_area_px,
    )


def _large_diameter_px(foreground: npt.NDArray[np.int8], shape: tuple[int, int], model: Model) -> int | None:
    """Diameter of the cells in pixels of the image, if they are much larger than those the model knows."""
    threshold = model.maps["foreground"].threshold(model.card.separation.foreground)
    height, width = (-(-n // _GLANCE) for n in shape)
    inside = instances.mask_of(foreground[::_GLANCE, ::_GLANCE], (height, width), threshold)
    reduction = _GLANCE * model.maps["foreground"].reduction
    return size.large_diameter_px(inside, reduction, _LARGE_RATIO * model.card.cell_diameter_px)


def _scaled(image: Image, ratio: float) -> Image:
    """The image made smaller by `ratio`, or larger where it is below 1."""
    if 1 / _NEAR_RATIO < ratio < _NEAR_RATIO:
        return image
    height, width = image.shape
    ratio = max(ratio, 1 / _MOST_ENLARGED, min(1.0, math.sqrt(height * width / _MAX_ENLARGED_PX)))
    size = (max(round(width / ratio), 1), max(round(height / ratio), 1))
    # Exact, so that every machine gives the same bits
    how = cv2.INTER_AREA if ratio > 1 else cv2.INTER_LINEAR_EXACT
    return Image(cv2.resize(image.searched, size, interpolation=how))


def maps_digest(maps: Maps) -> str:
    """SHA-256 of the maps, in the order of `card.QUANTITIES`: equal on runtimes with equal arithmetic."""
    digest = hashlib.sha256()
    for quantity in QUANTITIES:
        if quantity in maps:
            digest.update(np.ascontiguousarray(maps[quantity]).data)
    return digest.hexdigest()


def _fill(view: npt.NDArray[Any], pixels: npt.NDArray[Any], row: int, col: int, table: npt.NDArray[Any]) -> None:
    """Write the tile at (row, col) into the input tensor; outside the image it is mirrored."""
    window = pixels[row : row + view.shape[0], col : col + view.shape[1]]
    below, right = view.shape[0] - window.shape[0], view.shape[1] - window.shape[1]
    if below or right:
        window = cv2.copyMakeBorder(window, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    normalise.apply_table(table, window, view)


def _stitch(into: npt.NDArray[np.int8], tensor: npt.NDArray[np.int8], spec: MapSpec, tile: tiling.Tile) -> None:
    """Copy the kept part of one output tensor into its map, spreading channels over blocks of pixels."""
    cell = spec.block * spec.reduction  # input pixels per tensor element along an axis
    (top, bottom), (left, right) = tile.keep_rows, tile.keep_cols
    kept = tensor[
        (top - tile.row) // cell : (bottom - tile.row) // cell,
        (left - tile.col) // cell : (right - tile.col) // cell,
    ]
    target = into[top // spec.reduction : bottom // spec.reduction, left // spec.reduction : right // spec.reduction]
    for r in range(spec.block):
        for c in range(spec.block):
            target[r :: spec.block, c :: spec.block] = kept[..., r * spec.block + c]
