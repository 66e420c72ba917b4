"""Pictures from the painter, which runs only while somebody asks for some: one at a time, whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

THUMBNAIL, PICTURE, LABELS = "thumbnail", "picture", "labels"

_IDLE_S = 60.0  # until the painter ends
_LONGEST_S = 300.0  # for one picture; the sandbox gives up earlier
_MOST_WAITING = 64
_LONGEST_HEAD = 1 << 16


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
        self._command = [sys.executable, "-P", "-m", "cellseg_device.web.painter", str(out.absolute())]
        self._command += [] if originals is None else [str(originals.absolute())]
        self._process: asyncio.subprocess.Process | None = None
        self._turn, self._thumbnails = asyncio.Lock(), asyncio.Lock()
        self._waiting = 0
        self._end: asyncio.TimerHandle | None = None

    async def get(self, what: str, image: str) -> Picture:
        """Return a picture: `THUMBNAIL`, `PICTURE` or `LABELS`. Of all that wait only one wants a thumbnail.

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
            async with self._thumbnails if what == THUMBNAIL else contextlib.nullcontext(), self._turn:
                return await self._drawn(what, image)
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """End the painter."""
        if self._end is not None:
            self._end.cancel()
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _drawn(self, what: str, image: str) -> Picture:
        if self._end is not None:
            self._end.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST_HEAD,
                start_new_session=True,  # Ctrl-C in a terminal is the server's
            )
        try:
            async with asyncio.timeout(_LONGEST_S):
                answer = await _asked(process, what, image)
        except (TimeoutError, OSError, EOFError, ValueError):
            await self.close()
            raise PictureError("cannot be drawn: the process that draws has ended, try again") from None
        except BaseException:
            await self.close()  # its answer may still come, and would be taken for that to the next request
            raise
        self._end = asyncio.get_running_loop().call_later(_IDLE_S, self._begin_to_close)
        if isinstance(answer, str):
            raise PictureError(answer)
        return answer

    def _begin_to_close(self) -> None:
        if not self._turn.locked() and self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # which it takes for the end
            self._process = None


async def _asked(process: asyncio.subprocess.Process, what: str, image: str) -> Picture | str:
    """Return the painter's picture, or why it has none."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"what": what, "image": image}).encode() + b"\n")
    await process.stdin.drain()
    head = json.loads(await process.stdout.readline() or b"null")
    if head is None:
        raise EOFError
    data = await process.stdout.readexactly(head["bytes"])
    return head["error"] if "error" in head else Picture(head["kind"], data, head["note"])
