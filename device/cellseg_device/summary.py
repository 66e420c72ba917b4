"""Many images together: the rows of ``counts.csv`` pooled, by groups of images, with the sizes of their cells.

Everything is read from the tables, without the ledger and without a lock: beside a running watch, or from a copy of
the folder on another computer.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cellseg_device.concentration import poisson_interval
from cellseg_device.errors import InputError
from cellseg_device.tables import Field

Diameters = npt.NDArray[np.float32]

TOTAL, NO_GROUP = "(all)", "(no group)"

_UM2_PER_MM2 = 1e6
_Z_99 = 2.326  # of the normal distribution, one side


@dataclass(frozen=True)
class Group:
    """What the images of a group come to; what is not known of all of them is None.

    Attributes
    ----------
    group : str
    images, flagged : int
        Images (fields), and those whose count is doubtful.
    cells, cells_in_frame : int
        All cells; and those by the counting-frame rule, from which all that follows but the diameters is made.
    mean_per_image, sd_per_image : float or None
        Mean, and standard deviation between images; None without images, or with one.
    dispersion : float or None
        Pearson's χ² over its degrees of freedom for one density in all fields. Between fields of the same area it is
        variance by mean: about 1 where chance alone makes them differ. None without two fields and a cell.
    exceeds_chance : bool
        Whether chance alone makes the dispersion as high in less than 1 of 100 cases: the interval of the
        concentration is then too narrow.
    median_diameter_px, median_diameter_um : float or None
        Over all cells.
    density_per_mm2 : float or None
        Cells by area, of all fields together.
    concentration_per_ml, concentration_low_per_ml, concentration_high_per_ml : float or None
        Of all fields together, and its 95 % interval by chance alone.
    """

    group: str
    images: int
    flagged: int
    cells: int
    cells_in_frame: int
    mean_per_image: float | None
    sd_per_image: float | None
    dispersion: float | None
    exceeds_chance: bool
    median_diameter_px: float | None
    median_diameter_um: float | None
    density_per_mm2: float | None
    concentration_per_ml: float | None
    concentration_low_per_ml: float | None
    concentration_high_per_ml: float | None


def pool(name: str, fields: Sequence[Field], diameters: Sequence[Diameters]) -> Group:
    """Pool fields.

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
    return Group(
        group=name,
        images=len(fields),
        flagged=sum(field.is_flagged for field in fields),
        cells=sum(field.count for field in fields),
        cells_in_frame=total,
        mean_per_image=float(counts.mean()) if len(fields) else None,
        sd_per_image=float(counts.std(ddof=1)) if len(fields) > 1 else None,
        dispersion=dispersion,
        exceeds_chance=dispersion is not None and dispersion > _bound_of_chance(len(fields) - 1),
        median_diameter_px=_median(joined(diameters)),
        median_diameter_um=_median(joined(in_um)) if in_um is not None else None,
        density_per_mm2=density,
        concentration_per_ml=per_ml,
        concentration_low_per_ml=low,
        concentration_high_per_ml=high,
    )


def in_micrometres(fields: Sequence[Field], diameters: Sequence[Diameters]) -> list[Diameters] | None:
    """Diameters in µm; None unless the pixel size of every field is known."""
    sizes = [field.pixel_size_um for field in fields]
    if not sizes or None in sizes:
        return None
    return [px * np.float32(size) for px, size in zip(diameters, sizes, strict=True)]


def joined(diameters: Sequence[Diameters]) -> Diameters:
    """Diameters of all fields in one array."""
    return np.concatenate(diameters) if diameters else np.zeros(0, np.float32)


def compile_pattern(text: str) -> re.Pattern[str]:
    """Compile what `group_names` searches for.

    Raises
    ------
    InputError
        If it is no regular expression.
    """
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(
            f"--group {text!r} is not a regular expression ({error}): write, say, '^([^_]+)_' for what stands "
            "before the first _"
        ) from None


def group_names(images: Sequence[str], pattern: re.Pattern[str]) -> list[str]:
    """Name the group of each image: what the pattern finds in its name; empty where it finds nothing.

    That is the pattern's named groups joined by ``-``, or its first group, or all of what it finds. Images with
    absolute paths (those of ``run``) are looked at without the folders that all of them share.
    """
    absolute = [image for image in images if image.startswith(os.sep)]
    shared = os.path.commonpath([os.path.dirname(image) for image in absolute]) if absolute else ""  # noqa: PTH120
    return [_group_of(os.path.relpath(i, shared) if i.startswith(os.sep) else i, pattern) for i in images]


def _group_of(name: str, pattern: re.Pattern[str]) -> str:
    found = pattern.search(name)
    if found is None:
        return ""
    if found.groupdict():
        return "-".join([part for part in found.groupdict().values() if part])
    return (found[1] if pattern.groups else found[0]) or ""


def in_order(names: Iterable[str]) -> list[str]:
    """Sort the names of groups, numbers in them by value; the images without a group come last."""
    return sorted(set(names), key=lambda name: (not name, _sort_key(name)))


def _sort_key(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(len(bare := part.lstrip("0")), bare) if at % 2 else (-1, part) for at, part in enumerate(parts)]


def _sum(values: Iterable[float | None]) -> float | None:
    """Sum what is known of all; else None."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _areas(fields: Sequence[Field]) -> npt.NDArray[np.float64]:
    """Areas, to compare fields: in µm² where all pixel sizes are known."""
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
    """Bound that χ² over its degrees of freedom exceeds by chance in 1 of 100 cases, by Wilson and Hilferty."""
    spread = 2 / (9 * freedom)
    return (1 - spread + _Z_99 * math.sqrt(spread)) ** 3


def _median(values: Diameters) -> float | None:
    return float(np.median(values)) if len(values) else None
