"""What the network predicts for an image: int8 maps, stitched from tiles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import instances, size
from cellseg_device.image import normalise
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import QUANTITIES, Card
from cellseg_device.model.interpreter import MapSpec, Model
from cellseg_device.pipeline import tiling
from cellseg_device.pipeline.scaling import scaled_shape
from cellseg_device.pipeline.stopwatch import Stopwatch

# A network that takes any size is given a field of up to this size as a whole, without overlap, if there is the memory.
# A larger field is cut into smaller tiles than that, because of what the runtime takes for each pixel of its input.
MAX_WHOLE_PX = 2_000_000
MAX_TILE_PX = 500_000
_RUNTIME_BYTES_PER_PX, _FLOATS = 108, 4  # int8; of other networks so many times that

# Cells at least this many times as large as the model's fall to pieces, so without --diameter the image is scaled down
# until they are this size (models/NOTES.md: at 65 px AP@0.5 rose from 0.689 to 0.793; other images lost 0.003).
LARGE_RATIO, _SCALED_RATIO = 2.6, 1.2
_STEP_PX = 2  # every other pixel of the foreground is enough to estimate the size of the cells

Maps = dict[str, npt.NDArray[np.int8]]
_T = TypeVar("_T")


class Runnable(Protocol):
    """A model that runs somewhere: a `Model`, or an `accelerator.FallbackModel`.

    Attributes
    ----------
    path : Path
    sha256 : str
        Digest that identifies the model; for a pair, that of the CPU's file.
    files : dict of Path to str
        SHA-256 of each of its files.
    card : Card
    threads : int
    accelerator : str
        Where it runs now: ``"cpu"`` or ``"edgetpu"``.
    """

    path: Path
    sha256: str
    files: dict[Path, str]
    card: Card
    threads: int

    @property
    def accelerator(self) -> str: ...  # noqa: D102

    def attempt(self, work: Callable[[Model], _T]) -> _T:
        """Return `work(model)` for a model that is loaded where it works now."""
        ...


@dataclass(frozen=True)
class Prediction:
    """An image and what the network predicts for it.

    Attributes
    ----------
    image : Image
    shape : (int, int)
        (height, width) at which the network saw it.
    maps : dict of str to ndarray of int8
        As from `predict_maps`, at that size; outside the image's field no foreground. Empty if the network was not run.
    model : Model
        Whose maps these are.
    """

    image: Image
    shape: tuple[int, int]
    maps: Maps
    model: Model


def predict(
    image: Image,
    model: Runnable,
    stopwatch: Stopwatch | None = None,
    *,
    diameter_px: float | None = None,
    whole_px: int | None = None,
) -> Prediction:
    """Return what the network predicts for an image.

    Parameters
    ----------
    image : Image
    model : Runnable
    stopwatch : Stopwatch or None
        Receives the time of each step.
    diameter_px : float or None
        Diameter of the cells, by which the image is scaled to the size of cells that the model knows. With None it is
        not scaled, unless the cells turn out to be much larger than that: then it is scaled and predicted again.
    whole_px : int or None
        Size of the largest field that the network is given as a whole; None for `MAX_WHOLE_PX`. The maps do not depend
        on it.

    Raises
    ------
    ModelError
        If the runtime fails, for lack of memory for example.
    AcceleratorError
        If the model needs an Edge TPU and that fails.
    """
    stopwatch = stopwatch or Stopwatch()
    return model.attempt(lambda loaded: _predict(image, loaded, stopwatch, diameter_px, whole_px))


def without_cells(image: Image, model: Runnable) -> Prediction:
    """Return the prediction of an image that shows no cell by another's word: the network is not run."""
    return model.attempt(lambda loaded: Prediction(image, image.shape, {}, loaded))


def _predict(
    image: Image, model: Model, stopwatch: Stopwatch, diameter_px: float | None, whole_px: int | None
) -> Prediction:
    if diameter_px is None:
        maps = predict_maps(image, model, stopwatch, whole_px)
        with stopwatch.step("instances"):
            large_px = _large_diameter_px(maps["foreground"], image.shape, model)
        if large_px is None:
            return Prediction(image, image.shape, maps, model)
        maps.clear()
        diameter_px = large_px / _SCALED_RATIO
    with stopwatch.step("normalise"):
        scaled = _scaled(image, diameter_px / model.card.cell_diameter_px)
    return Prediction(image, scaled.shape, predict_maps(scaled, model, stopwatch, whole_px), model)


def runtime_bytes(model: Runnable, shape: tuple[int, int], whole_px: int | None = None) -> float:
    """Return the memory that the runtime takes for a field of this size, beside what it holds already.

    Parameters
    ----------
    model : Runnable
    shape : (int, int)
        (height, width).
    whole_px : int or None
        As for `predict`.
    """
    held_px = 0.0
    if isinstance(model, Model):
        if model.tile:
            return 0
        held_px = model.held_px
    input_px = (shape[0] + model.card.stride) * (shape[1] + model.card.stride)
    if shape[0] * shape[1] > _largest_whole_px(whole_px):
        least_px = (6 * model.card.margin) ** 2  # of a tile, see `tiling.plan_free`
        input_px = min(input_px, max(MAX_TILE_PX, least_px))
    factor = 1 if model.card.quantization == "int8" else _FLOATS
    return factor * _RUNTIME_BYTES_PER_PX * max(input_px - held_px, 0)


