"""``cellseg-host adapt`` on this computer, where it is installed: one at a time, at a low priority, whoever asks.

It works in ``OUT/models/.adapting``, which the next one clears. What it prints last is how far it has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

MODELS = "models"  # `in_use.FOLDER_NAME`, which the server does not import, since image code comes with it
FOLDER_NAME = ".adapting"
_NICE = 10  # counting goes first
_ENDING_S = 20.0  # to end after a signal
_LONGEST_LINE = 400
_OR_ANYWAY = ", or write it all the same"  # how 'adapt' goes on where it names a command line


class Adapting:
    """Teaches a model in the background.

    Parameters
    ----------
    out : Path
        The output folder.
    originals : Path or None
        Where the images are; None for where `export` looks for them.
    take : callable
        Is given the new model's file; returns what the page shows of it, or raises ValueError with why it is refused.
    flags : sequence of str
        Further flags of ``adapt``.
    """

    def __init__(
        self,
        out: Path,
        originals: Path | None,
        take: Callable[[Path], Awaitable[dict[str, Any]]],
        flags: Sequence[str] = (),
    ) -> None:
        self._out, self._originals, self._take, self._flags = out, originals, take, tuple(flags)
        self._folder = out.absolute() / MODELS / FOLDER_NAME
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._state: dict[str, Any] = {"state": "none"}

    @staticmethod
    def is_possible() -> bool:
        """Whether the host package is installed here; a service of ours may not run what TensorFlow compiles."""
        return importlib.util.find_spec("cellseg_host") is not None and "NOTIFY_SOCKET" not in os.environ

    @property
    def state(self) -> dict[str, Any]:
        """What it does, in words, and what came of it: ``state`` is none, running, done, refused or stopped."""
        return self._state

    def begin(self) -> bool:
        """Begin, unless it is running; return whether it has begun."""
        if self._task is not None and not self._task.done():
            return False
        self._state = {"state": "running", "words": "packing the checked images", "since": time.time()}
        self._task = asyncio.create_task(self._work())
        return True

    async def stop(self) -> None:
        """End it, if it is running; what it has learnt is lost."""
        task, self._task = self._task, None
        if task is None or task.done():
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self._state = {"state": "stopped", "words": "stopped"}

    async def _work(self) -> None:
        try:
            await run_in_threadpool(self._clear)
            packed = self._folder / "corrections.zip"
            folder = b"" if self._originals is None else os.fsencode(self._originals.absolute())
            with open(packed, "wb") as file:
                packing = ("cellseg_device.web.packing", "corrections", str(self._out.absolute()))
                code, last = await self._run(packing, to=file.fileno(), given=folder)
            if code:
                self._refuse(last or "there is nothing to learn from")
                return
            model = self._folder / f"taught-{time.strftime('%Y%m%d-%H%M')}.tflite"
            code, last = await self._run(("cellseg_host", "adapt", str(packed), "--out", str(model), *self._flags))
            if code:
                self._refuse(last.partition(_OR_ANYWAY)[0] or "the work has ended without a model")
                return
            self._state = {"state": "done", "words": "the new model is better", "model": await self._take(model)}
        except (OSError, ValueError) as error:
            self._refuse(str(error))

    def _refuse(self, words: str) -> None:
        self._state = {"state": "refused", "words": words.replace(f"{self._folder}/", "")}

    def _clear(self) -> None:
        """Make an empty folder; never through a link."""
        self._folder.parent.mkdir(exist_ok=True)
        if self._folder.is_symlink():
            raise OSError(f"{self._folder} is a link: remove it")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()

    async def _run(self, words: Sequence[str], *, to: int | None = None, given: bytes = b"") -> tuple[int, str]:
        """Run a module to its end; return its exit code, and the last line on standard error."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if to is None else to,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._folder,
            start_new_session=True,  # Ctrl-C in a terminal is the server's
        )
        try:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            assert process.stdin is not None
            assert process.stderr is not None
            with contextlib.suppress(ConnectionError):
                process.stdin.write(given)
                await process.stdin.drain()
                process.stdin.close()
            said = asyncio.create_task(_last(process.stderr, lambda _line: None))
            if process.stdout is not None:
                await _last(process.stdout, self._note)
            last = await said
            return await process.wait(), last
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                try:
                    async with asyncio.timeout(_ENDING_S):
                        await process.wait()
                except TimeoutError:
                    process.kill()
                    await process.wait()

    def _note(self, line: str) -> None:
        self._state = self._state | {"words": line}


async def _last(stream: asyncio.StreamReader, note: Callable[[str], None]) -> str:
    """Return the last line of what a process prints, and pass each on; all of it is read, so that it never waits."""
    last, rest = "", b""
    while part := await stream.read(4096):
        *lines, rest = (rest + part).split(b"\n")
        rest = rest[-_LONGEST_LINE:]
        for text in lines:
            if line := text.decode("utf-8", "replace").strip()[:_LONGEST_LINE]:
                last = line.removeprefix("error: ")
                note(last)
    return last or rest.decode("utf-8", "replace").strip().removeprefix("error: ")
