"""Pooling the rows of ``counts.csv`` by groups of images, with the sizes of their cells.

Everything is read from the tables, without the ledger and without a lock, so it works beside a running watch and on a
copy of the folder on another computer.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.cells.concentration import poisson_interval
from cellseg_device.errors import InputError
from cellseg_device.summary.tables import Field
from cellseg_device.system.natural_order import natural_key

Diameters = npt.NDArray[np.float32]

TOTAL, NO_GROUP = "(all)", "(no group)"

_UM2_PER_MM2 = 1e6
_Z_99 = 2.326  # of the normal distribution, one side


@dataclass(frozen=True)
class Group:
    """The pooled figures of a group of images; a figure that is not known for all of them is None.

    Attributes
    ----------
    group : str
    images, flagged : int
        Images (fields), and those whose count is doubtful.
    cells, cells_in_frame : int
        All cells; and those by the counting-frame rule, on which all figures that follow are based, but for the
        diameters and `mean_cells_per_image`.
    mean_cells_per_image : float or None
        Of all cells; None without images.
    mean_in_frame_per_image, sd_in_frame_per_image : float or None
        Mean, None without images; and standard deviation between images, None for fewer than two.
    dispersion : float or None
        Pearson's χ² divided by its degrees of freedom, for the same density in all fields. For fields of the same area
        it is variance divided by mean: about 1 if they differ by chance alone. None without two fields and a cell.
    exceeds_chance : bool
        Whether chance alone makes the dispersion this high in fewer than 1 of 100 cases: then the interval of the
        concentration is too narrow.
    median_diameter_px, median_diameter_um : float or None
        Over all cells.
    density_per_mm2 : float or None
        Cells by area, of all fields together.
    concentration_per_ml, concentration_low_per_ml, concentration_high_per_ml : float or None
        Of all fields together, and its 95 % interval by chance alone.
    checked : int
        Images whose counts are as a person corrected them.
    """

    group: str
    images: int
    flagged: int
    cells: int
    cells_in_frame: int
    mean_cells_per_image: float | None
    mean_in_frame_per_image: float | None
    sd_in_frame_per_image: float | None
    dispersion: float | None
    exceeds_chance: bool
    median_diameter_px: float | None
    median_diameter_um: float | None
    density_per_mm2: float | None
    concentration_per_ml: float | None
    concentration_low_per_ml: float | None
    concentration_high_per_ml: float | None
    checked: int = 0


def pool(name: str, fields: Sequence[Field], diameters: Sequence[Diameters]) -> Group:
    """Return the pooled figures of some fields.

    Parameters
    ----------
    name : str
    fields : sequence of Field
    diameters : sequence of ndarray of float32
        In pixels, of the cells of each field; empty where they are not known.
    """
    counts = np.array([field.in_frame for field in fields], np.float64)
    total = sum(field.in_frame for field in fields)
    dispersion = _dispersion(counts, _areas(fields))
    density = low = high = per_ml = None
    area_um2 = _sum(field.area_um2 for field in fields)
    if area_um2:
        density = total / area_um2 * _UM2_PER_MM2
    sample_ml = _sum(field.sample_ml for field in fields)
    if sample_ml:
        per_ml = total / sample_ml
        low, high = (bound / sample_ml for bound in poisson_interval(total))
    in_um = in_micrometres(fields, diameters)
    cells = sum(field.count for field in fields)
    return Group(
        group=name,
        images=len(fields),
        flagged=sum(field.is_flagged for field in fields),
        cells=cells,
        cells_in_frame=total,
        mean_cells_per_image=cells / len(fields) if len(fields) else None,
        mean_in_frame_per_image=float(counts.mean()) if len(fields) else None,
        sd_in_frame_per_image=float(counts.std(ddof=1)) if len(fields) > 1 else None,
        dispersion=dispersion,
        exceeds_chance=dispersion is not None and dispersion > _bound_of_chance(len(fields) - 1),
        median_diameter_px=_median(joined(diameters)),
        median_diameter_um=_median(joined(in_um)) if in_um is not None else None,
        density_per_mm2=density,
        concentration_per_ml=per_ml,
        concentration_low_per_ml=low,
        concentration_high_per_ml=high,
        checked=sum(field.is_checked for field in fields),
    )


def in_micrometres(fields: Sequence[Field], diameters: Sequence[Diameters]) -> list[Diameters] | None:
    """Return the diameters in µm; None unless the pixel size of every field is known."""
    sizes = [field.pixel_size_um for field in fields]
    if not sizes or None in sizes:
        return None
    return [px * np.float32(size) for px, size in zip(diameters, sizes, strict=True)]


def joined(diameters: Sequence[Diameters]) -> Diameters:
    """Return the diameters of all fields in one array."""
    return np.concatenate(diameters) if diameters else np.zeros(0, np.float32)


def compile_pattern(text: str) -> re.Pattern[str]:
    """Return the pattern that `group_names` searches for.

    Raises
    ------
    InputError
        If it is not a valid regular expression.
    """
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(
            f"--group {text!r} is not a regular expression ({error}): write, for example, '^([^_]+)_' for the part "
            "before the first _"
        ) from None


def group_names(images: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """Return the group of each image: what the pattern matches in its name; empty if it matches nothing.

    The group is the pattern's named groups joined by ``-``, or its first group, or else the whole match. The folders
    that all images share are left out first: those of the relative names, and those of the absolute ones.
    """
    absolute = [image for image in images if image.startswith(os.sep)]
    relative = [image for image in images if not image.startswith(os.sep)]
    shared = {True: _shared_folder(absolute), False: _shared_folder(relative)}
    return [_group_of(image.removeprefix(shared[image.startswith(os.sep)]), pattern) for image in images]


def _shared_folder(names: Sequence[str]) -> str:
    """Return the folder that all names begin with, and the ``/`` after it; empty if there is none."""
    shared = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""  # noqa: PTH120
    return os.path.join(shared, "") if shared else ""  # noqa: PTH118


def _group_of(name: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(name)
    if found is None:
        return ""
    if found.groupdict():
        return "-".join([part for part in found.groupdict().values() if part])
    return (found[1] if pattern.groups else found[0]) or ""


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names of groups in natural order; images without a group come last."""
    return sorted(set(names), key=lambda name: (not name, natural_key(name)))


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum, or None if a value is."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _areas(fields: Sequence[Field]) -> npt.NDArray[np.float64]:
    """Return the areas for comparing fields, in µm² if all pixel sizes are known."""
    areas = [field.area_um2 for field in fields]
    if None in areas:
        areas = [float(field.area_px) for field in fields]
    return np.array(areas, np.float64)


def _dispersion(counts: npt.NDArray[np.float64], areas: npt.NDArray[np.float64]) -> float | None:
    if len(counts) < 2 or not counts.any():
        return None
    expected = areas * (counts.sum() / areas.sum())
    return float(((counts - expected) ** 2 / expected).sum() / (len(counts) - 1))


def _bound_of_chance(freedom: int) -> float:
    """Return the value that χ² over its degrees of freedom exceeds in 1 of 100 cases, by Wilson and Hilferty."""
    spread = 2 / (9 * freedom)
    return (1 - spread + _Z_99 * math.sqrt(spread)) ** 3


def _median(values: Diameters) -> float | None:
    return float(np.median(values)) if len(values) else None
