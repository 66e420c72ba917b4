"""Downloads that another process writes, passed on as they come: they may be larger than the memory."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

_BLOCK_BYTES = 1 << 16
_MOST_AT_ONCE = 2
_MOST_SAID_BYTES = 4096


class DownloadError(Exception):
    """It cannot be made, or breaks off, for a reason that is shown."""


class Downloads:
    """Makes the downloads of a results folder, a few at a time.

    Parameters
    ----------
    out : Path
        The output folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = str(out.absolute())
        self._running = 0

    async def begun(self, kind: str, given: bytes = b"") -> AsyncIterator[bytes]:
        """Return the parts of a download, of which the first one is there.

        Parameters
        ----------
        kind : str
            As for `packing.main`.
        given : bytes
            What the process is to read.

        Raises
        ------
        DownloadError
            If it cannot be made, or others are being made. Where it is raised later, what came is not whole.
        """
        if self._running >= _MOST_AT_ONCE:
            raise DownloadError("Two downloads are being made: wait until one is done.")
        parts = self._parts(kind, given)
        first = await anext(parts, b"")
        return _joined(first, parts)

    async def _parts(self, kind: str, given: bytes) -> AsyncIterator[bytes]:
        self._running += 1
        process = None
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "cellseg_device.web.packing", kind, self._out),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal is the server's
            )
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            said = asyncio.create_task(_last(process.stderr))
            with contextlib.suppress(ConnectionError):
                process.stdin.write(given)
                await process.stdin.drain()
                process.stdin.close()
            while part := await process.stdout.read(_BLOCK_BYTES):
                yield part
            if await process.wait():
                raise DownloadError(await said or "It cannot be made.")
        finally:
            self._running -= 1
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def _last(stream: asyncio.StreamReader) -> str:
    """Return the last line of what a process says; all of it is read, so that it never waits."""
    kept = b""
    while part := await stream.read(_MOST_SAID_BYTES):
        kept = (kept + part)[-_MOST_SAID_BYTES:]
    lines = kept.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else ""


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for part in rest:
            yield part
    finally:
        await rest.aclose()  # type: ignore[attr-defined]  # it is a generator
