"""Pictures from the painter, which runs only while somebody asks for some: one at a time, whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.web.helper import Helper, HelperError, results_arguments

THUMBNAIL, PICTURE, LABELS = "thumbnail", "picture", "labels"
CORRECTED, CORRECTED_CELLS = "corrected", "corrected-cells"  # labels, and the table of their cells

_MOST_WAITING = 64


class PictureError(Exception):
    """There is no such picture, for a reason that is shown."""


class BusyError(Exception):
    """Too many ask for pictures."""


@dataclass(frozen=True)
class Picture:
    """A picture as a file.

    Attributes
    ----------
    kind : str
        Its media type.
    data : bytes
    note : str
        Why it does not show the original; empty if it does.
    """

    kind: str
    data: bytes
    note: str


class Pictures:
    """Asks the painter, and begins and ends it.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Path or None
        Where the images are; None for where `export` looks for them.
    """

    def __init__(self, out: Path, originals: Path | None) -> None:
        self._painter = Helper("cellseg_device.web.painter", results_arguments(out, originals))
        self._thumbnails = asyncio.Lock()
        self._waiting = 0

    async def get(self, what: str, image: str) -> Picture:
        """Return what the painter draws of an image; of all that wait only one wants a thumbnail.

        Parameters
        ----------
        what : str
            `THUMBNAIL`, `PICTURE`, `LABELS`, `CORRECTED` or `CORRECTED_CELLS`.
        image : str
            Its name in the ledger.

        Raises
        ------
        PictureError
            If the painter has none.
        BusyError
            If too many wait for theirs.
        """
        if self._waiting >= _MOST_WAITING:
            raise BusyError
        self._waiting += 1
        try:
            async with self._thumbnails if what == THUMBNAIL else contextlib.nullcontext():
                head, data = await self._painter.ask({"what": what, "image": image})
        except HelperError:
            raise PictureError("cannot be drawn: the process that draws has ended, try again") from None
        finally:
            self._waiting -= 1
        if "error" in head:
            raise PictureError(head["error"])
        return Picture(head["kind"], data, head["note"])

    async def close(self) -> None:
        """End the painter."""
        await self._painter.close()
