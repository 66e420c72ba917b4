"""A model's file that is replaced while the work goes on: the new one is taken up whole, or the old one stays."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cellseg_device.errors import ModelError
from cellseg_device.model import Model

if TYPE_CHECKING:
    from cellseg_device.accelerator import Accelerated

_State = tuple[tuple[int, int, int], ...]  # inode, size, mtime_ns of each file


class Renewal:
    """Looks after the file of a model that is at work, or its two.

    Parameters
    ----------
    model : Model or Accelerated
    load : callable
        Loads the file anew, with all checks; raises ModelError where it does not pass them.
    warn : callable
        Receives a line for the user.
    settle_s : float
        How long a changed file must have been still.
    """

    def __init__(
        self,
        model: Model | Accelerated,
        load: Callable[[], Model | Accelerated],
        warn: Callable[[str], None],
        settle_s: float = 1.0,
    ) -> None:
        self._model = model
        self._load = load
        self._warn = warn
        self._settle_s = settle_s
        self._judged = _state(model.files)  # as it was when it was taken up or refused
        if any(_sha256(path) != digest for path, digest in model.files.items()):
            self._judged = None  # replaced as it was being loaded

    def due(self) -> Model | Accelerated | None:
        """Load the model if its file has changed and passes its checks; None to go on with the present one.

        A file that does not pass them is told once, and tried again when it changes.
        """
        state = _state(self._model.files)
        if state is None or state == self._judged:
            return None
        if any(abs(time.time() - mtime_ns * 1e-9) < self._settle_s for *_, mtime_ns in state):
            return None
        self._judged = state
        try:
            model = self._load()
        except ModelError as error:
            self._warn(f"{error.message}: counting goes on with the model as it was")
            return None
        if _state(model.files) != state:
            self._judged = None  # it changed again meanwhile: the next time will tell
        if model.files == self._model.files:
            return None
        self._model = model
        self._warn(f"{model.path} was replaced: counting goes on with it ({model.card.name}, {model.sha256[:12]})")
        return model


def _state(paths: Iterable[Path]) -> _State | None:
    try:
        found = [path.stat() for path in paths]
    except OSError:
        return None
    return tuple([(info.st_ino, info.st_size, info.st_mtime_ns) for info in found])


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
