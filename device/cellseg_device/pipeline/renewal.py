"""Replacing the file of a model or gate during the work: either the whole new one is used, or the old one stays."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards

if TYPE_CHECKING:
    from cellseg_device.pipeline.models import Models

_State = tuple[tuple[int, int, int] | None, ...]  # inode, size, mtime_ns of each file; None where there is none


class Renewal:
    """Watches the files of the models in use, which it loads all: a file may be gone when an image needs it.

    Parameters
    ----------
    models : Models
    load : callable
        Loads the files again, with all checks; raises ModelError if they do not pass them.
    warn : callable
        Receives a line for the user.
    settle_s : float
        How long a changed file must not have changed again.
    """

    def __init__(
        self,
        models: Models,
        load: Callable[[], Models],
        warn: Callable[[str], None],
        settle_s: float = 1.0,
    ) -> None:
        models.load_all()
        self._models = models
        self._load = load
        self._warn = warn
        self._settle_s = settle_s
        self._seen, self._seen_s = _state(models.files), time.monotonic()
        self._checked: _State | None = self._seen  # the state that was loaded or refused
        if any(_sha256(path) != digest for path, digest in models.files.items()):
            self._checked = None  # replaced while it was being loaded

    def due(self) -> Models | None:
        """Return the new models if a file has changed and passes the checks; None to go on with the present ones.

        If the file is gone or does not pass them, the user is warned once, and it is tried again when it changes.
        """
        state = _state(self._models.files)
        if state == self._checked or not self._has_settled(state):
            return None
        self._checked = state
        if None in state:
            path = list(self._models.files)[state.index(None)]
            self._warn(f"{path} is gone, or cannot be looked at: counting goes on with the model as it was")
            return None
        try:
            models = self._load()
            models.load_all()
        except ModelError as error:
            self._warn(f"{error.message}: counting goes on with the model as it was")
            return None
        if _state(models.files) != state:
            self._checked = None  # it changed again meanwhile: check it the next time
        if models.files == self._models.files:
            return None
        former, self._models = self._models, models
        for part in models.parts:
            if part.path in former.files and part.files not in [other.files for other in former.parts]:
                self._warn(f"{part.path} was replaced: counting goes on with it ({part.card.name}, {part.sha256[:12]})")
        return models

    def _has_settled(self, state: _State) -> bool:
        """Return whether files have not changed for a while; one that is gone has no time, so that is measured here."""
        if state != self._seen:
            self._seen, self._seen_s = state, time.monotonic()
        if None in state:
            return time.monotonic() - self._seen_s >= self._settle_s
        return all(abs(time.time() - entry[2] * 1e-9) >= self._settle_s for entry in state if entry)


def _state(paths: Iterable[Path]) -> _State:
    return tuple([_stat(path) for path in paths])


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(cards.read_model_file(path)).hexdigest()
    except ModelError:
        return None
