"""What the services of different commands have in common: names, users, secrets, and the program's own paths."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from cellseg_device.errors import InputError

_SYSTEM_USER = "cellseg"


def check_name(name: str) -> None:
    """Raise InputError for what cannot be the name of a service."""
    if not re.fullmatch(r"[\w.-]{1,200}", name, re.ASCII):
        raise InputError(f"{name!r} cannot be the name of a service: use letters, digits, '-', '_' and '.'")


def checked_user(user: str | None, out: Path) -> str:
    """Return the user that a service runs as: the one that is given, or the owner of the results."""
    from cellseg_device.system import rights

    if user == "root":
        raise InputError("a service does not need root's rights: name another --user, or leave it out")
    if user is not None and rights.user_named(user).uid is None:
        raise InputError(f"there is no user {user}: make it with 'sudo useradd --system {user}', or leave --user out")
    owner = rights.owner(out)
    return user or (owner if owner not in (None, "root") else _SYSTEM_USER)


def program() -> list[Path]:
    """Return the paths that this program needs to run: interpreter, environment, package."""
    import cellseg_device

    package = Path(cellseg_device.__file__).resolve().parent
    return [Path(sys.executable).resolve(), Path(sys.prefix), Path(sys.base_prefix), package]


def runnable() -> tuple[Path, ...]:
    """Return the interpreter, and the folders with the libraries of its packages."""
    import site

    from cellseg_device.system import rights

    folders = [Path(prefix) / name for prefix in (sys.prefix, sys.base_prefix) for name in ("lib", "lib64")]
    folders += [Path(site.getusersitepackages())] if site.ENABLE_USER_SITE else []
    return (Path(sys.executable).resolve(), *(folder for folder in folders if rights.is_there(folder)))


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first moment on."""
    from cellseg_device.system import files

    former = os.umask(0o077)
    try:
        files.write(path, text.encode())
    finally:
        os.umask(former)
