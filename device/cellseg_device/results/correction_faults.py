"""What is often wrong with labels that a human gave, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import InputError
from cellseg_device.units import plural

_NAMED = 3  # images that a line names
_EACH_ITS_OWN = "give each cell a number of its own"


def note_of_pieces(pieces: Mapping[str, npt.NDArray[np.int64]]) -> str:
    """Return a line about cells in several pieces; "" if there are none.

    Parameters
    ----------
    pieces : mapping of str to ndarray of int64
        By the name of an image, of how many pieces each of its cells consists, as from `pieces.pieces_of`.

    Raises
    ------
    InputError
        If they are masks: in each image one number for everything that is not background.
    """
    with_cells = [found for found in pieces.values() if len(found)]
    if with_cells and all(len(found) == 1 and found[0] > 1 for found in with_cells):
        raise InputError(f"the labels are masks, with one number for all cells of an image: {_EACH_ITS_OWN}")
    split = {name: int(np.count_nonzero(found > 1)) for name, found in pieces.items()}
    names = [name for name, count in split.items() if count]
    if not names:
        return ""
    cells = sum(split.values())
    are = "is" if cells == 1 else "are"
    return f"{plural(cells, 'cell')} {are} in several pieces in the labels of {listed(names)}: {_EACH_ITS_OWN}"


def listed(names: Sequence[str]) -> str:
    """Return the first names in a phrase, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
