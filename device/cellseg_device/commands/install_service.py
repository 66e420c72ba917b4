"""``cellseg-device install-service``: keep a watch or a camera running for months, starting at boot."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cellseg_device.command_line import Command
from cellseg_device.commands import page_service
from cellseg_device.commands.common import PATH, RESULTS_NAME
from cellseg_device.commands.option_types import PathOrNone
from cellseg_device.commands.service_parts import check_name, checked_user, program, runnable, write_secret
from cellseg_device.errors import InputError

if TYPE_CHECKING:
    from cellseg_device.pipeline.models import GateChoice
    from cellseg_device.service.unit import Service

_KEEP_FREE = ("--keep-free", "1GB")  # a full disk stops more than this service
_UNITS = Path("/etc/systemd/system")

# Names as in /proc/devices
_CAMERA_DEVICES = {"picamera2": ("video4linux", "media", "dma_heap"), "usb": ("video4linux",)}
_TPU_DEVICES = {"pci": "apex", "usb": "usb_device"}


@click.command("install-service", cls=Command, short_help="Keep a watch, a camera or the page running, from boot on.")
@click.option(
    "--watch", "folder", type=PATH, metavar="FOLDER", help="Count the images in FOLDER, and new ones as they arrive."
)
@click.option(
    "--camera",
    "source",
    metavar="SOURCE",
    help="Count a camera's images: picamera2, usb:0, an address, or @FILE, a file with one of these in it.",
)
@click.option("--web", "shown", type=PATH, metavar="RESULTS", help="Show the results in the folder RESULTS as a page.")
@click.option("--out", type=PATH, help=f"Folder for the results.  [default: FOLDER/{RESULTS_NAME}]")
@click.option("--name", help="The unit is cellseg-NAME.service.  [default: watch, camera or web]")
@click.option(
    "--user",
    help="The user that it runs as, who owns the results.  [default: the owner of --out, or cellseg if that is root]",
)
@click.option("--print", "as_text", is_flag=True, help="Print the unit instead of writing it.")
@click.option("--unit-folder", type=PATH, default=_UNITS, show_default=True, help="Where to write the unit.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def install_service(
    context: click.Context,
    *,
    folder: Path | None,
    source: str | None,
    shown: Path | None,
    out: Path | None,
    name: str | None,
    user: str | None,
    as_text: bool,
    unit_folder: Path,
    arguments: tuple[str, ...],
) -> None:
    """Write a systemd unit that keeps a watch, a camera or the page running, and print what to run next.

    The service starts at boot, and again whenever it fails or hangs. It can write only to the folder for the results,
    has access only to the hardware, the network and the files in homes that it needs, and takes at most three quarters
    of the memory. Flags for the command itself go after --; --keep-free is 1GB unless it is given there.

    The address of a camera may hold a password, so it is kept in a file beside the unit that root alone may read. So is
    the token of the page, which can write corrections, models and uploads alone, and is there for the whole network
    unless --listen says otherwise. It is http: docs/page.md says how to put TLS in front.

    \b
    Examples:
      sudo cellseg-device install-service --watch /captures --out /results
      sudo cellseg-device install-service --watch /captures --out /results -- --overlay --threads 3
      cellseg-device install-service --camera picamera2 --out /results --print -- --every 30s
      sudo cellseg-device install-service --web /results
      sudo cellseg-device install-service --web /results -- --listen 127.0.0.1 --name cells.example.org
    """
    from cellseg_device.service.unit import unit_text
    from cellseg_device.stderr import say, say_warning
    from cellseg_device.system import files

    if sum(given is not None for given in (folder, source, shown)) != 1:
        raise click.UsageError("give either --watch FOLDER, --camera SOURCE or --web RESULTS")
    if shown is not None:
        if out is not None:
            raise click.UsageError("--web RESULTS names the results: leave out --out")
        service = page_service.plan(context, shown, name=name, user=user, unit_folder=unit_folder, arguments=arguments)
    else:
        service = _plan(
            context,
            folder=folder,
            source=source,
            out=out,
            name=name,
            user=user,
            unit_folder=unit_folder,
            arguments=arguments,
        )
    text = unit_text(service)
    path = unit_folder / service.unit
    secret = service.secret if source is None or not source.startswith("@") else None  # to be written
    token = None
    if as_text:
        click.echo(text, nl=False)
        say(f"Save it as {path}, then run:")
    else:
        _check_former(path)
        try:
            token = _write_secrets(service, source, secret)
            files.write(path, text.encode())
            path.chmod(0o644)  # whatever the caller's umask
        except PermissionError:
            raise InputError(
                f"only root can write to {unit_folder}: put sudo before {sys.argv[0]}, or use --print"
            ) from None
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}): choose another --unit-folder") from None
        places = " and ".join(str(place) for place in service.writable)
        click.echo(f"wrote {path}: runs as {service.user}, writes to {places} only. Now run:")
    for step in _steps(service, secret if as_text else None):
        click.echo(f"  {step}", err=as_text)
    if token is not None:
        click.echo("Then open in a browser:")
        for url in page_service.addresses(service, token):
            click.echo(f"  {url}")
    for line in _obstacles(service):
        say_warning(line)


def _plan(
    context: click.Context,
    *,
    folder: Path | None,
    source: str | None,
    out: Path | None,
    name: str | None,
    user: str | None,
    unit_folder: Path,
    arguments: tuple[str, ...],
) -> Service:
    """Return the service that the options describe; raise InputError or click's UsageError if it would not run."""
    from cellseg_device.camera import live_folder, parse
    from cellseg_device.service.unit import Service
    from cellseg_device.system import rights
    from cellseg_device.watching.scan import check_folder

    if folder is not None:
        check_folder(folder)
        folder = folder.resolve()
        out = out or folder / RESULTS_NAME
        words = ["watch", str(folder)]
    else:
        words = ["camera", "--source", str(source)]
    if out is None:
        raise click.UsageError("a camera needs --out FOLDER")
    out = out.resolve()
    if rights.is_there(out) and not out.is_dir():
        raise InputError(f"{out} is not a folder: choose another --out")
    words += ["--out", str(out), *arguments]
    settings, named, given = _parsed(context, words)
    if "keep_free" not in given:
        words += _KEEP_FREE
    name = name or words[0]
    check_name(name)
    user = checked_user(user, out)
    kind = parse.resolved(source) if source is not None else None
    needs_network = kind is not None and "://" in kind
    secret = _secret(source, (unit_folder / f"cellseg-{name}.source").absolute()) if source is not None else None
    if secret is not None:
        del words[1:3]  # --source and its value, which the unit gives
    wants_edgetpu = _wants_edgetpu(settings["accelerator"], settings["model"], settings["gate"])
    devices, groups = _hardware(kind, wants_edgetpu=wants_edgetpu)
    mount = rights.mount_of(out)
    return Service(
        name=name,
        # Without the source, whose address may hold a password
        description=f"cellseg: count the cells in {folder or 'the images of a camera'}",
        command=(sys.executable, "-m", "cellseg_device", *words),
        user=user,
        out=out,
        mount=None if mount == Path("/") else mount,
        reads=(*program(), *_seen((path for path in named if path != out), (settings["model"], settings["gate"]))),
        runs=runnable(),
        secret=secret,
        devices=devices,
        groups=rights.groups_that_exist(*groups),
        needs_network=needs_network,
        runtime=live_folder.runtime_name(out) if source is not None else "",
    )


