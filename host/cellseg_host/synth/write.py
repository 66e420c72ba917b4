"""Synthetic fields as a dataset on disk, in the layout that all commands of the host read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import InputError, OutputError
from cellseg_host.data.dataset import SPLITS, Entry, diameters_px, kind_of, load, save_png, write_manifest
from cellseg_host.data.whole_folder import check_new, whole_folder
from cellseg_host.synth import empties, negatives
from cellseg_host.synth.field import make_field
from cellseg_host.synth.settings import SynthSettings
from cellseg_host.synth.texture import Shape

# Name in the column "set" of what is drawn here
SET = "synthetic"

# Name, modality, image, labels
Field = tuple[str, str, npt.NDArray[Any], npt.NDArray[np.uint16]]


def write_fields(
    out: Path,
    settings: SynthSettings,
    n: int,
    seed: int,
    *,
    split: str = "test",
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> tuple[Entry, ...]:
    """Write n fields as a dataset: ``images/ID.png``, ``labels/ID.png`` (16-bit) and ``manifest.csv``.

    Parameters
    ----------
    out : Path
        A new or empty folder.
    settings : SynthSettings
    n : int
        Number of fields; field i is ``make_field(settings, (seed, i))``.
    seed : int
    split : {"train", "val", "test"}
    progress : callable, optional
        Called as ``progress(done, n)`` after every field.
    force : bool
        Add to a folder that is not empty: a dataset there keeps its other images, and only fields of the same
        id are replaced. Nothing is ever deleted. Without it, the folder is there once all fields are in it.

    Returns
    -------
    tuple of Entry
        The rows of the fields written.

    Raises
    ------
    InputError
        If an argument is out of range, or `out` is not empty and `force` is not given.
    OutputError
        If a file cannot be written.
    """
    kind = settings.kind
    fields = ((f"{kind}-{seed}-{i:04d}", kind, *make_field(settings, (seed, i))) for i in range(n))
    return _write(out, fields, n, seed, split=split, progress=progress, force=force)


def write_empties(
    out: Path,
    shape: Shape,
    n: int,
    seed: int,
    *,
    is_tissue: bool = False,
    split: str = "test",
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> tuple[Entry, ...]:
    """Write n fields without a nucleus as a dataset, of each of `empties.KINDS` in turn, or of `negatives.KINDS`.

    Parameters and results are those of `write_fields`; with `is_tissue` all are tissue. The first of each kind has the
    seed ``seed``, those of the n-th turn ``(seed, n)``; grey ones count as fluorescence, colour ones as histology.
    """
    name, kinds, make = "empty", list(empties.KINDS), empties.make_empty
    if is_tissue:
        name, kinds, make = "tissue", list(negatives.KINDS), negatives.make_negative

    def field(index: int) -> Field:
        kind = kinds[index % len(kinds)]
        turn = index // len(kinds)
        image = make(kind, shape, (seed, turn) if turn else seed)
        modality = "fluorescence" if image.ndim == 2 else "histology"
        return f"{name}-{seed}-{index:04d}-{kind.replace(' ', '-')}", modality, image, np.zeros(shape, np.uint16)

    return _write(out, map(field, range(n)), n, seed, split=split, progress=progress, force=force)


def _write(
    out: Path,
    fields: Iterable[Field],
    n: int,
    seed: int,
    *,
    split: str,
    progress: Callable[[int, int], None] | None,
    force: bool,
) -> tuple[Entry, ...]:
    if n < 1 or seed < 0:
        raise InputError("the number of fields must be 1 or more, and the seed 0 or more")
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}: use {', '.join(SPLITS)}")
    if out.is_dir() and any(out.iterdir()) and force:
        kept = load(out).entries if (out / "manifest.csv").exists() else ()
        return _fill(out, fields, n, kept, split=split, progress=progress)
    check_new(out, "name a new folder, or add to it with --force")
    with whole_folder(out) as folder:
        return _fill(folder, fields, n, (), split=split, progress=progress)


def _fill(
    out: Path,
    fields: Iterable[Field],
    n: int,
    kept: Iterable[Entry],
    *,
    split: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[Entry, ...]:
    """Write the fields into the folder, beside those that it has."""
    written = []
    try:
        (out / "images").mkdir(exist_ok=True)
        (out / "labels").mkdir(exist_ok=True)
        for done, (name, modality, image, labels) in enumerate(fields, 1):
            entry = _entry(name, split, modality, labels)
            save_png(out / "images" / f"{entry.id}.png", image)
            save_png(out / "labels" / f"{entry.id}.png", labels)
            written.append(entry)
            if progress is not None:
                progress(done, n)
        new = {entry.id for entry in written}
        write_manifest(out, [e for e in kept if e.id not in new] + written)
    except OSError as error:
        raise OutputError(
            f"the fields cannot be written ({error.strerror or error}): make room, then try again"
        ) from None
    return tuple(written)


def _entry(name: str, split: str, modality: str, labels: npt.NDArray[np.uint16]) -> Entry:
    (height, width), diameters = labels.shape, diameters_px(labels)
    median = round(float(np.median(diameters)), 1) if len(diameters) else 0.0
    return Entry(name, SET, split, modality, kind_of(modality), height, width, int(labels.max()), median)
