"""Pixel sizes by name, of an objective for example, in a small TOML file of the user or the computer."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

from cellseg_device.errors import InputError
from cellseg_device.system import files
from cellseg_device.units import PIXEL_SIZES_UM, is_pixel_size

FILE_NAME = "calibrations.toml"
COMPUTERS_FOLDER = Path("/etc/cellseg")
_KEY = "pixel-size-um"
_RANGE = f"from {PIXEL_SIZES_UM[0]:g} to {PIXEL_SIZES_UM[1]:g}"


def users_path() -> Path:
    """Return the file of the user's calibrations, in ``$XDG_CONFIG_HOME/cellseg`` or ``~/.config/cellseg``."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "cellseg" / FILE_NAME


def pixel_size_um(name: str) -> float:
    """Return the pixel size of a calibration, looked up in the user's file and then in the computer's.

    Raises
    ------
    InputError
        If there is none of this name, or a file is damaged.
    """
    known: list[str] = []
    for path in (users_path(), COMPUTERS_FOLDER / FILE_NAME):
        found = read(path)
        if name in found:
            return found[name]
        known += found
    names = f"there are {', '.join(sorted(set(known)))}" if known else "there are none yet"
    raise InputError(f"no calibration named {name!r} ({names}): save it with 'cellseg-device calibrate'")


def read(path: Path, *, without: str | None = None) -> dict[str, float]:
    """Return the pixel sizes in µm by name, except the one named `without`; empty if there is no file.

    Raises
    ------
    InputError
        If the file cannot be read or is damaged.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML ({error}): fix it, or move it away and calibrate again") from None
    sizes = {}
    for name, table in tables.items():
        if name == without:
            continue
        size = table.get(_KEY) if isinstance(table, dict) else None
        if not isinstance(size, int | float) or not is_pixel_size(size):
            raise InputError(f"{path}: [{name}] has no {_KEY} {_RANGE}: fix it, or calibrate {name} again")
        sizes[name] = float(size)
    return sizes


def save(path: Path, name: str, size_um: float) -> None:
    """Write a calibration into a file, replacing any of the same name.

    Raises
    ------
    InputError
        If that is not a possible pixel size, or the file is damaged or cannot be written.
    """
    if not is_pixel_size(size_um):
        raise InputError(f"{size_um:g} µm is not a pixel size {_RANGE}: check the micrometer's divisions")
    sizes = read(path, without=name) | {name: size_um}
    # A JSON string is a TOML string
    text = "".join(f"[{json.dumps(key)}]\n{_KEY} = {value!r}\n\n" for key, value in sorted(sizes.items()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text.encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another with --file") from None
