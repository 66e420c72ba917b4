"""``cellseg-device install-service``: keep a watch or a camera running, from boot on, for months."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cellseg_device.commands.common import PATH, RESULTS_NAME
from cellseg_device.errors import InputError

if TYPE_CHECKING:
    from cellseg_device.service import Service

_KEEP_FREE = ("--keep-free", "1GB")  # a full disk stops more than this service
_UNITS = Path("/etc/systemd/system")
_SYSTEM_USER = "cellseg"

# Names as in /proc/devices
_CAMERA_DEVICES = {"picamera2": ("video4linux", "media", "dma_heap"), "usb": ("video4linux",)}
_TPU_DEVICES = {"pci": "apex", "usb": "usb_device"}


@click.command("install-service")
@click.option("--watch", "folder", type=PATH, metavar="FOLDER", help="Count the images in FOLDER and those that come.")
@click.option("--camera", "source", metavar="SOURCE", help="Count what a camera sees: picamera2, usb:0, or an address.")
@click.option("--out", type=PATH, help=f"Folder for the results.  [default: FOLDER/{RESULTS_NAME}]")
@click.option("--name", help="The unit is cellseg-NAME.service.  [default: watch or camera]")
@click.option(
    "--user",
    help="Whose rights it has, and who owns the results.  [default: the owner of --out, or cellseg where that is root]",
)
@click.option("--print", "as_text", is_flag=True, help="Print the unit instead of writing it.")
@click.option("--unit-folder", type=PATH, default=_UNITS, show_default=True, help="Where to write the unit.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def install_service(
    context: click.Context,
    folder: Path | None,
    source: str | None,
    out: Path | None,
    name: str | None,
    user: str | None,
    as_text: bool,
    unit_folder: Path,
    arguments: tuple[str, ...],
) -> None:
    """Write a systemd unit that keeps a watch or a camera running, and print what to run then.

    The service starts at boot, and again whenever it fails or hangs. It may write into the folder for the results and
    nowhere else, sees no hardware and no network but what it needs, and takes at most three quarters of the memory.
    Flags for the watch or the camera itself go after --; --keep-free is 1GB unless it is given there.

    \b
    Examples:
      sudo cellseg-device install-service --watch /captures --out /results
      sudo cellseg-device install-service --watch /captures --out /results -- --overlay --threads 3
      cellseg-device install-service --camera picamera2 --out /results --print -- --every 30s
    """
    from cellseg_device import files
    from cellseg_device.quiet import say
    from cellseg_device.service import unit_text

    if (folder is None) == (source is None):
        raise click.UsageError("Give either --watch FOLDER or --camera SOURCE.")
    service = _plan(context, folder, source, out, name, user, arguments)
    text = unit_text(service)
    path = unit_folder / service.unit
    if as_text:
        click.echo(text, nl=False)
        say(f"Save it as {path}, then run:")
    else:
        _check_former(path)
        try:
            files.write(path, text.encode())
            path.chmod(0o644)  # whatever the mask of who calls
        except PermissionError:
            raise InputError(
                f"only root may write to {unit_folder}: put sudo before {sys.argv[0]}, or use --print"
            ) from None
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): choose another --unit-folder") from None
        click.echo(f"wrote {path}: runs as {service.user}, writes to {service.out} only. Now run:")
    for step in _steps(service):
        click.echo(f"  {step}", err=as_text)
    for line in _obstacles(service):
        say(f"warning: {line}")


def _plan(
    context: click.Context,
    folder: Path | None,
    source: str | None,
    out: Path | None,
    name: str | None,
    user: str | None,
    arguments: tuple[str, ...],
) -> Service:
    """Turn the options into a service; raise InputError or click's UsageError for what would not run."""
    from cellseg_device import rights
    from cellseg_device.scan import check_folder
    from cellseg_device.service import Service

    if folder is not None:
        check_folder(folder)
        folder = folder.resolve()
        out = out or folder / RESULTS_NAME
        words = ["watch", str(folder)]
    else:
        words = ["camera", "--source", str(source)]
    if out is None:
        raise click.UsageError("A camera needs --out FOLDER.")
    out = out.resolve()
    if rights.is_there(out) and not out.is_dir():
        raise InputError(f"{out} is not a folder: choose another --out")
    words += ["--out", str(out), *arguments]
    settings, named, given = _parsed(context, words)
    if "keep_free" not in given:
        words += _KEEP_FREE
    name = name or words[0]
    if not re.fullmatch(r"[\w.-]{1,200}", name, re.ASCII):
        raise InputError(f"{name!r} cannot be the name of a service: use letters, digits, '-', '_' and '.'")
    if user == "root":
        raise InputError("a service has no need of root's rights: name another --user, or leave it out")
    if user is not None and rights.user_named(user).uid is None:
        raise InputError(f"there is no user {user}: make it with 'sudo useradd --system {user}', or leave --user out")
    owner = rights.owner(out)
    devices, groups = _hardware(source, _wants_edgetpu(settings["accelerator"], settings["model"]))
    mount = rights.mount_of(out)
    return Service(
        name=name,
        # Not the source, whose address may hold a password
        description=f"cellseg: count the cells in {folder or 'what a camera sees'}",
        command=(sys.executable, "-m", "cellseg_device", *words),
        user=user or (owner if owner not in (None, "root") else _SYSTEM_USER),
        out=out,
        mount=None if mount == Path("/") else mount,
        reads=(*_program(), *(path for path in named if path != out and rights.is_there(path))),
        devices=devices,
        groups=rights.groups_that_exist(*groups),
        needs_network=source is not None and "://" in source,
    )