def _secret(source: str, path: Path) -> Path | None:
    """Return the file that holds a camera's source: the one that is given, or `path` for an address."""
    if source.startswith("@"):
        return Path(source[1:]).absolute()
    if "://" not in source:
        return None
    if not source.isprintable():
        raise InputError("the camera's address has a control character in it: write it without")
    return path


def _parsed(context: click.Context, words: list[str]) -> tuple[dict[str, Any], list[Path], set[str]]:
    """Return a command line as the service will parse it; raise InputError for what makes no sense in a service.

    Returns
    -------
    settings : dict
        By parameter.
    paths : list of Path
        The files and folders it names.
    given : set of str
        The parameters that do not have their defaults.
    """
    from cellseg_device.calibration import store
    from cellseg_device.system import rights

    root = context.find_root()
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(root, words[0])
    if command is None:
        raise InputError(f"this cellseg-device has no command '{words[0]}': update it, or use --watch")
    with command.make_context(words[0], words[1:], parent=root) as parsed:
        settings = dict(parsed.params)
        given = {name for name in settings if parsed.get_parameter_source(name) is not ParameterSource.DEFAULT}
        written, _, _ = command.make_parser(parsed).parse_args(words[1:])
    for flag in ("once", "redo", "focus_aid"):
        if settings.get(flag):
            raise InputError(f"a service runs until it is stopped: leave out --{flag.replace('_', '-')}")
    objective = settings.get("objective")
    if objective and objective not in store.read(store.COMPUTERS_FOLDER / store.FILE_NAME):
        size_um = store.pixel_size_um(objective)
        raise InputError(f"a service cannot read your own calibrations: write --pixel-size-um {size_um} instead")
    if written["out"] != words[words.index("--out") + 1]:
        raise InputError("the service could not write to an --out after the --: give it before the --")
    if "source" in written and written["source"] != words[words.index("--source") + 1]:
        raise InputError("the service could not reach a --source after the --: give it as --camera, before the --")
    kinds = {parameter.name: parameter.type for parameter in command.params}
    for name, value in written.items():
        if not isinstance(value, str) or name == "out":
            continue
        path = Path(value)
        if isinstance(kinds[name], PathOrNone) and value == "none":
            continue
        if isinstance(kinds[name], click.Path) and not rights.is_there(path):
            raise InputError(f"{value}: no such file: check the path")
        if rights.is_there(path) and not path.is_absolute():
            raise InputError(f"a service starts in another folder: write {path.absolute()} instead of {value}")
    named = [Path(value) for value in written.values() if isinstance(value, str) and value.startswith("/")]
    named += [value for value in settings.values() if isinstance(value, Path) and value.is_absolute()]
    return settings, named, given


