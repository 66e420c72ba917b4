"""Formats of corrected labels for other programs, beside them in the store: ``corrections/STEM.geojson`` and others.

They have the cells that count, in the numbers that they have in the corrected label image. They are brought up to date
when they are asked for again; what was written is noted with its digest, so that files of others are never replaced.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from cellseg_device.errors import ImageError, InputError
from cellseg_device.results import corrected_labels, corrections
from cellseg_device.results.corrections import Correction
from cellseg_device.results.entry import CELLS, Entry
from cellseg_device.results.export import Exported
from cellseg_device.results.formats import FORMATS, Content
from cellseg_device.system import files

NOTED = ".cellseg-exports.json"


def export(out: Path, entry: Entry, correction: Correction, names: tuple[str, ...]) -> Exported:
    """Make formats of the corrected labels of one image, and return which.

    Parameters
    ----------
    out : Path
        The output folder.
    entry : Entry
        Of the image.
    correction : Correction
        Of the image, checked and not stale.
    names : tuple of str
        Names out of `FORMATS`.
    """
    try:
        content = _content(out, entry, correction)
        contents = {f"{correction.stem}{FORMATS[name].suffix}": FORMATS[name].encode(content) for name in names}
        with corrections.writing(out) as folder:
            return _written(folder, entry, contents)
    except (ImageError, InputError) as error:
        reason = f"its correction: {error.message}"
    except MemoryError:
        reason = "its correction needs more memory than there is: export it on a larger computer"
    except OSError as error:
        reason = (
            f"its correction cannot be read or written ({error.strerror}): make room or fix the disk, then try again"
        )
    return Exported(entry.image, reason=reason)


def _content(out: Path, entry: Entry, correction: Correction) -> Content:
    labels = corrected_labels.current(out, correction.stem)
    path = corrections.folder_of(out) / f"{correction.stem}{CELLS}"
    with open(path, encoding="utf-8", opener=files.regular) as file:
        table = file.read()
    try:
        counted = [int(row["label"]) for row in csv.DictReader(table.splitlines())]
    except (KeyError, ValueError, csv.Error):
        raise InputError(f"{path.name} is damaged: mark the image as checked again") from None
    if len(counted) != correction.corrected_count:
        raise InputError(f"{path.name} is of another correction: mark the image as checked again")
    return Content(entry.image, np.where(np.isin(labels, counted), labels, 0).astype(np.uint16), table)


def _written(folder: Path, entry: Entry, contents: dict[str, bytes]) -> Exported:
    """Write what is not there as it should be; to be called within `corrections.writing`."""
    noted = _noted(folder)
    made, kept, foreign = {}, [], []
    for name, data in contents.items():
        path = folder / name
        there = files.sha256(path) if files.is_regular(path) else None
        if there == hashlib.sha256(data).hexdigest():
            kept.append(f"{folder.name}/{name}")
        elif there in noted.get(name, []) or not os.path.lexists(path):
            made[name] = data
        else:
            foreign.append(f"{folder.name}/{name}")
    if made:
        # With those that are there, in case of a stop before the new ones are
        digests = {name: [hashlib.sha256(data).hexdigest(), *noted.get(name, [])[:1]] for name, data in made.items()}
        files.write(folder / NOTED, json.dumps(noted | digests, indent=1).encode())
        files.write_all(folder, {name: files.holding(data) for name, data in made.items()})
    reason = None
    if foreign:
        reason = f"{' and '.join(foreign)}, which cellseg did not make, is in the way: move it away, then try again"
    return Exported(entry.image, tuple(f"{folder.name}/{name}" for name in made), tuple(kept), reason)


def _noted(folder: Path) -> dict[str, list[str]]:
    """Return the digests that files of ours may have, by name."""
    try:
        with open(folder / NOTED, encoding="utf-8", opener=files.regular) as file:
            noted = json.load(file)
        return {name: [str(digest) for digest in digests] for name, digests in noted.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}
