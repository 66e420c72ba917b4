"""What `cellseg-device doctor` finds, which takes seconds and another process: one at a time, whoever asks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from cellseg_device.errors import OutputError

_LONGEST_S = 300.0


class Checkup:
    """Runs the doctor for a results folder.

    Parameters
    ----------
    out : Path
        The output folder.
    """

    def __init__(self, out: Path) -> None:
        self._command = [sys.executable, "-P", "-m", "cellseg_device", "doctor", "--json", "--out", str(out.absolute())]
        self._turn = asyncio.Lock()

    async def findings(self) -> list[dict[str, Any]]:
        """Return the findings, as ``doctor --json`` prints them.

        Raises
        ------
        OutputError
            If there are none.
        """
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                async with asyncio.timeout(_LONGEST_S):
                    printed, _ = await process.communicate()
                found: list[dict[str, Any]] = json.loads(printed)["findings"]
            except (TimeoutError, ValueError, KeyError):
                raise OutputError("the check gives no answer: try 'cellseg-device doctor'") from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        return found