def _seen(paths: Iterable[Path], models: Collection[object]) -> Iterator[Path]:
    """Yield the paths that exist, and where they lead to; in place of models and the gate their folders.

    A model may be replaced while the service runs, and one for an Edge TPU, or those of a gate, lie beside it.
    """
    from cellseg_device.service.unit import is_hidden
    from cellseg_device.system import rights

    for path in paths:
        if rights.is_there(path):
            yield from {(p.parent if path in models and is_hidden(p) else p) for p in (path, path.resolve())}


def _wants_edgetpu(accelerator: str, model: Path | None, gate: GateChoice) -> bool:
    """Return whether the work may run on an Edge TPU, even one that is plugged in later."""
    if accelerator != "auto":
        return accelerator == "edgetpu"
    if model is None and gate is None:
        return False  # the bundled models are not compiled for one
    from cellseg_device.model import card as cards
    from cellseg_device.pipeline import models
    from cellseg_device.pipeline.accelerator import is_pair

    if model is not None:
        return is_pair(model)
    path = models.gate_path(model, gate)
    return path is not None and any(map(is_pair, models.named_models(cards.of_file(path), path).values()))


def _hardware(source: str | None, *, wants_edgetpu: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the devices to allow, and the groups that own them."""
    from cellseg_device.model import edgetpu

    kind = "usb" if (source or "").startswith("/dev/") else (source or "").partition(":")[0]
    devices = [f"char-{name}" for name in _CAMERA_DEVICES.get(kind, ())]
    groups = ["video"] if devices else []
    if wants_edgetpu:
        found = {device.bus for device in edgetpu.devices()}
        devices += [f"char-{_TPU_DEVICES[bus]}" for bus in sorted(found or _TPU_DEVICES)]
        groups += ["plugdev", "apex"]
    return tuple(devices), tuple(groups)


def _check_former(path: Path) -> None:
    """Raise InputError if there is a unit of this name that another program wrote."""
    from cellseg_device.service.unit import HEADER

    try:
        former = path.read_text(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): choose another --name") from None
    if not former.startswith(HEADER.split(".")[0]):
        raise InputError(f"{path} was not written by this command: choose another --name, or remove it")


def _write_secrets(service: Service, source: str | None, secret: Path | None) -> str | None:
    """Write what only root may read, if the service needs any, and return the page's token."""
    if secret is None:
        return None
    if service.listens is not None:
        token = page_service.kept_token(secret)
        click.echo(f"{secret} has the page's token, which root alone may read")
        return token
    write_secret(secret, f"{source}\n")
    click.echo(f"wrote {secret}: the camera's address, which root alone may read")
    return None


def _steps(service: Service, secret: Path | None) -> list[str]:
    """Return the commands to run next, in this order; the first makes the file of the camera's address, if given."""
    from cellseg_device.system import rights

    steps = []
    user = rights.user_named(service.user)
    out = shlex.quote(str(service.out))
    if user.uid is None:
        steps.append(f"sudo useradd --system --user-group --shell /usr/sbin/nologin {service.user}")
    if not rights.is_there(service.out):
        steps.append(f"sudo install -d -o {service.user} {out}")
    elif rights.owner(service.out) != service.user:
        steps.append(f"sudo chown -R {service.user}: {out}")
    missing = [shlex.quote(str(folder)) for folder in service.writes if not rights.is_there(folder)]
    if missing:
        steps.append(f"sudo install -d -o {service.user} {' '.join(missing)}")
    if secret is not None:
        path = shlex.quote(str(secret))
        what = "the camera's address" if service.listens is None else "a token of 16 letters or more"
        steps.append(f"sudo install -m 600 /dev/stdin {path}    # then type {what}, Enter, Ctrl-D")
    return [
        *steps,
        "sudo systemctl daemon-reload",
        f"sudo systemctl enable --now {service.unit}",
        f"systemctl status {service.unit}    # shows the last image",
        f"journalctl -f -u {service.unit}    # shows what it prints",
    ]


def _obstacles(service: Service) -> list[str]:
    """Return a line for each path that the service's user seems to have no right to read, or that others may read."""
    from cellseg_device.service.unit import is_hidden
    from cellseg_device.system import rights

    user = rights.user_named(service.user)
    lines = {}
    for path in (*service.reads, *([] if is_hidden(service.out) else [rights.existing(service.out.parent)])):
        step = rights.obstacle(path, user, 4, is_reached=is_hidden(path))
        if step is not None:  # one line for each obstacle is enough
            lines[step] = f"{user.name} may not use {path} (rights of {step}): change them, or name another --user"
        if path == Path("/root") or path.parent == Path("/home"):
            lines[path] = f"it can read all of {path}: move what it needs of it into a folder there"
    if service.secret is not None and rights.is_there(service.secret) and service.secret.stat().st_mode & 0o077:
        quoted = shlex.quote(str(service.secret))
        lines[service.secret] = f"others may read the address in {quoted}: run 'sudo chmod 600 {quoted}'"
    return list(lines.values())
