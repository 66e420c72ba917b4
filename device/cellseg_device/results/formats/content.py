"""What every format is made from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cellseg_device.cells import polygons


@dataclass(frozen=True)
class Content:
    """What is stored of one image.

    Attributes
    ----------
    image : str
        Its name in the ledger.
    labels : ndarray of uint16, shape (height, width)
    cells_csv : str
        The table of cells, as in ``STEM.cells.csv``.
    """

    image: str
    labels: npt.NDArray[np.uint16]
    cells_csv: str

    @property
    def name(self) -> str:
        """The image's name for other programs: relative to the watched folder, or without its folder."""
        return os.path.basename(self.image) if os.path.isabs(self.image) else self.image  # noqa: PTH117, PTH119

    @cached_property
    def polygons(self) -> dict[int, list[polygons.Polygon]]:
        """The cells' polygons by label, as from `polygons.trace`; traced once for all formats."""
        return polygons.trace(self.labels)
