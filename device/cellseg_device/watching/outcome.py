"""The outcome of one image, as the commands report it."""

from __future__ import annotations

from dataclasses import dataclass

from cellseg_device.units import plural

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one image.

    Attributes
    ----------
    image : str
    status : str
        ``"done"``, ``"unchanged"`` (it was done before, so there was nothing to do) or ``"failed"``.
    cells, cells_in_frame : int or None
        All cells, and those by the counting-frame rule, where there is a result.
    ms : float
        Time from its turn until its results were on the disk, without what was done ahead of its turn.
    labels : str or None
        File name of its label image in the output folder.
    reason : str or None
        Why it failed.
    flags : str
        Why its count may be wrong.
    surround : str
        As in `Counts`.
    class_name, class_probability : str, float or None
        As in `Counts`.
    made : tuple of str
        Names of files that were made of an earlier result.
    """

    image: str
    status: str
    cells: int | None = None
    ms: float = 0.0
    labels: str | None = None
    reason: str | None = None
    flags: str = ""
    cells_in_frame: int | None = None
    surround: str = ""
    class_name: str = ""
    class_probability: float | None = None
    made: tuple[str, ...] = ()


def in_words(cells: int, cells_in_frame: int) -> str:
    """Return how many cells there are, and how many of them are in the counting frame if those are fewer."""
    beside = f", {cells_in_frame:,} in the counting frame" if cells_in_frame != cells else ""
    return plural(cells, "cell") + beside
