"""Files that a browser sends, written to the disk as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request

_LONGEST_PAUSE_S = 60.0  # nobody else can send one meanwhile


async def to_file(request: Request, path: Path) -> None:
    """Write the body of a request into a file that is there.

    Raises
    ------
    HTTPException
        If it is empty, or stops coming.
    OSError
        If the disk refuses.
    """
    size = 0
    with open(path, "wb") as file:
        async for part in steady(request.stream(), _LONGEST_PAUSE_S):
            size += len(part)
            await run_in_threadpool(file.write, part)
    if not size:
        raise HTTPException(400, "The file is empty.")


async def steady(parts: AsyncIterator[bytes], longest_pause_s: float) -> AsyncIterator[bytes]:
    """Yield what is sent; raise HTTPException where it stops coming, as when a telephone has lost its network."""
    while True:
        try:
            async with asyncio.timeout(longest_pause_s):
                part = await anext(parts)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, "The file stopped coming: send it again.") from None
        yield part
