"""Tells browsers that something changed, by server-sent events: looked at once a second while anybody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

MOST_LISTENING = 24
_EVERY_S = 1.0
_BEATS_EVERY = 15  # looks: a sign of life, by which a browser that is gone is found out


class Events:
    """The stream of events.

    Parameters
    ----------
    version : callable
        Returns what differs as soon as something changes.
    """

    def __init__(self, version: Callable[[], str]) -> None:
        self._version = version
        self._stop = asyncio.Event()
        self._listening = 0

    @property
    def is_full(self) -> bool:
        """Whether so many listen that no more can."""
        return self._listening >= MOST_LISTENING

    def stop(self) -> None:
        """End all streams."""
        self._stop.set()

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield an event at once, and with each change."""
        self._listening += 1
        try:
            last, silent = "", 0
            while not self._stop.is_set():
                version = self._version()
                silent += 1
                if version != last:
                    yield f"event: changed\ndata: {version}\n\n".encode()
                    last, silent = version, 0
                elif silent >= _BEATS_EVERY:
                    yield b": alive\n\n"
                    silent = 0
                await self._rest()
        finally:
            self._listening -= 1

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), _EVERY_S)
        except TimeoutError:
            return