def _largest_whole_px(whole_px: int | None) -> int:
    return MAX_WHOLE_PX if whole_px is None else whole_px


def shown(image: Image, card: Card) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Return the pixels that a network with this card is given, and the table from their values to levels."""
    pixels, ends = shown_between(image, card)
    return pixels, normalise.table_between(*ends, normalise.possible_values(pixels))


def shown_between(image: Image, card: Card) -> tuple[npt.NDArray[Any], tuple[int, int]]:
    """Return the pixels that a network with this card is given, and the values that become level 0 and level 255.

    An image that has its ends already is shown in all its channels: it is a part of what a network was given.
    """
    if image.ends is not None:
        return image.searched, image.ends
    percentiles = card.low_percentile, card.high_percentile
    pixels, counts = normalise.network_view(image.searched, image.histograms, *percentiles)
    return pixels, normalise.ends(counts, *percentiles)


def levels(image: Image, card: Card) -> npt.NDArray[np.uint8]:
    """Return the levels that a network with this card is given: (height, width) or (height, width, 3)."""
    return normalise.looked_up(*shown(image, card)[::-1])


def predict_maps(image: Image, model: Model, stopwatch: Stopwatch | None = None, whole_px: int | None = None) -> Maps:
    """Run the network over an image as it is, and return its stitched maps.

    Parameters
    ----------
    image : Image
    model : Model
    stopwatch : Stopwatch or None
        Receives the time of each step.
    whole_px : int or None
        As for `predict`.

    Returns
    -------
    dict of str to ndarray of int8
        By quantity; each covers the image padded to whole strides, at the map's own resolution.
    """
    stopwatch = stopwatch or Stopwatch()
    card = model.card
    with stopwatch.step("normalise"):
        pixels, table = shown(image, card)
        table = model.input_table(table)
    with stopwatch.step("tiles"):
        if model.tile:
            plan = tiling.plan_fixed(*image.shape, model.tile, card.margin, card.stride)
        else:
            limit = _largest_whole_px(whole_px)
            limit = limit if image.shape[0] * image.shape[1] <= limit else MAX_TILE_PX
            plan = tiling.plan_free(*image.shape, limit, card.margin, card.stride)
        model.resize(plan.tile_height, plan.tile_width)
        maps = {
            quantity: np.empty((plan.height // spec.reduction, plan.width // spec.reduction), np.int8)
            for quantity, spec in model.maps.items()
        }
    for tile in plan.tiles:
        with stopwatch.step("tiles"):
            _fill(model.input_view(), pixels, tile.row, tile.col, table)
        with stopwatch.step("invoke"):
            model.invoke()
        with stopwatch.step("stitch"):
            for quantity, spec in model.maps.items():
                _stitch(maps[quantity], model.output_tensor(spec), spec, tile)
    if image.field is not None:
        _blank_outside(maps["foreground"], image.field, model.maps["foreground"].reduction)
    return maps


def _blank_outside(foreground: npt.NDArray[np.int8], field: npt.NDArray[np.uint8], reduction: int) -> None:
    """Take the foreground away where no pixel is in the field."""
    height, width = (-(-n // reduction) for n in field.shape)
    inside = field
    if reduction > 1:
        beyond = height * reduction - field.shape[0], width * reduction - field.shape[1]
        whole = cv2.copyMakeBorder(field, 0, beyond[0], 0, beyond[1], cv2.BORDER_CONSTANT)
        inside = whole.reshape(height, reduction, width, reduction).max(axis=(1, 3))
    foreground[:height, :width][inside == 0] = np.iinfo(np.int8).min


def maps_digest(maps: Maps) -> str:
    """Return the SHA-256 of the maps, in the order of `card.QUANTITIES`: equal on runtimes with equal arithmetic."""
    digest = hashlib.sha256()
    for quantity in QUANTITIES:
        if quantity in maps:
            digest.update(np.ascontiguousarray(maps[quantity]).data)
    return digest.hexdigest()


def _large_diameter_px(foreground: npt.NDArray[np.int8], shape: tuple[int, int], model: Model) -> int | None:
    """Return the diameter of the cells in pixels of the image, if they are much larger than those the model knows."""
    threshold = model.maps["foreground"].threshold(model.card.separation.foreground)
    height, width = (-(-n // _STEP_PX) for n in shape)
    inside = instances.mask_of(foreground[::_STEP_PX, ::_STEP_PX], (height, width), threshold)
    reduction = _STEP_PX * model.maps["foreground"].reduction
    return size.large_diameter_px(inside, reduction, LARGE_RATIO * model.card.cell_diameter_px)


def _scaled(image: Image, ratio: float) -> Image:
    """Return the image made smaller by `ratio`, or larger if that is below 1."""
    height, width = shape = scaled_shape(image.shape, ratio)
    if shape == image.shape:
        return image
    # Exact, so that every machine gives the same bits
    how = cv2.INTER_AREA if ratio > 1 else cv2.INTER_LINEAR_EXACT
    pixels, field = (
        None if values is None else cv2.resize(values, (width, height), interpolation=how)
        for values in (image.searched, image.field)
    )
    return Image(np.asarray(pixels), field=field, ends=image.ends)


def _fill(view: npt.NDArray[Any], pixels: npt.NDArray[Any], row: int, col: int, table: npt.NDArray[Any]) -> None:
    """Write the tile at (row, col) into the input tensor; beyond its borders the image is mirrored."""
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
