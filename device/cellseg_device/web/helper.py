"""A process that answers requests in order: begun with the first one, ended when there were none for a while.

A request is a line of JSON; the answer is a line of JSON with the number of bytes that follow it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_IDLE_S = 60.0  # until it ends
_LONGEST_S = 300.0  # for one answer; the sandbox gives up earlier
_LONGEST_HEAD = 1 << 16
_ENDING_S = 10.0  # to write what it has

Head = dict[str, Any]


class HelperError(Exception):
    """The process has ended without an answer."""


class Helper:
    """Asks such a process, and begins and ends it.

    Parameters
    ----------
    module : str
        Its name.
    arguments : sequence of str
    has_more_to_do : bool
        Whether it is given time at the end, instead of being killed.
    """

    def __init__(self, module: str, arguments: Sequence[str], *, has_more_to_do: bool = False) -> None:
        self._command = [sys.executable, "-P", "-m", module, *arguments]
        self._has_more_to_do = has_more_to_do
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._end: asyncio.TimerHandle | None = None

    async def ask(self, request: Head) -> tuple[Head, bytes]:
        """Return an answer, and the bytes that follow it; one waits until those before it have theirs.

        Raises
        ------
        HelperError
            If the process ends meanwhile, or takes too long.
        """
        async with self._turn:
            return await self._asked(request)

    async def close(self) -> None:
        """End the process."""
        if self._end is not None:
            self._end.cancel()
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        if self._has_more_to_do and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ENDING_S):
                    await process.wait()
        await _killed(process)

    async def _asked(self, request: Head) -> tuple[Head, bytes]:
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
                answer = await _answer(process, request)
        except (TimeoutError, OSError, EOFError, ValueError):
            await self._drop(process)
            raise HelperError from None
        except BaseException:
            await self._drop(process)  # its answer may still come, and would be taken for that to the next request
            raise
        self._end = asyncio.get_running_loop().call_later(_IDLE_S, self._begin_to_close)
        return answer

    async def _drop(self, process: asyncio.subprocess.Process) -> None:
        self._process = None
        await _killed(process)

    def _begin_to_close(self) -> None:
        if not self._turn.locked() and self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()  # which it takes for the end
            self._process = None


def results_arguments(out: Path, originals: Path | None) -> list[str]:
    """Return what a process is given that works on a results folder, and perhaps a folder of images."""
    return [str(path.absolute()) for path in (out, originals) if path is not None]


async def _killed(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _answer(process: asyncio.subprocess.Process, request: Head) -> tuple[Head, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    await process.stdin.drain()
    head = json.loads(await process.stdout.readline() or b"null")
    if head is None:
        raise EOFError
    return head, await process.stdout.readexactly(head["bytes"])
