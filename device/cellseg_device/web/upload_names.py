"""The names that uploaded images had, which stand for nothing but themselves: ``names.csv`` in their folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from cellseg_device.errors import InputError
from cellseg_device.system import files
from cellseg_device.system.csv_text import Rows, csv_bytes

FOLDER_NAME = "uploads"  # one of `places.OWN_FOLDERS`, which needs image code
IMAGES_NAME, TABLE_NAME = "images", "names.csv"
_COLUMNS = ("image", "name")


def read(folder: Path) -> dict[str, str]:
    """Return the names that images had, by those that they have; none where the table is missing.

    Raises
    ------
    InputError
        If it is not such a table.
    OSError
        If it cannot be read.
    """
    try:
        with open(files.open_regular(folder / TABLE_NAME, 0), encoding="utf-8", newline="") as file:
            return {row["image"]: row["name"] for row in Rows(file)}
    except FileNotFoundError:
        return {}
    except (KeyError, UnicodeDecodeError, csv.Error):
        fault = f"{folder / TABLE_NAME} is damaged: remove it, and images are shown by the names of their files"
        raise InputError(fault) from None


def write(folder: Path, names: Mapping[str, str]) -> None:
    """Write them; the table is whole and on the disk when this returns."""
    files.write(folder / TABLE_NAME, csv_bytes([_COLUMNS, *names.items()], line_end="\n"))
