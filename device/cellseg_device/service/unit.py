"""A systemd unit that keeps a command of ours running, and gives it access only to what it needs.

It uses only what systemd 252 (Debian 12, and so Raspberry Pi OS Bookworm) knows; Debian's build of that lacks what
``SocketBindDeny=`` needs, so a network camera's service is kept from listening by the filter of system calls as well.
Left open on purpose: all of `/proc` (without ``/proc/cpuinfo`` XNNPACK does not start), files readable by everybody
(results are for sharing), and setting resource limits (images are decoded under one). IPC objects are not removed at
the end, because the user may be a person who runs other programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cellseg_device.errors import InputError

HEADER = "# Written by cellseg-device install-service. Changes: systemctl edit {unit}"
WATCHDOG_S = 300  # longer than the largest image, 12,000 x 12,000 px, takes on a slow computer
TASKS = 512  # a watch has 9 on two cores and 71 with 64 threads; libraries start one per core each

# Folders that it finds empty, but for the paths that it needs
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
# Of the system; with - where they may be missing. The last holds helpers that libcamera starts.
_LIBRARIES = "/usr/lib -/lib -/lib32 -/lib64 -/usr/lib32 -/usr/lib64 -/usr/local/lib -/usr/libexec/libcamera"
_SOURCE, _TOKEN = "source", "token"  # names of credentials
_IMPOSSIBLE = re.compile("[\0-\x1f\x7f\ud800-\udfff]")  # the last range stands for bytes that are not UTF-8
_PLAIN = re.compile(r"[\w@:,./=+-]+", re.ASCII)


@dataclass(frozen=True)
class Service:
    """The settings of a unit.

    Attributes
    ----------
    name : str
        The unit is ``cellseg-NAME.service``.
    description : str
    command : tuple of str
        Program, by its absolute path, and arguments. Everybody can read them.
    user : str
        The user whose rights it has, and who owns the results.
    out : Path
        The only folder it may write to; absolute.
    mount : Path or None
        Where the disk with `out` must be mounted, so that no results go to the empty mount point. None for the system's
        disk.
    reads : tuple of Path
        Paths that must be visible to it; absolute. A file that is replaced while it runs must not be named itself, but
        the folder it is in.
    runs : tuple of Path
        Programs that it may start, and folders of libraries that it may load, beside the system's own; absolute.
    secret : Path or None
        A file that root alone may read: the command gets ``--source @FILE`` with a copy for its user alone; one that
        listens gets ``--token-file FILE``.
    devices : tuple of str
        As in ``DeviceAllow=``; if empty, it sees no hardware at all.
    groups : tuple of str
        Groups that own the devices.
    needs_network : bool
    writes : tuple of Path
        The folders in `out` to which alone it may write, which must be there; if empty, it may to all of `out`.
    runtime : str
        The folder in ``/run`` that it shares with other services of the same user; empty for none.
    listens : int or None
        The port on which it listens, the only one; None if it must not listen.
    """

    name: str
    description: str
    command: tuple[str, ...]
    user: str
    out: Path
    mount: Path | None = None
    reads: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()
    secret: Path | None = None
    devices: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    needs_network: bool = False
    writes: tuple[Path, ...] = ()
    listens: int | None = None
    runtime: str = ""

    @property
    def writable(self) -> tuple[Path, ...]:
        """The folders to which it may write."""
        return self.writes or (self.out,)

    @property
    def unit(self) -> str:
        """Name of the unit."""
        return f"cellseg-{self.name}.service"


def unit_text(service: Service) -> str:
    """Return the text of the unit.

    Raises
    ------
    InputError
        If a path or an argument has characters that a unit cannot hold.
    """
    network = "Wants=network-online.target\nAfter=network-online.target\n" if service.needs_network else ""
    disk = f"ExecStartPre=+mountpoint -q {quoted_argument(str(service.mount))}\n" if service.mount else ""
    groups = f"SupplementaryGroups={' '.join(service.groups)}\n" if service.groups else ""
    kept, option = (_SOURCE, "--source @") if service.listens is None else (_TOKEN, "--token-file ")
    secret = f"LoadCredential={kept}:{_unquoted(service.secret)}\n" if service.secret else ""
    source = f" {option}%d/{kept}" if service.secret else ""  # %d: the folder of its credentials
    deaf = "SystemCallFilter=~listen accept accept4\n" if service.listens is None else ""
    return f"""{HEADER.format(unit=service.unit)}
[Unit]
Description={_described(service.description)}
After=local-fs.target remote-fs.target
{network}StartLimitIntervalSec=0

