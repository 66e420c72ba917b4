"""Where image files lie, what they are named after it, and whether they are still there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cellseg_device.image.source import names_as_printed, original, printable

# In an output folder, what is not for images: no watch looks for any there
OWN_FOLDERS = ("corrections", "models", "uploads")


def absolute(path: Path) -> str:
    """Return the whole path of an image: a link keeps its own name."""
    return printable(os.path.abspath(path))  # noqa: PTH100


def name_of(path: Path, out: Path) -> str:
    """Return the name of an image: its path within the folder that the output folder is in, else its whole path.

    So it has one name from wherever it is named, which stays the same where all is moved together.
    """
    around, own = os.path.split(_real_path(os.path.abspath(out)))  # noqa: PTH100
    place = place_of(path, out)
    if around == os.sep or place.startswith("../../"):
        return absolute(path)
    return place.removeprefix("../") if place.startswith("../") else f"{printable(own)}/{place}"


def place_of(path: Path, out: Path) -> str:
    """Return the path of an image file from an output folder, with links to folders resolved.

    It is the same however the two are named, and stays the same where they are moved together.
    """
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
    return printable(os.path.relpath(f"{_real_path(folder)}/{name}", _real_path(os.path.abspath(out))))  # noqa: PTH100


@dataclass(frozen=True)
class Watched:
    """Where the folder lies that is watched.

    Attributes
    ----------
    inside : str
        What the places of the images in it begin with: nothing where it is the output folder itself.
    around : str
        What their whole paths begin with.
    """

    inside: str
    around: str

    @classmethod
    def at(cls, folder: Path, out: Path) -> Watched:
        """Return it for a folder and the output folder."""
        path = folder / "x"
        return cls(place_of(path, out).removesuffix("x"), absolute(path).removesuffix("x"))

    def name_of(self, path: str, place: str | None) -> str | None:
        """Return the path of an image within the folder; None if it lies elsewhere.

        Where a link in the folder leads to it, its own path tells its name.

        Parameters
        ----------
        path : str
            The path by which it was named; if that is not the whole one, it tells nothing.
        place : str or None
            Where it lies; None if that is not known.
        """
        if place is not None and place.startswith(self.inside):
            name = place.removeprefix(self.inside)
            if not name.startswith("../"):
                return name
        return path.removeprefix(self.around) if path.startswith(self.around) else None


@lru_cache(256)
def _real_path(folder: str) -> str:
    return os.path.realpath(folder)


def is_another(folder: Path, name: str, path: Path) -> bool:
    """Whether there is a file of a name, and it is not the one at this path."""
    place = f"{folder}/{name}"
    if not os.path.lexists(place):
        return False
    try:
        return not os.path.samefile(place, path)  # noqa: PTH121 - a path may lead to the same folder as another one
    except OSError:
        return True


def is_missing(folder: Path, name: str) -> bool:
    """Whether there surely is no file of a name, which may have been made printable."""
    if os.path.lexists(f"{folder}/{name}"):
        return False
    try:
        os.lstat(original(folder, name, names_as_printed))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # a fault of the disk
        return False
    return False


def forget_links() -> None:
    """Look at links to folders anew, which may have been changed."""
    _real_path.cache_clear()
