"""Messages to the service manager: that the work is ready, alive, at which image, and about to stop.

systemd names a socket in ``NOTIFY_SOCKET`` for services of ``Type=notify`` (sd_notify(3)); without it nothing is
sent. A service manager that does not listen never delays or stops the work.
"""

from __future__ import annotations

import contextlib
import os
import socket

_LONGEST_S = 30.0


def interval_s() -> float:
    """Return how often a waiting loop has to report that it is alive: twice in the time the service manager allows."""
    allowed = os.environ.get("WATCHDOG_USEC", "")
    return min(int(allowed) / 2e6, _LONGEST_S) if allowed.isdecimal() and int(allowed) else _LONGEST_S


def ready() -> None:
    """Report that the work begins: the model is loaded, the output is open."""
    _send("READY=1")


def alive() -> None:
    """Report that the work goes on; only the thread that does the work may call this."""
    _send("WATCHDOG=1")


def status(text: str) -> None:
    """Show a line in ``systemctl status``."""
    _send(f"STATUS={' '.join(text.split())}")


def stopping() -> None:
    """Report that the work ends."""
    _send("STOPPING=1")


def _send(message: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    if address[0] == "@":  # a name in the abstract space
        address = "\0" + address[1:]
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection,
    ):
        connection.settimeout(0)  # never wait
        connection.sendto(message.encode("utf-8", "replace"), address)
