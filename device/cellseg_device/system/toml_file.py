"""Reading TOML, the format of all settings files of both packages."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from cellseg_device.errors import InputError


def read(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file.

    Raises
    ------
    InputError
        If the file cannot be read, is not UTF-8 text, or is not valid TOML (with line and column).
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not valid TOML: {error}") from None
