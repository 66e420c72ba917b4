"""The server: the page behind its guard, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import uvicorn

from cellseg_device.system import notify
from cellseg_device.web import address, teach, uploads
from cellseg_device.web.app import Page
from cellseg_device.web.downloads import DownloadError
from cellseg_device.web.security import Guard

_GRACE_S = 2  # for what is being answered, at the end
_MOST_CONNECTIONS = 100
_MOST_HEADER_BYTES = 1 << 15
_LARGER = {teach.UPLOAD_PATH: teach.MOST_MODEL_BYTES, uploads.UPLOAD_PATH: uploads.MOST_IMAGE_BYTES}


class _Server(uvicorn.Server):
    """A server whose signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def serve(
    out: Path,
    listening: socket.socket,
    *,
    originals: Path | None,
    names: Collection[str],
    token: str | None,
    on_ready: Callable[[], object],
) -> None:
    """Serve the page of a results folder until SIGTERM or SIGINT.

    Parameters
    ----------
    out : Path
        The output folder.
    listening : socket
        From `address.bound`.
    originals : Path or None
        As for `Page`.
    names : collection of str
        Further names by which browsers get here.
    token : str or None
        As for `Guard`.
    on_ready : callable
        Called once requests are answered.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_a_fault)
    host = listening.getsockname()[0]
    allowed = address.names(host) | {name.lower() for name in names}
    asyncio.run(_served(Page(out, originals), listening, allowed, token, on_ready))


async def _served(
    page: Page, listening: socket.socket, names: Collection[str], token: str | None, on_ready: Callable[[], object]
) -> None:
    server = _Server(
        uvicorn.Config(
            Guard(page.app, names=names, token=token, larger=_LARGER),
            http="h11",
            ws="none",
            lifespan="on",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )

    def stop() -> None:
        server.should_exit = True
        page.events.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    on_ready()
    notify.ready()
    living = asyncio.create_task(_say_alive())
    await serving
    notify.stopping()
    living.cancel()


async def _say_alive() -> None:
    """Report now and then that requests can be answered."""
    while True:
        notify.alive()
        await asyncio.sleep(notify.interval_s())


def _is_a_fault(record: logging.LogRecord) -> bool:
    """Whether a message is of a fault of ours: a download that breaks off has told its reader so."""
    return not (record.exc_info and isinstance(record.exc_info[1], DownloadError))
