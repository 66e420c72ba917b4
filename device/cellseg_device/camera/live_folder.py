"""The folder that a camera and a page share: here the page asks for pictures and images, and the camera answers.

For services it lies in memory, where systemd makes it for both (``RuntimeDirectory=``); else it is a hidden one in the
results, which no watch looks into. What is in it is worth nothing after a moment, and is not synced.

| file  | written by | what it is                                                              |
|-------|------------|-------------------------------------------------------------------------|
| asked | the page   | empty; a picture is wanted as long as it was touched moments ago        |
| frame | the camera | a line of JSON about the picture, then the picture as a JPEG            |
| snap  | the page   | a random number: an image is wanted now                                 |
| taken | the camera | JSON: that number, and the image that was taken for it                  |
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from cellseg_device.system import files

ASKED, FRAME, SNAP, TAKEN = "asked", "frame", "snap", "taken"
HIDDEN_NAME = ".cellseg-camera"
ASKED_S = 3.0  # since it was touched, until no picture is wanted any more
SNAP_S = 60.0  # until nobody waits for an image any more
_RUNTIME = Path("/run")
_MOST_BYTES = 4 << 20


def runtime_name(out: Path) -> str:
    """Return the name of the folder of an output folder below ``/run``."""
    return f"cellseg/{hashlib.sha256(os.fsencode(os.path.realpath(out))).hexdigest()[:16]}"


class LiveFolder:
    """The folder of an output folder.

    Parameters
    ----------
    out : Path
    """

    def __init__(self, out: Path, runtime: Path = _RUNTIME) -> None:
        self._in_memory, self._hidden = runtime / runtime_name(out), out / HIDDEN_NAME

    @property
    def path(self) -> Path:
        """Where it is now: services may come and go."""
        is_there = self._in_memory.is_dir() and os.access(self._in_memory, os.W_OK | os.X_OK)
        return self._in_memory if is_there else self._hidden

    def age_s(self, name: str) -> float | None:
        """Return how long ago a file was written or touched; None without one."""
        try:
            return abs(time.time() - (self.path / name).lstat().st_mtime)
        except OSError:
            return None

    def read(self, name: str) -> bytes | None:
        """Return what is in a file; None without one."""
        try:
            with open(files.open_regular(self.path / name, os.O_RDONLY), "rb") as file:
                return file.read(_MOST_BYTES)
        except OSError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, which is whole for whoever reads it; raise an OSError if it cannot be."""
        files.write_unsynced(self.path / name, data)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        try:
            (self.path / name).unlink(missing_ok=True)
        except OSError:
            return
