"""Small pictures that were drawn before, in a hidden folder of the results.

They lie there and not in a user's cache folder because a service has none, because they go where the results go, and
because the disk of the results is the larger one. No watch takes them for images: it goes into no hidden folder, and
their names end otherwise. Losing them costs time alone, so they are not synced.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
from pathlib import Path

from cellseg_device.system import files

FOLDER_NAME = ".cellseg-thumbnails"
_SUFFIX = ".thumbnail"
_JPEG_END = b"\xff\xd9"
_MOST_BYTES = 1 << 20


class Thumbnails:
    """The small pictures of a results folder.

    Parameters
    ----------
    out : Path
        The output folder; where nothing can be written there, nothing is kept.
    """

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER_NAME

    def get(self, image: str, stamp: str) -> bytes | None:
        """Return the picture of an image's result, if it was kept whole."""
        try:
            with open(self._path(image), "rb", opener=files.regular) as file:
                data = file.read(_MOST_BYTES)
        except OSError:
            return None
        start = _start(stamp)
        return data[len(start) :] if data.startswith(start) and data.endswith(_JPEG_END) else None

    def put(self, image: str, stamp: str, picture: bytes) -> None:
        """Keep a picture, in place of that of an earlier result; does nothing where the disk refuses."""
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileExistsError):
                self._folder.mkdir()
            if not stat.S_ISDIR(self._folder.lstat().st_mode):  # a link may lead anywhere
                return
            files.write_unsynced(self._path(image), _start(stamp) + picture)

    def _path(self, image: str) -> Path:
        return self._folder / (hashlib.sha256(image.encode("utf-8", "surrogatepass")).hexdigest()[:40] + _SUFFIX)


def _start(stamp: str) -> bytes:
    return f"cellseg thumbnail of {stamp}\n".encode()
