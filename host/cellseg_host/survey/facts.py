"""What is measured of each image of a data set. TensorFlow is not needed for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.image import focus
from cellseg_host.data.dataset import Dataset, Entry, diameters_px
from cellseg_host.survey import labels, likeness
from cellseg_host.survey.labels import Faults
from cellseg_host.survey.likeness import Look

_PX = 1_000_000
_ENDS = (1.0, 99.9)  # percent: as images are normalised for the network


@dataclass(frozen=True)
class Facts:
    """What is known of an image.

    Attributes
    ----------
    entry : Entry
    brightness : float
        Mean of its pixels, 0 to 1 of what its file can hold.
    levels : float
        How many levels lie between dark and bright: from the 1 % to the 99.9 % quantile of its pixels.
    saturated : float
        Share of pixels with the highest value that its file can hold.
    sharpness : float
        `focus.score`.
    look : Look
        By which images that are alike are found.
    diameters_px : ndarray of float64, shape (cells,)
        Equivalent diameters; empty without labels.
    covered : float
        Share of the field that cells cover.
    touching : float
        Share of cells that touch another one; 0 without cells.
    faults : Faults or None
        Of the labels; None without labels.
    """

    entry: Entry
    brightness: float
    levels: float
    saturated: float
    sharpness: float
    look: Look
    diameters_px: npt.NDArray[np.float64]
    covered: float = 0.0
    touching: float = 0.0
    faults: Faults | None = None

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.diameters_px)

    @property
    def density(self) -> float:
        """Cells in a megapixel."""
        return self.cells * _PX / (self.entry.height * self.entry.width)


def of_dataset(dataset: Dataset, entries: Sequence[Entry]) -> Iterator[Facts]:
    """Yield the facts of images of a dataset, each read once.

    Raises
    ------
    InputError
        If an image or its labels cannot be read, or do not fit each other.
    """
    for entry in entries:
        pixels = dataset.image(entry).pixels
        yield of_image(entry, pixels, dataset.labels(entry) if entry.is_labelled else None)


def of_image(entry: Entry, pixels: npt.NDArray[Any], cells: npt.NDArray[np.uint16] | None) -> Facts:
    """Return the facts of one image.

    Parameters
    ----------
    entry : Entry
    pixels : ndarray of uint8 or uint16, shape (height, width) or (height, width, 3)
    cells : ndarray of uint16, shape (height, width), or None
        Numbered from 1 without gaps.
    """
    top = np.iinfo(pixels.dtype).max
    dark, bright = np.percentile(pixels, _ENDS)
    seen = (
        entry,
        float(pixels.mean()) / top,
        float(bright - dark),
        float(np.mean(pixels == top)),
        focus.score(pixels),
        likeness.look(pixels, bright - dark),
    )
    if cells is None:
        return Facts(*seen, np.empty(0))
    return Facts(
        *seen,
        diameters_px(cells),
        covered=float(np.mean(cells > 0)),
        touching=labels.touching(cells),
        faults=labels.faults(cells),
    )
