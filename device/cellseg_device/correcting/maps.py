"""What the network shows of an image, for the edits that grow cells: the maps at the image's own size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from cellseg_device.cells.counting import Counting
from cellseg_device.image.pixels import Image
from cellseg_device.model.interpreter import Model, bundled_path
from cellseg_device.pipeline import needs
from cellseg_device.pipeline.predict import Prediction, predict
from cellseg_device.pipeline.segment import landscape_of, limits
from cellseg_device.results.entry import Entry
from cellseg_device.results.places import OWN_FOLDERS
from cellseg_device.system import files

_BUNDLED = ("nuclei", "chamber")
_DIAMETERS = 3.0  # of the model's cells: what is larger than a disc of so many is no cell

Map = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Maps:
    """The maps of an image, and what their values mean.

    Attributes
    ----------
    foreground : ndarray of int8, shape (height, width)
    landscape : ndarray of int8, shape (height, width)
        High inside cells and low between them; of a model without one, the foreground.
    threshold, prominence : int
        As in `instances.Limits`.
    most_px : float
        Area of the largest cell that is believed, in pixels of the image.
    note : str
        Why these are not of the model that counted the image; empty if they are.
    """

    foreground: Map
    landscape: Map
    threshold: int
    prominence: int
    most_px: float
    note: str


def predicted(image: Image, counting: Counting, entry: Entry, out: Path) -> Maps:
    """Return the maps of an image by the model that counted it, or where that is gone by the bundled one.

    Parameters
    ----------
    image : Image
        From `Counting.applied`.
    counting : Counting
    entry : Entry
    out : Path
        The output folder, where further models may lie.

    Raises
    ------
    ImageError
        If there is not enough memory.
    ModelError
        If the model cannot be used.
    """
    path, note = found_model(entry, out)
    model = Model(path)
    diameter_px = counting.diameter_px(image)
    room = needs.room_for(image, model, needs.budget(), diameter_px=diameter_px)
    return at_full_size(predict(image, model, diameter_px=diameter_px, whole_px=room.whole_px), note)


def at_full_size(prediction: Prediction, note: str = "") -> Maps:
    """Return the maps of a prediction at the size of its image."""
    model, shape = prediction.model, prediction.image.shape
    landscape, spec = landscape_of(prediction.maps, model.maps)
    foreground = _full(prediction.maps["foreground"], model.maps["foreground"].reduction, prediction.shape, shape)
    limit = limits(model.maps["foreground"], spec, model.card.separation)
    full = (
        foreground if landscape is None or spec is None else _full(landscape, spec.reduction, prediction.shape, shape)
    )
    diameter_px = model.card.cell_diameter_px * shape[0] / prediction.shape[0]
    most_px = np.pi / 4 * (_DIAMETERS * diameter_px) ** 2
    return Maps(foreground, full, limit.foreground, limit.prominence, float(most_px), note)


def _full(values: Map, reduction: int, seen: tuple[int, int], shape: tuple[int, int]) -> Map:
    """Return a map at the size of the image."""
    height, width = (-(-side // reduction) for side in seen)
    part = np.ascontiguousarray(values[:height, :width])
    if part.shape == shape:
        return part
    if seen == shape:  # a map's pixel is a block of the image's
        blown = cv2.resize(part, (width * reduction, height * reduction), interpolation=cv2.INTER_LINEAR_EXACT)
        return np.ascontiguousarray(blown[: shape[0], : shape[1]])
    return np.asarray(cv2.resize(part, shape[::-1], interpolation=cv2.INTER_LINEAR_EXACT))


def found_model(entry: Entry, out: Path) -> tuple[Path, str]:
    """Return the model that counted an image, or the bundled one with the reason why."""
    bundled = [path for path in map(bundled_path, _BUNDLED) if path.is_file()]
    for path in (*bundled, *_models_in(out)):
        if _digest(path) == entry.model_sha256:
            return path, ""
    if entry.gate_sha256 is not None and entry.model_sha256 == entry.gate_sha256:
        return bundled[0], ""  # the gate said that there is nothing: no model has looked
    return bundled[
        0
    ], f"The model {entry.model}, which counted this image, is not here: {bundled[0].stem} helps instead."


def _models_in(out: Path) -> Iterable[Path]:
    try:
        return sorted((out / OWN_FOLDERS[1]).glob("*.tflite"))
    except OSError:
        return []


def _digest(path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError:
        return ""
