"""The images that `run` is given: files, and those in folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.system.natural_order import natural_key
from cellseg_device.watching.scan import Scanner, check_folder, checked


@dataclass(frozen=True)
class Images:
    """What there is to do.

    Attributes
    ----------
    paths : list of Path
        In the natural order of their names, each file once, by the first of the paths that lead to it.
    passed_over : Counter of str
        How many images of each suffix the folders have that are not read.
    """

    paths: list[Path]
    passed_over: Counter[str]


def only_folder(given: Sequence[Path]) -> Path | None:
    """Return the folder that is all that is given; None for anything else."""
    is_one = len(given) == 1 and os.path.isdir(given[0])  # noqa: PTH112 - Path.is_dir raises where it may not look
    return given[0] if is_one else None


def images_of(given: Sequence[Path], out: Path, *, recursive: bool) -> Images:
    """Return the named files, whether they are images or not, and the images in the named folders.

    Parameters
    ----------
    given : sequence of Path
    out : Path
        The output folder, whose results are no images.
    recursive : bool
        Whether to look into the folders in those folders, too.

    Raises
    ------
    InputError
        If a folder cannot be listed.
    """
    paths: list[Path] = []
    passed_over: Counter[str] = Counter()
    for path in _once(given):
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where it may not look
            check_folder(path)
            scanner = Scanner(path, out, recursive=recursive)
            paths += [source.path for source in checked(scanner)]
            passed_over += scanner.passed_over
        else:
            paths.append(path)
    return Images(sorted(_once(paths), key=lambda path: natural_key(str(path))), passed_over)


def _once(paths: Iterable[Path]) -> list[Path]:
    """Return each file or folder by the first of its names; a link has a name of its own."""
    by_whole_path: dict[str, Path] = {}
    for path in paths:
        by_whole_path.setdefault(os.path.abspath(path), path)  # noqa: PTH100
    return list(by_whole_path.values())
