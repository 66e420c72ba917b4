"""Cells drawn one after the other, as runs or as outlines, to one label image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cellseg_device.cells import filling
from cellseg_device.cells.filling import Filled, Outline
from cellseg_device.cells.instances import MAX_CELLS
from cellseg_device.results.formats.label_images import consecutive
from cellseg_device.results.formats.outline_files import Drawn, notes_on
from cellseg_host.data.formats.source import size

_MOST_STEPS = 1 << 31  # pixels that are drawn, in all: ten seconds or so
FARTHEST_PX = 1e6


class Canvas:
    """A label image on which each further cell has the pixels that it covers.

    Parameters
    ----------
    shape : (int, int)
        Height and width.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._by_column = np.zeros(shape[::-1], np.uint16)
        self._flat = self._by_column.reshape(-1)
        self._number = self._overlapping = self._steps = 0

    def add_runs(self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> None:
        """Draw a cell of runs down the columns, one column after the other.

        Parameters
        ----------
        starts : ndarray of int64, shape (n,)
            Indices from 0.
        lengths : ndarray of int64, shape (n,)

        Raises
        ------
        ValueError
            With what is wrong in words for a user.
        """
        ends = starts + lengths
        if starts.size and (starts.min() < 0 or lengths.min() < 0 or ends.max() > self._flat.size):
            raise ValueError(f"has runs beyond the image of {size(self.shape)}")
        self._begin(int(lengths.sum()))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._draw(self._flat[start:end], np.True_)

    def add_outline(self, outline: Outline) -> None:
        """Draw a cell with the pixels inside its rings by the even-odd rule; what is outside the image is cut off.

        Raises
        ------
        ValueError
            With what is wrong in words for a user.
        """
        corners = np.concatenate(list(outline))
        if not np.isfinite(corners).all() or np.abs(corners).max() > FARTHEST_PX:
            raise ValueError("has a corner that is no place in an image")
        low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(axis=0)), self.shape[::-1]).astype(int)
        if (high <= low).any():
            raise ValueError(f"lies outside the image of {size(self.shape)}")
        width, height = (high - low).tolist()
        self._begin(width * height)
        inside = filling.fill([[ring - low for ring in outline]], (height, width)).labels > 0
        self._draw(self._by_column[low[0] : high[0], low[1] : high[1]], inside.T)

    def _begin(self, steps: int) -> None:
        self._number += 1
        self._steps += steps
        if self._number > MAX_CELLS:
            raise ValueError(f"holds more than {MAX_CELLS:,} cells: cut the image into parts")
        if self._steps > _MOST_STEPS:
            raise ValueError("has cells that cover each other too often")

    def _draw(self, part: npt.NDArray[np.uint16], inside: npt.NDArray[np.bool_] | np.bool_) -> None:
        self._overlapping += int(np.count_nonzero((part > 0) & (part != self._number) & inside))
        np.copyto(part, self._number, where=inside)

    def drawn(self) -> Drawn:
        """Return what was drawn, the cells numbered in their order, with notes on overlaps and on what was covered."""
        labels = consecutive(np.ascontiguousarray(self._by_column.T))
        lost = self._number - int(labels.max(initial=0))
        return Drawn(labels, notes_on(Filled(labels, self._overlapping, lost)))
