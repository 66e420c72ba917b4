"""The token without which nobody beyond this computer sees the page: made at random, or kept in a file."""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from cellseg_device.errors import InputError
from cellseg_device.system import files

_BYTES = 24
_FORM = re.compile(r"[A-Za-z0-9_-]{16,200}")
_MOST_BYTES = 1024


def new() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(_BYTES)


def from_file(path: Path) -> str:
    """Return the token in a file that only its owner may read; a new one is put there if there is no such file.

    Raises
    ------
    InputError
        If others may read the file, it holds no token, or it cannot be read or made.
    """
    try:
        with suppress(FileExistsError):
            _make(path)
        with open(path, "rb", opener=files.regular) as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MOST_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise InputError(f"{path} cannot be used ({error.strerror}): choose another --token-file") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"{path} may be read or changed by others: 'chmod 600 {path}', then start again")
    if not _FORM.fullmatch(text):
        raise InputError(
            f"{path} holds no token of 16 to 200 letters, digits, - and _: remove it, and the next start makes one"
        )
    return text


def _make(path: Path) -> None:
    """Put a new token into a new file; raise FileExistsError if there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(f"{new()}\n")
        file.flush()
        os.fsync(file.fileno())
