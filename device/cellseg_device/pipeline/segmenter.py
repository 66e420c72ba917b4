"""The Python API: one object that loads a model once, then takes arrays and files."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.counting import Counting
from cellseg_device.errors import ImageError
from cellseg_device.image import spread
from cellseg_device.image.opencv import check_size
from cellseg_device.image.pixels import Image
from cellseg_device.image.sandbox import decode_here
from cellseg_device.model.card import Card
from cellseg_device.pipeline import models, needs
from cellseg_device.pipeline.predict import predict, without_cells
from cellseg_device.pipeline.segment import Segmentation, finish
from cellseg_device.pipeline.stopwatch import Stopwatch

_INTEGERS, _FLOATS = ("uint8", "uint16"), ("float32", "float64")


class Segmenter:
    """Finds, measures and counts the cells of images, as ``cellseg-device run`` does, and writes no files.

    Make one and call it for every image: loading the model takes longer than most images. An object must not be called
    from two threads at once; give each thread its own.

    Parameters
    ----------
    model : path-like or None
        A ``.tflite`` model with its card; None for the bundled one.
    gate : path-like, "none" or None
        A classifier with its card, which says for each image with which model it is counted, or that it is empty, or
        unlike what the models are made for. ``"none"`` for none; with None it is the bundled one, if there is one and
        `model` is None.
    threads : int
        Threads of the network. The labels do not depend on it.
    accelerator : str
        ``"auto"`` uses an Edge TPU where ``NAME_edgetpu.tflite`` lies beside ``NAME.tflite``, and else the CPU;
        ``"cpu"``; ``"edgetpu"``.

    Raises
    ------
    InputError
        If `accelerator` is none of these.
    ModelError
        If the model is missing or cannot be used here.
    AcceleratorError
        If it needs an Edge TPU and none works.

    Warns
    -----
    UserWarning
        If this computer's runtime computes differently from the one the model was evaluated with, or an Edge TPU is
        lost or found again.

    Examples
    --------
    The package holds an image to try it with:

    >>> from importlib.resources import files
    >>> import cellseg_device
    >>> field = files("cellseg_device") / "data" / "field.png"
    >>> segmenter = cellseg_device.Segmenter()
    >>> result = segmenter(field)
    >>> result.labels.shape, result.labels.dtype, result.counts.count
    ((256, 256), dtype('uint16'), 36)

    The table of cells is a dictionary of columns, which ``pandas.DataFrame`` takes as it is:

    >>> table = result.cells.columns
    >>> list(table)[:4]
    ['label', 'centroid_row_px', 'centroid_col_px', 'area_px']
    >>> len(table["area_px"])
    36

    An array works as well, and `Counting` says how to count:

    >>> import cv2
    >>> pixels = cv2.imread(str(field), cv2.IMREAD_GRAYSCALE)
    >>> counting = cellseg_device.Counting(pixel_size_um=0.65, min_diameter=cellseg_device.Length(8, "um"))
    >>> segmenter(pixels, counting=counting).counts.left_out
    2
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        gate: str | os.PathLike[str] | None = None,
        threads: int = 1,
        accelerator: str = "auto",
    ) -> None:
        path = None if model is None else Path(model)
        chosen: models.GateChoice = gate if gate is None or gate == models.NO_GATE else Path(gate)
        self._models = models.load(path, chosen, threads, accelerator, _warn)

    @property
    def card(self) -> Card:
        """The card of the model, with a gate of the default one: its name, the size of cells it knows, its accuracy."""
        return self._models.default.card

    def __call__(
        self, image: npt.NDArray[Any] | str | os.PathLike[str], *, counting: Counting | None = None
    ) -> Segmentation:
        """Return the labels, the table of cells and the counts of one image.

        Parameters
        ----------
        image : ndarray or path-like
            Pixels of shape (height, width), or (height, width, 3) in the order red, green, blue: uint8 or uint16;
            float32 and float64 are mapped linearly onto uint16, as those of a TIFF file are. Or the path of a PNG, JPEG
            or TIFF file.
        counting : Counting or None
            How to count: pixel size, sizes of cells, region, counting frame, chamber. None for the defaults.

        Returns
        -------
        Segmentation
            `labels` (uint16 of shape (height, width), 0 for background), `cells` (in `cells.columns` the columns of
            ``STEM.cells.csv``), `counts` (the columns of ``counts.csv`` that follow from the pixels) and `image`.

        Raises
        ------
        ImageError
            If the image cannot be used, needs more memory than there is, has too many cells, or does not fit
            `counting`.
        ModelError
            If the network fails, for lack of memory for example.
        AcceleratorError
            If it needs an Edge TPU and that fails.
        OSError
            If the disk or network fails to read the file.
        """
        counting = counting or Counting()
        try:
            if isinstance(image, np.ndarray):
                decoded = image_from_array(image)
                budget = needs.budget(reserved_bytes=-decoded.pixels.nbytes)
            else:
                budget = needs.budget()
                _, decoded = decode_here(Path(image), budget)
            given = counting.applied(decoded)
            diameter_px, stopwatch = counting.diameter_px(given), Stopwatch()
            choice = self._models.choose(given)
            if choice.is_segmented:
                room = needs.room_for(given, choice.model, budget, diameter_px=diameter_px)
                prediction = predict(given, choice.model, stopwatch, diameter_px=diameter_px, whole_px=room.whole_px)
            else:
                prediction = without_cells(given, choice.model)
            return finish(prediction, stopwatch, counting, choice.verdict)
        except ImageError as error:
            what = "the array" if isinstance(image, np.ndarray) else f"{image}:"
            raise ImageError(f"{what} {error.message}") from None


def image_from_array(pixels: npt.NDArray[Any]) -> Image:
    """Return an array as an image of unknown pixel size.

    Raises
    ------
    ImageError
        If its shape or type is not that of an image, it is too large, or it holds NaN or infinite values.
    """
    if pixels.ndim != 2 and (pixels.ndim != 3 or pixels.shape[2] != 3):
        raise ImageError(f"has the shape {pixels.shape}: give (height, width), or (height, width, 3) for RGB")
    if pixels.dtype.name not in (*_INTEGERS, *_FLOATS):
        raise ImageError(f"is of type {pixels.dtype}: convert it to uint8, uint16 or float32")
    check_size(pixels.shape[0], pixels.shape[1])
    if pixels.dtype.name in _FLOATS:
        mapped, has_extremes = spread.to_uint16(np.ascontiguousarray(pixels))
        return Image(mapped, has_extremes=has_extremes)
    return Image(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")))


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=2)
