"""A systemd unit that keeps a command of ours running, and shuts it off from all that it does not need.

Kept to what systemd 252 (Debian 12, and so Raspberry Pi OS Bookworm) knows. What is left open, and why: `/proc` is
whole (without ``/proc/cpuinfo`` XNNPACK does not start), files are made readable for all (results are for sharing),
and resource limits may be set (images may be decoded under one). IPC objects are not removed at the end: the user may
be a person with other programs running.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.errors import InputError

HEADER = "# Written by cellseg-device install-service. Changes: systemctl edit {unit}"
WATCHDOG_S = 300  # more than the largest image takes, 12,000 x 12,000 px, on a slow computer

_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
_IMPOSSIBLE = re.compile("[\0-\x1f\x7f\ud800-\udfff]")  # the last are bytes that are no UTF-8
_PLAIN = re.compile(r"[\w@:,./=+-]+", re.ASCII)


@dataclass(frozen=True)
class Service:
    """What a unit is made from.

    Attributes
    ----------
    name : str
        The unit is ``cellseg-NAME.service``.
    description : str
    command : tuple of str
        Program, by its absolute path, and arguments.
    user : str
        Whose rights it has, and to whom the results belong.
    out : Path
        The one folder it may write to; absolute.
    mount : Path or None
        Where the disk with `out` is mounted: it must be, or results would go underneath. None for the system's disk.
    reads : tuple of Path
        What must be visible to it; absolute.
    devices : tuple of str
        As in ``DeviceAllow=``; with none, it sees no hardware at all.
    groups : tuple of str
        Groups that own the devices.
    needs_network : bool
    """

    name: str
    description: str
    command: tuple[str, ...]
    user: str
    out: Path
    mount: Path | None = None
    reads: tuple[Path, ...] = ()
    devices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    needs_network: bool = False

    @property
    def unit(self) -> str:
        """Name of the unit."""
        return f"cellseg-{self.name}.service"


def unit_text(service: Service) -> str:
    """Write the unit.

    Raises
    ------
    InputError
        If a path or an argument has characters that no unit can hold.
    """
    touched = (*service.reads, service.out)
    network = "Wants=network-online.target\nAfter=network-online.target\n" if service.needs_network else ""
    disk = f"ExecStartPre=+mountpoint -q {quoted_argument(str(service.mount))}\n" if service.mount else ""
    groups = f"SupplementaryGroups={' '.join(service.groups)}\n" if service.groups else ""
    return f"""{HEADER.format(unit=service.unit)}
[Unit]
Description={_described(service.description)}
After=local-fs.target remote-fs.target
{network}StartLimitIntervalSec=0

[Service]
Type=notify
{disk}ExecStart={" ".join(map(quoted_argument, service.command))}
User={service.user}
{groups}UMask=0022
# A hang shows where it is in the journal, then is ended
Environment=PYTHONFAULTHANDLER=1
Restart=on-failure
RestartSec=10
WatchdogSec={WATCHDOG_S}
TimeoutStartSec=300
TimeoutStopSec={WATCHDOG_S}
TimeoutAbortSec=10
LimitCORE=0
MemoryMax=75%
OOMPolicy=continue

ProtectSystem=strict
ReadWritePaths={quoted(str(service.out))}
ProtectHome={"read-only" if _any_inside(touched, _HOMES) else "yes"}
PrivateTmp={"no" if _any_inside(touched, _TEMPORARY) else "yes"}
{_devices(service)}{_network(service)}PrivateUsers=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def quoted_argument(text: str) -> str:
    """An argument as ``ExecStart=`` takes it: nothing in it is a variable or a specifier."""
    return quoted(text).replace("$", "$$")


def quoted(text: str) -> str:
    """A path as unit files take it.

    Raises
    ------
    InputError
        If it has a control character, or bytes that are no UTF-8.
    """
    if _IMPOSSIBLE.search(text):
        raise InputError(f"{text!r} cannot stand in a systemd unit: rename it without control characters")
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _described(text: str) -> str:
    return text.replace("%", "%%").rstrip("\\")  # which at its end would join the next line to it


def _any_inside(paths: tuple[Path, ...], folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for path in paths for folder in folders)


def _devices(service: Service) -> str:
    if not service.devices:
        return "PrivateDevices=yes\n"
    return "DevicePolicy=closed\n" + "".join(f"DeviceAllow={device} rw\n" for device in service.devices)


def _network(service: Service) -> str:
    families = ["AF_UNIX"]
    families += ["AF_NETLINK"] if service.devices else []  # to hear of devices that come and go
    families += ["AF_INET", "AF_INET6"] if service.needs_network else []
    private = "" if service.needs_network else "PrivateNetwork=yes\nIPAddressDeny=any\n"
    return f"{private}RestrictAddressFamilies={' '.join(families)}\n"
