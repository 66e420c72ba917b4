"""From a prediction to labels, a table of cells and counts; and all steps from the bytes of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells import instances, quality
from cellseg_device.cells.bands import bands
from cellseg_device.cells.counting import Counting, select, sum_up
from cellseg_device.cells.counts import Counts
from cellseg_device.cells.instances import Limits
from cellseg_device.cells.measure import Cells, measure
from cellseg_device.image import decode as decoding
from cellseg_device.image.pixels import Image
from cellseg_device.model.card import Separation
from cellseg_device.model.interpreter import MapSpec
from cellseg_device.pipeline.gate import Verdict
from cellseg_device.pipeline.predict import Maps, Prediction, Runnable, predict
from cellseg_device.pipeline.stopwatch import Stopwatch

# Quantities whose map can separate touching cells; the first that a model has is used
LANDSCAPES = ("distance", "centre", "outline")


@dataclass(frozen=True)
class Segmentation:
    """The cells of one image.

    Attributes
    ----------
    image : Image
    labels : ndarray of uint16, shape (height, width)
        The cells that are counted, numbered from 1; 0 is background.
    cells : Cells
    counts : Counts
    found : ndarray of uint16, shape (height, width), or None
        All cells, in other numbers, where some are left out of the count.
    """

    image: Image
    labels: npt.NDArray[np.uint16]
    cells: Cells
    counts: Counts
    found: npt.NDArray[np.uint16] | None = None


def segment(
    data: bytes, model: Runnable, stopwatch: Stopwatch | None = None, counting: Counting | None = None
) -> Segmentation:
    """Return the cells of an image file: decoded, labelled, measured and counted.

    Parameters
    ----------
    data : bytes
        A PNG, JPEG or TIFF file.
    model : Runnable
    stopwatch : Stopwatch or None
        Receives the time of each step.
    counting : Counting or None
        None for the defaults.

    Raises
    ------
    ImageError
        If the file is not such an image, has too many cells, or does not fit the settings.
    """
    stopwatch, counting = stopwatch or Stopwatch(), counting or Counting()
    image = decode(data, stopwatch)
    with stopwatch.step("normalise"):
        image = counting.applied(image)
    prediction = predict(image, model, stopwatch, diameter_px=counting.diameter_px(image))
    return finish(prediction, stopwatch, counting)


def decode(data: bytes, stopwatch: Stopwatch) -> Image:
    """Return the image in a file's bytes, and add the time it took to `stopwatch`.

    Raises
    ------
    ImageError
        If the file is not a PNG, JPEG or TIFF image that can be used.
    """
    with stopwatch.step("decode"):
        return decoding.decode(data)


def labels_of(prediction: Prediction, separation: Separation | None = None) -> npt.NDArray[np.uint16]:
    """Return the label image of a prediction, in the image's own shape; outside the image's field it is 0.

    Parameters
    ----------
    prediction : Prediction
    separation : Separation or None
        In place of that in the model's card.

    Raises
    ------
    ImageError
        If there are more than `instances.MAX_CELLS` cells.
    """
    model, shape = prediction.model, prediction.image.shape
    if not prediction.maps:
        return np.zeros(shape, np.uint16)
    separation = separation or model.card.separation
    labels = label(prediction.maps, prediction.shape, model.maps, separation)
    if prediction.shape != shape:
        threshold = model.maps["foreground"].threshold(separation.foreground)
        labels = instances.rescale(labels, prediction.maps["foreground"], threshold, shape)
    field = prediction.image.field
    return labels if field is None else _cut(labels, field)


def _cut(labels: npt.NDArray[np.uint16], field: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Return labels without what lies outside a field, where a map's pixels are larger; numbered without a gap."""
    labels = cv2.copyTo(labels, field)
    sizes = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    for rows in bands(*labels.shape):
        sizes += np.bincount(labels[rows].reshape(-1), minlength=sizes.size)
    if sizes[1:].all():
        return labels
    number = np.cumsum(sizes > 0) - 1
    for rows in bands(*labels.shape):
        labels[rows] = number[labels[rows]]
    return labels


