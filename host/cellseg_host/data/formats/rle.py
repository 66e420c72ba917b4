"""``rle``: a table of images and run lengths, as the pneumothorax and the nucleus competitions have it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellseg_device.errors import InputError
from cellseg_device.image.source import is_image_name
from cellseg_device.stderr import say
from cellseg_device.units import plural
from cellseg_host.data.dataset import read_table
from cellseg_host.data.formats import dicom
from cellseg_host.data.formats.canvas import Canvas
from cellseg_host.data.formats.source import (
    Drawn,
    Options,
    Source,
    by_stem,
    folder_of,
    make,
    read_manifest,
)

ABSOLUTE, RELATIVE = "absolute", "relative"
RUNS = (ABSOLUTE, RELATIVE)
# Names of columns, in small letters and without anything else
_IMAGE = ("imageid", "image", "id")
_PIXELS = ("encodedpixels", "rle", "encoding")
_SIIM = ["ImageId", " EncodedPixels"]  # the header of train-rle.csv of SIIM-ACR, with its space
_NOTHING = ("", "-1")


def find(root: Path, options: Options = Options()) -> list[Source]:  # noqa: B008 - frozen
    """Return the images of a table with run lengths, or of the one in a folder.

    Raises
    ------
    InputError
        If there is no such table, several, its columns are others, or nothing says how its runs count.
    """
    path = _table_of(root)
    rows = read_table(path)
    encoded, duplicates = _by_image(path, rows)
    runs = options.runs or _said_by(path, list(rows[0]))
    folder = options.images or folder_of(root)
    files = by_stem(file for file in sorted(folder.rglob("*")) if _is_image(file))
    if not files:
        raise InputError(f"{folder}: holds no PNG, JPEG, TIFF or DICOM image: name their folder with --images")
    manifest = read_manifest(root, files.keys() | encoded.keys())
    say(f"note: runs of {path.name} are read as {_MEANING[runs]}")
    if duplicates:
        say(f"note: {plural(duplicates, 'row')} of {path.name} repeated another one: dropped")
    return [
        make(
            root,
            manifest,
            identity,
            files.get(identity, []),
            partial(_labels_of, path.name, encoded.get(identity), runs == RELATIVE),
            read_image=dicom.read_any,
            read_kept=partial(dicom.read_kept, options.keep),
        )
        for identity in sorted(files.keys() | encoded.keys())
    ]


_MEANING = {
    ABSOLUTE: "absolute: each start counted from the first pixel, which is 1",
    RELATIVE: "relative: each start counted from the end of the run before",
}


def _is_image(path: Path) -> bool:
    is_mask = path.parent.name == "masks"  # of the nucleus competition, which has both
    return _is_image_or_dicom(path.name) and not is_mask and path.is_file()


def _table_of(root: Path) -> Path:
    if root.is_file():
        return root
    found = [path for path in sorted(root.glob("*.csv")) if path.name not in ("manifest.csv", "rejected.csv")]
    if len(found) != 1:
        which = (
            f"{len(found)} tables ({', '.join(path.name for path in found[:3])})" if found else "no table (NAME.csv)"
        )
        raise InputError(f"{root}: holds {which}: name the one with the run lengths")
    return found[0]


def _by_image(path: Path, rows: list[dict[str, str]]) -> tuple[dict[str, list[str]], int]:
    """Return the run lengths by image, each row once, and how many rows repeated another one."""
    columns = list(rows[0]) if rows else []
    image, pixels = (_column(columns, known) for known in (_IMAGE, _PIXELS))
    if image is None or pixels is None:
        listed = ", ".join(map(repr, columns[:6])) or "none"
        raise InputError(f"{path}: needs columns ImageId and EncodedPixels, but has {listed}: call them so")
    found: dict[str, list[str]] = {}
    known: set[tuple[str, str]] = set()
    duplicates = 0
    for row in rows:
        identity, text = Path((row[image] or "").strip()), " ".join((row[pixels] or "").split())
        name = identity.stem if _is_image_or_dicom(identity.name) else identity.name
        if (name, text) in known:
            duplicates += 1
            continue
        known.add((name, text))
        found.setdefault(name, []).append(text)
    return found, duplicates


def _is_image_or_dicom(name: str) -> bool:
    return is_image_name(name) or dicom.is_dicom_name(name)


def _column(columns: Sequence[str], known: tuple[str, ...]) -> str | None:
    plain = {re.sub(r"[^a-z]", "", str(column).lower()): column for column in columns}
    return next((plain[name] for name in known if name in plain), None)


def _said_by(path: Path, columns: list[str]) -> str:
    """Return how runs count, if the names of the columns tell.

    Raises
    ------
    InputError
        If they do not, since both competitions have tables with the same names and a wrong guess gives other masks.
    """
    if columns == _SIIM:
        return RELATIVE
    raise InputError(
        f"{path}: does not say how its runs count: add --runs {ABSOLUTE} (Data Science Bowl 2018: each start from the "
        f"first pixel) or --runs {RELATIVE} (SIIM-ACR: from the end of the run before)"
    )


def _labels_of(table: str, encoded: list[str] | None, is_relative: bool, shape: tuple[int, int]) -> Drawn:  # noqa: FBT001
    """Return the instances of an image.

    Raises
    ------
    InputError
        If it is not in the table, or its runs do not fit.
    """
    if encoded is None:
        raise InputError(f"has no row in {table}")
    canvas = Canvas(shape)
    for text in encoded:
        if text in _NOTHING:
            continue
        try:
            canvas.add_runs(*_runs(text, is_relative=is_relative))
        except ValueError as error:
            other = ABSOLUTE if is_relative else RELATIVE
            raise InputError(f"{error}: correct {table}, or read it with --runs {other}") from None
    return canvas.drawn()


def _runs(text: str, *, is_relative: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return starts, from 0, and lengths."""
    words = text.split()
    if len(words) % 2 or not all(re.fullmatch(r"[0-9]{1,10}", word) for word in words):
        raise ValueError("has runs that are not pairs of whole numbers")
    numbers = np.array(words, np.int64)
    starts, lengths = numbers[::2], numbers[1::2]
    if not is_relative:
        return starts - 1, lengths
    gaps_and_runs = np.cumsum(numbers)
    return gaps_and_runs[::2], lengths