def _parsed(context: click.Context, words: list[str]) -> tuple[dict[str, Any], list[Path], set[str]]:
    """Parse a command line as it will be when the service starts, and refuse what makes no sense in one.

    Returns
    -------
    settings : dict
        By parameter.
    paths : list of Path
        The files and folders it names.
    given : set of str
        The parameters that are not left to their defaults.
    """
    from cellseg_device import calibrations, rights

    root = context.find_root()
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(root, words[0])
    if command is None:
        raise InputError(f"this cellseg-device has no command '{words[0]}': update it, or use --watch")
    with command.make_context(words[0], words[1:], parent=root) as parsed:
        settings = dict(parsed.params)
        given = {name for name in settings if parsed.get_parameter_source(name) is not ParameterSource.DEFAULT}
        written, _, _ = command.make_parser(parsed).parse_args(words[1:])
    for flag in ("once", "focus_aid"):
        if settings.get(flag):
            raise InputError(f"a service counts for ever: leave --{flag.replace('_', '-')} out")
    calibration = settings.get("calibration")
    if calibration and calibration not in calibrations.read(calibrations.COMPUTERS_FOLDER / calibrations.FILE_NAME):
        size_um = calibrations.pixel_size_um(calibration)
        raise InputError(f"a service does not see your own calibrations: write --pixel-size-um {size_um} instead")
    if written["out"] != words[words.index("--out") + 1]:
        raise InputError("give --out before the --, so that the service may write there")
    kinds = {parameter.name: parameter.type for parameter in command.params}
    for name, value in written.items():
        if not isinstance(value, str) or name == "out":
            continue
        path = Path(value)
        if isinstance(kinds[name], click.Path) and not rights.is_there(path):
            raise InputError(f"{value}: no such file: check the path")
        if rights.is_there(path) and not path.is_absolute():
            raise InputError(f"a service starts in another folder: write {path.absolute()} instead of {value}")
    named = [Path(value) for value in written.values() if isinstance(value, str) and value.startswith("/")]
    return settings, named, given


def _program() -> list[Path]:
    """What it takes to run this program: interpreter, environment, package."""
    import cellseg_device

    package = Path(cellseg_device.__file__).resolve().parent
    return [Path(sys.executable).resolve(), Path(sys.prefix), Path(sys.base_prefix), package]


def _wants_edgetpu(accelerator: str, model: Path | None) -> bool:
    """Whether the work may run on an Edge TPU: one that is plugged in later has to be let in, too."""
    if accelerator != "auto" or model is None:  # the bundled model is not compiled for one
        return accelerator == "edgetpu"
    from cellseg_device.accelerator import is_pair

    return is_pair(model)


def _hardware(source: str | None, wants_edgetpu: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Devices to allow, and the groups that own them."""
    from cellseg_device import edgetpu

    kind = "usb" if (source or "").startswith("/dev/") else (source or "").partition(":")[0]
    devices = [f"char-{name}" for name in _CAMERA_DEVICES.get(kind, ())]
    groups = ["video"] if devices else []
    if wants_edgetpu:
        found = {device.bus for device in edgetpu.devices()}
        devices += [f"char-{_TPU_DEVICES[bus]}" for bus in sorted(found or _TPU_DEVICES)]
        groups += ["plugdev", "apex"]
    return tuple(devices), tuple(groups)


def _check_former(path: Path) -> None:
    """Refuse to write over a unit that somebody else wrote."""
    from cellseg_device.service import HEADER

    try:
        former = path.read_text(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): choose another --name") from None
    if not former.startswith(HEADER.split(".")[0]):
        raise InputError(f"{path} was not written by this command: choose another --name, or remove it")


def _steps(service: Service) -> list[str]:
    """What to run, in this order."""
    from cellseg_device import rights

    steps = []
    user = rights.user_named(service.user)
    out = shlex.quote(str(service.out))
    if user.uid is None:
        steps.append(f"sudo useradd --system --user-group --shell /usr/sbin/nologin {service.user}")
    if not rights.is_there(service.out):
        steps.append(f"sudo install -d -o {service.user} {out}")
    elif rights.owner(service.out) != service.user:
        steps.append(f"sudo chown -R {service.user}: {out}")
    return [
        *steps,
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {service.unit}",
        f"systemctl status {service.unit}    # the last image",
        f"journalctl -f -u {service.unit}    # what it says",
    ]


def _obstacles(service: Service) -> list[str]:
    """Say what the service's user seems to have no right to read."""
    from cellseg_device import rights

    user = rights.user_named(service.user)
    lines = {}
    for path in (*service.reads, rights.existing(service.out.parent)):
        step = rights.obstacle(path, user, 4)
        if step is not None:  # one line for each is enough
            lines[step] = f"{user.name} may not use {path} (rights of {step}): change them, or name another --user"
    return list(lines.values())