[Service]
Type=notify
{disk}ExecStart={" ".join(map(quoted_argument, service.command))}{source}
{secret}User={service.user}
{groups}{_shared(service.runtime)}UMask=0022
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
MemorySwapMax=0
TasksMax={TASKS}
OOMPolicy=continue

ProtectSystem=strict
{_places(service)}PrivateMounts=yes
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
# Not in that group before systemd 253; with them the decoder gives up its own rights
SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallFilter=~@privileged
{deaf}SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def quoted_argument(text: str) -> str:
    """Return an argument in the form of ``ExecStart=``, with no variable or specifier in it."""
    return quoted(text).replace("$", "$$")


def quoted(text: str) -> str:
    """Return a path in the form of unit files.

    Raises
    ------
    InputError
        If it has a control character, or bytes that are not UTF-8.
    """
    if _IMPOSSIBLE.search(text):
        raise InputError(f"{text!r} cannot be used in a systemd unit: rename it without control characters")
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _described(text: str) -> str:
    return text.replace("%", "%%").rstrip("\\")  # a backslash at the end would continue the line


def is_hidden(path: Path) -> bool:
    """Return whether a path is in a folder that a service finds empty, but for what its unit names."""
    return _is_in(path, (*_HOMES, *_TEMPORARY))


def _places(service: Service) -> str:
    """Return the lines on what it sees of the folders that it finds empty, and on what it may write."""
    writable = service.writable
    reads = (*service.reads, *service.runs, service.out)
    seen = [path for path in _outermost(reads) if not any(path.is_relative_to(folder) for folder in writable)]
    named = {*seen, *writable}
    homes, temporary = (() if named & {*folders} else folders for folders in (_HOMES, _TEMPORARY))
    bound = [path for path in (*seen, *writable) if _is_in(path, (*homes, *temporary))]
    home = "read-only" if not homes else "tmpfs" if any(_is_in(path, homes) for path in bound) else "yes"
    # Mounts of their own, to which what is said of / does not apply
    unrun = [_quoted_path(path) for path in dict.fromkeys((*bound, *writable)) if path not in service.runs]
    lines = [
        f"ProtectHome={home}",
        f"PrivateTmp={'yes' if temporary else 'no'}",
        *(f"BindReadOnlyPaths={_quoted_path(path)}" for path in bound if path not in writable),
        *(f"{'BindPaths' if path in bound else 'ReadWritePaths'}={_quoted_path(path)}" for path in writable),
        f"NoExecPaths=/ -/dev/shm -/tmp -/var/tmp {' '.join(unrun)}",
        f"ExecPaths={' '.join([_LIBRARIES, *map(_quoted_path, _outermost(service.runs))])}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _is_in(path: Path, folders: Iterable[Path]) -> bool:
    return any(folder in path.parents for folder in folders)


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Return the paths that are in no other one, in order and each once."""
    found: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(other) for other in found):
            found.append(path)
    return found


def _quoted_path(path: Path) -> str:
    """Return a path in the form of ``BindPaths=``, where a colon outside of quotes begins another path."""
    text = quoted(str(path))
    return f'"{text}"' if ":" in text and text[0] != '"' else text


def _unquoted(path: Path) -> str:
    """Return a path in the form of ``LoadCredential=``, which knows no quotes."""
    quoted(str(path))  # refuses what no unit can hold
    if path.name.endswith("\\"):
        raise InputError(f"{path} cannot be used in a systemd unit: rename it without the last character")
    return str(path).replace("%", "%%")


def _shared(folder: str) -> str:
    """Return the lines on the folder in ``/run``, which stays: the other service would go on with one that is gone."""
    if not folder:
        return ""
    return f"RuntimeDirectory={folder}\nRuntimeDirectoryMode=0755\nRuntimeDirectoryPreserve=yes\n"


def _devices(service: Service) -> str:
    if not service.devices:
        return "PrivateDevices=yes\n"
    return "DevicePolicy=closed\n" + "".join(f"DeviceAllow={device} rw\n" for device in service.devices)


def _network(service: Service) -> str:
    families = ["AF_UNIX"]
    families += ["AF_NETLINK"] if service.devices else []  # for events of devices that are plugged in and out
    families += ["AF_INET", "AF_INET6"] if service.needs_network else []
    private = "" if service.needs_network else "PrivateNetwork=yes\nIPAddressDeny=any\n"
    allowed = "" if service.listens is None else f"SocketBindAllow=tcp:{service.listens}\n"
    return f"{private}{allowed}SocketBindDeny=any\nRestrictAddressFamilies={' '.join(families)}\n"
