"""The service of the page: what it may write, where it listens, and the token by which browsers are let in."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from cellseg_device.commands.common import results_folder
from cellseg_device.commands.service_parts import check_name, checked_user, program, runnable, write_secret
from cellseg_device.errors import InputError

if TYPE_CHECKING:
    from cellseg_device.service.unit import Service

_EVERYWHERE = "0.0.0.0"


def plan(
    context: click.Context,
    shown: Path,
    *,
    name: str | None,
    user: str | None,
    unit_folder: Path,
    arguments: tuple[str, ...],
) -> Service:
    """Return the service that shows results; raise InputError or click's UsageError if it would not run."""
    from cellseg_device.camera import live_folder
    from cellseg_device.results import ledger
    from cellseg_device.results.places import OWN_FOLDERS
    from cellseg_device.service.unit import Service
    from cellseg_device.system import rights
    from cellseg_device.web import address, thumbnails

    if importlib.util.find_spec("uvicorn") is None:
        raise InputError("the page needs the package uvicorn: pip install 'cellseg-device[web]'")
    out = results_folder(shown).resolve()
    if not (out / ledger.FILE_NAME).is_file():
        raise InputError(f"{out} holds no results of cellseg-device: name the folder that a watch or camera writes to")
    words = ["serve", str(out), *arguments]
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    command = root.command.get_command(root, words[0])
    assert command is not None
    with command.make_context(words[0], words[1:], parent=root) as parsed:
        settings = dict(parsed.params)
        is_default = parsed.get_parameter_source("text") is ParameterSource.DEFAULT
    if settings["token_file"] is not None:
        raise InputError("the token of a service is kept beside its unit: leave out --token-file")
    originals = settings["originals"]
    if originals is not None and not (originals.is_absolute() and originals.is_dir()):
        raise InputError(f"a service starts in another folder: write the whole path of a folder instead of {originals}")
    words += ["--listen", _EVERYWHERE] if is_default else []
    listening = address.parse(_EVERYWHERE if is_default else settings["text"])
    if not listening.port:
        raise InputError("a service needs a port that stays the same: name another one with --listen")
    name, user = name or "web", checked_user(user, out)
    check_name(name)
    mount = rights.mount_of(out)
    return Service(
        name=name,
        description=f"cellseg: show the results in {out}",
        command=(sys.executable, "-m", "cellseg_device", *words),
        user=user,
        out=out,
        mount=None if mount == Path("/") else mount,
        reads=(*program(), originals or out.parent),
        runs=runnable(),
        secret=(unit_folder / f"cellseg-{name}.token").absolute(),
        needs_network=True,
        writes=tuple(out / folder for folder in (*OWN_FOLDERS, thumbnails.FOLDER_NAME)),
        listens=listening.port,
        runtime=live_folder.runtime_name(out),
    )


def addresses(service: Service, token: str) -> list[str]:
    """Return what to type into a browser to get to the page."""
    from cellseg_device.web import address

    words = list(service.command)
    listening = address.parse(words[len(words) - 1 - words[::-1].index("--listen") + 1])
    names = [words[at + 1] for at, word in enumerate(words) if word == "--name"]
    return address.urls(listening.host, listening.port, token, names)


def kept_token(path: Path) -> str:
    """Return the token in a file, which is made if it is not there, so that browsers that know it stay let in."""
    from cellseg_device.web import tokens

    if os.path.lexists(path):
        return tokens.from_file(path)
    token = tokens.new()
    write_secret(path, f"{token}\n")
    return token
