"""The work folder: what is in it belongs to one request, by one command at a time, and can be gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cellseg_device.errors import InputError, OutputError
from cellseg_device.system import files
from cellseg_host.adapt.start import Start
from cellseg_host.data.whole_folder import check_new, check_place
from cellseg_host.sweep.locks import locked

_ABOUT, _LOCK = "adapt.json", ".lock"
_HINT = "--resume what was begun in it, remove it, or choose another --work"
# What a request is, and how one says that it differs
_PARTS = {
    "corrections": "other corrections",
    "start": "another start model",
    "replay": "another --replay",
    "settings": "other settings",
    "format": "another version of cellseg",
}


@contextmanager
def opened(folder: Path, about: Mapping[str, Any], start: Start, *, resume: bool) -> Iterator[Start]:
    """Hold the work folder of a request, which gets a copy of the start model, and yield the start from there.

    Raises
    ------
    InputError
        If the folder is not empty and is not to be resumed, or what was begun in it is another request.
    OutputError
        If it cannot be made, or another command works in it.
    """
    file = folder / _ABOUT
    if not (resume and file.is_file()) and not _is_bare(folder):
        if resume:
            raise InputError(f"{folder}: holds nothing to resume: choose another --work")
        check_new(folder, _HINT)
    check_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / _LOCK, wait=False) as is_ours:
        if not is_ours:
            raise OutputError(f"{folder}: another command is at work there: wait for it, or choose another --work")
        text = json.dumps(about, sort_keys=True, indent=2)
        if file.is_file():
            _check_same(file, json.loads(text))
        else:
            files.write(file, text.encode())
        copy = folder / "start" / start.path.name
        if not copy.is_file() or files.sha256(copy) != start.sha256:
            copy.parent.mkdir(exist_ok=True)
            files.write(copy, start.path.read_bytes())
        yield start.at(copy)


def remove(folder: Path) -> None:
    """Remove a work folder with all that was made in it."""
    shutil.rmtree(folder)


def _is_bare(folder: Path) -> bool:
    """Whether there is no such folder, or one in which a command was killed before it left more than its lock."""
    return not folder.exists() or (folder.is_dir() and all(path.name == _LOCK for path in folder.iterdir()))


def _check_same(file: Path, about: Mapping[str, Any]) -> None:
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        differing = [words for part, words in _PARTS.items() if known.get(part) != about.get(part)]
    except (ValueError, AttributeError):
        raise InputError(f"{file}: is damaged: choose another --work") from None
    if differing:
        raise InputError(
            f"{file.parent}: was begun with {' and '.join(differing)}: resume it as it was begun, remove it, or choose "
            "another --work"
        )
