"""Where the page is served: an address and a port, and what people type to get there."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass

from cellseg_device.errors import InputError

_DEFAULT_PORT = 8377
_FORM = "write ADDRESS, ADDRESS:PORT or [IPV6]:PORT, as 127.0.0.1:8377 or 0.0.0.0:8377"
_NO_PACKET_TO = ("192.0.2.1", 9)  # for documentation (RFC 5737): a datagram socket that is connected sends nothing


@dataclass(frozen=True)
class Address:
    """An address and a port to listen on; port 0 is any that is free."""

    host: str
    port: int


def parse(text: str) -> Address:
    """Return the address in ``127.0.0.1``, ``0.0.0.0:8377`` or ``[::1]:8377``.

    Raises
    ------
    InputError
        If it is not of that form.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+))(?::(\d{1,5}))?", text.strip())
    host = (match[1] or match[2]) if match else text.strip()
    port = int(match[3]) if match and match[3] else _DEFAULT_PORT
    host = "127.0.0.1" if host == "localhost" else host
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise InputError(f"{text!r} is not an address to listen on: {_FORM}") from None
    if port > 65535:
        raise InputError(f"{text!r} has a port over 65535: {_FORM}")
    return Address(host, port)


def bound(address: Address) -> socket.socket:
    """Return a socket that listens on an address.

    Raises
    ------
    InputError
        If the port is in use, may not be used, or this computer has no such address.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        where = f"{address.host}, port {address.port}"
        if error.errno == errno.EADDRINUSE:
            message = f"{where} is in use: stop what listens there, or choose another port with --listen"
        else:
            message = f"{where} cannot be listened on ({os.strerror(error.errno or 0)}): choose another --listen"
        raise InputError(message) from None


def is_loopback(host: str) -> bool:
    """Whether only this computer itself gets to an address."""
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def names(host: str) -> frozenset[str]:
    """Return the names of this computer by which a browser may ask for what listens on an address, in small letters."""
    if is_loopback(host):
        return frozenset({"localhost"})
    own = socket.gethostname().lower()
    short = own.partition(".")[0]
    return frozenset({"localhost", own, short, f"{short}.local"})


def urls(host: str, port: int, token: str | None, further: Collection[str]) -> list[str]:
    """Return what to type into a browser, the most useful first."""
    if is_loopback(host):
        hosts = [host]
    elif ipaddress.ip_address(host).is_unspecified:
        hosts = [f"{socket.gethostname().partition('.')[0].lower()}.local", *_own_address()]
    else:
        hosts = [host]
    ends = f"?token={token}" if token else ""
    shown = [f"[{name}]" if ":" in name else name for name in hosts]
    return [f"http://{name}:{port}/{ends}" for name in shown] + [f"https://{name}/{ends}" for name in further]


def _own_address() -> list[str]:
    """Return this computer's address in its network, if it is in one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_NO_PACKET_TO)
            return [str(probe.getsockname()[0])]
        except OSError:
            return []
