"""A model's file that is replaced while the work goes on: the new one is taken up whole, or the old one stays."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from cellseg_device.errors import ModelError
from cellseg_device.model import Model

_State = tuple[int, int, int]  # inode, size, mtime_ns


class Renewal:
    """Looks after the file of a model that is at work.

    Parameters
    ----------
    model : Model
    load : callable
        Loads the file anew, with all checks; raises ModelError where it does not pass them.
    warn : callable
        Receives a line for the user.
    settle_s : float
        How long a changed file must have been still.
    """

    def __init__(
        self, model: Model, load: Callable[[], Model], warn: Callable[[str], None], settle_s: float = 1.0
    ) -> None:
        self._model = model
        self._load = load
        self._warn = warn
        self._settle_s = settle_s
        self._judged = _state(model.path)  # the file as it was when it was taken up or refused
        if _sha256(model.path) != model.sha256:
            self._judged = None  # replaced as it was being loaded

    def due(self) -> Model | None:
        """Load the model if its file has changed and passes its checks; None to go on with the present one.

        A file that does not pass them is told once, and tried again when it changes.
        """
        state = _state(self._model.path)
        if state is None or state == self._judged or abs(time.time() - state[2] * 1e-9) < self._settle_s:
            return None
        self._judged = state
        try:
            model = self._load()
        except ModelError as error:
            self._warn(f"{error.message}: counting goes on with the model as it was")
            return None
        if _state(model.path) != state:
            self._judged = None  # it changed again meanwhile: the next time will tell
        if model.sha256 == self._model.sha256:
            return None
        self._model = model
        self._warn(f"{model.path} was replaced: counting goes on with it ({model.card.name}, {model.sha256[:12]})")
        return model


def _state(path: Path) -> _State | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
