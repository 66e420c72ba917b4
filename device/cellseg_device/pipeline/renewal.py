"""Replacing the file of a model or gate during the work: either the whole new one is used, or the old one stays.

So it is with a file that comes or goes, if it is awaited: the model in use of a results folder.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg_device.errors import ModelError
from cellseg_device.model import card as cards

if TYPE_CHECKING:
    from cellseg_device.pipeline.models import Models

_State = dict[Path, tuple[int, int, int] | None]  # inode, size, mtime_ns of each file; None where there is none


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
    awaited : Path or None
        A file that need not be there; the models are loaded again when it comes or goes, too.
    """

    def __init__(
        self,
        models: Models,
        load: Callable[[], Models],
        warn: Callable[[str], None],
        settle_s: float = 1.0,
        *,
        awaited: Path | None = None,
    ) -> None:
        models.load_all()
        self._awaited = awaited
        self._models = models
        self._load = load
        self._warn = warn
        self._settle_s = settle_s
        self._seen, self._seen_s = self._state(models), time.monotonic()
        self._checked: _State | None = self._seen  # the state that was loaded or refused
        if any(_sha256(path) != digest for path, digest in models.files.items()):
            self._checked = None  # replaced while it was being loaded

    def due(self) -> Models | None:
        """Return the new models if a file has changed and passes the checks; None to go on with the present ones.

        If the file is gone or does not pass them, the user is warned once, and it is tried again when it changes.
        """
        state = self._state(self._models)
        if state == self._checked or not self._has_settled(state):
            return None
        self._checked = state
        gone = [path for path, found in state.items() if found is None and path != self._awaited]
        if gone:
            self._warn(f"{gone[0]} is gone, or cannot be looked at: counting goes on with the model as it was")
            return None
        try:
            models = self._load()
            models.load_all()
        except ModelError as error:
            self._warn(f"{error.message}: counting goes on with the model as it was")
            return None
        after = self._state(models)
        has_changed = any(found != state.get(path, found) for path, found in after.items())
        self._checked = None if has_changed else after  # it changed again meanwhile: check it the next time
        if models.files == self._models.files:
            return None
        former, self._models = self._models, models
        for part in models.parts:
            if part.files not in [other.files for other in former.parts]:
                what = "was replaced" if part.path in former.files else "is used from now on"
                self._warn(f"{part.path} {what}: counting goes on with it ({part.card.name}, {part.sha256[:12]})")
        return models

    def _state(self, models: Models) -> _State:
        """Return the state of the models' files, and of what is awaited."""
        return {path: _stat(path) for path in (*models.files, *([self._awaited] if self._awaited else []))}

    def _has_settled(self, state: _State) -> bool:
        """Return whether files have not changed for a while; one that is gone has no time, so that is measured here."""
        if state != self._seen:
            self._seen, self._seen_s = state, time.monotonic()
        if None in state.values() and time.monotonic() - self._seen_s < self._settle_s:
            return False
        return all(abs(time.time() - entry[2] * 1e-9) >= self._settle_s for entry in state.values() if entry)


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