def finish(
    prediction: Prediction, stopwatch: Stopwatch, counting: Counting, verdict: Verdict | None = None
) -> Segmentation:
    """Return the cells of a prediction, labelled, measured and counted; its maps are freed on the way.

    Parameters
    ----------
    prediction : Prediction
    stopwatch : Stopwatch
        Receives the time of each step.
    counting : Counting
    verdict : Verdict or None
        What a gate takes the image for.

    Raises
    ------
    ImageError
        If there are more than `instances.MAX_CELLS` cells, or the settings do not fit the image.
    """
    image, card = prediction.image, prediction.model.card
    with stopwatch.step("instances"):
        labels = labels_of(prediction)
    prediction.maps.clear()
    with stopwatch.step("measure"):
        ratio_per_px = prediction.shape[0] / image.shape[0] / card.cell_diameter_px
        is_scaled = counting.diameter is None and prediction.shape != image.shape
        result = count_labels(image, labels, ratio_per_px, counting, is_scaled=is_scaled)
    return result if verdict is None else dataclasses.replace(result, counts=_judged(result.counts, verdict))


def _judged(counts: Counts, verdict: Verdict) -> Counts:
    """Return counts with what a gate takes their image for, and the flag that follows.

    A field without a cell is like no kind, and nobody need look at it for that.
    """
    is_plain = verdict.found.follows == "segment" and not counts.count
    flags = "; ".join(filter(None, ("" if is_plain else verdict.flag, counts.flags)))
    return dataclasses.replace(
        counts, flags=flags, class_name=verdict.found.name, class_probability=verdict.probability
    )


def count_labels(
    image: Image, labels: npt.NDArray[np.uint16], ratio_per_px: float, counting: Counting, *, is_scaled: bool = False
) -> Segmentation:
    """Return the cells of a label image, measured, and counted as the settings say.

    Parameters
    ----------
    image : Image
        From `Counting.applied`.
    labels : ndarray of uint16, shape (height, width)
        Cells numbered 1…n without a gap; 0 is background, and everything outside the image's field.
    ratio_per_px : float
        Factor from a diameter in pixels of the image to `Quality.diameter_ratio`.
    counting : Counting
    is_scaled : bool
        As for `quality.assess`.

    Raises
    ------
    ImageError
        If the settings do not fit the image.
    """
    cells = measure(labels, image.pixels, image.pixel_size_um, image.field)
    assessed = quality.assess(image, labels, cells, ratio_per_px, given=counting.diameter, is_scaled=is_scaled)
    selection = select(image, labels, cells, counting)
    counts = sum_up(image, selection, assessed, counting)
    return Segmentation(image, selection.labels, selection.cells, counts, labels if selection.left_out else None)


def label(
    maps: Maps, shape: tuple[int, int], specs: Mapping[str, MapSpec], settings: Separation
) -> npt.NDArray[np.uint16]:
    """Return labels of shape `shape` from the maps of `predict_maps` and what their values mean."""
    landscape, spec = landscape_of(maps, specs)
    return instances.separate(maps["foreground"], landscape, shape, limits(specs["foreground"], spec, settings))


def landscape_of(maps: Maps, specs: Mapping[str, MapSpec]) -> tuple[npt.NDArray[np.int8] | None, MapSpec | None]:
    """Return the map that is high inside cells and low between them, and its spec; None where the model has none."""
    for quantity in LANDSCAPES:
        if quantity in specs:
            # ~v = -1 - v: inverted exactly
            return ~maps[quantity] if quantity == "outline" else maps[quantity], specs[quantity]
    return None, None


def limits(foreground: MapSpec, landscape: MapSpec | None, settings: Separation) -> Limits:
    """Return the settings in int8 values of these maps."""
    join: tuple[float, ...] = ()
    if settings.join and landscape:
        bias, depth, sure, *others = dataclasses.astuple(settings.join)
        sure *= foreground.step
        join = (bias - sure * foreground.zero, depth * landscape.step, sure, *others)
    return Limits(
        foreground.threshold(settings.foreground),
        landscape.prominence(settings.prominence) if landscape else 1,
        foreground.threshold(settings.confidence),
        join,
        settings.min_area_px,
    )
