"""Settings from a TOML file, named as the flags: at the top for all commands, in a command's table for that one.

::

    pixel-size-um = 0.325
    overlay = false

    [watch]
    threads = 3
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown
from cellseg_device.system import toml_file

DEFAULT_PATH = Path("/etc/cellseg/device.toml")
_NOT_SETTINGS = ("config", "help", "version", "redo")


def config_option(command: click.Command) -> click.Command:
    """Add --config to a command: the settings in the file replace the defaults of its flags."""
    option = click.Option(
        ["--config"],
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_use,
        help=f"TOML file with settings, named as these flags.  [default: {DEFAULT_PATH}, if there is one]",
    )
    command.params.append(option)
    return command


def flags(command: click.Command) -> dict[str, click.Option]:
    """Return the flags of a command that can be settings, by name without the dashes."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    named = {max(option.opts, key=len).lstrip("-"): option for option in options}
    return {name: option for name, option in named.items() if name not in _NOT_SETTINGS}


def takers(commands: Iterable[click.Command]) -> dict[str, click.Command]:
    """Return the commands that `config_option` was added to, by name."""
    return {c.name: c for c in commands if c.name and any(getattr(p, "callback", None) is _use for p in c.params)}


def load(path: Path, commands: Mapping[str, click.Command]) -> dict[str, dict[str, Any]]:
    """Return the settings in a file, by command and parameter name: what click calls a default map.

    Parameters
    ----------
    path : Path
    commands : mapping of str to click.Command
        Those that take settings.

    Raises
    ------
    InputError
        If the file cannot be read or is not valid TOML, if a key is not a flag (the most similar one is named), or
        its value does not fit the flag.
    """
    document = toml_file.read(path)
    tables = {key: value for key, value in document.items() if isinstance(value, dict)}
    general = {key: value for key, value in document.items() if key not in tables}
    _check_names(path, "setting", general, {name for command in commands.values() for name in flags(command)})
    _check_names(path, "table", tables, commands)
    for name, table in tables.items():
        known = [f"{name}.{flag}" for flag in flags(commands[name])]
        _check_names(path, "setting", [f"{name}.{key}" for key in table], known)
    settings = {}
    for name, command in commands.items():
        own = general | tables.get(name, {})
        settings[name] = {
            option.name or "": _value(path, flag, own[flag], command, option)
            for flag, option in flags(command).items()
            if flag in own
        }
    return settings


def _use(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None and not DEFAULT_PATH.exists():
        return
    root = context.find_root().command
    commands = takers(root.commands.values() if isinstance(root, click.Group) else [context.command])
    name = context.command.name or ""
    context.default_map = load(path or DEFAULT_PATH, commands).get(name, {})


def _check_names(path: Path, what: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = sorted(known)
    for name in names:
        if name not in known:
            raise InputError(f"{path}: there is {unknown(what, name, known)}")


def _value(path: Path, flag: str, value: Any, command: click.Command, option: click.Option) -> Any:
    if option.is_flag != isinstance(value, bool) or not isinstance(value, bool | int | float | str):
        wanted = "true or false" if option.is_flag else "a number or a text in quotes"
        raise InputError(f"{path}: {flag} = {value!r}: write {wanted}")
    if option.is_flag:
        return value
    try:
        # From text, as on the command line, so that `poll = 5` works although the flag also takes "5s"
        converted = option.type.convert(str(value), option, None)
        if option.callback is not None:
            option.callback(click.Context(command), option, converted)
        return converted
    except (click.BadParameter, InputError) as error:
        raise InputError(f"{path}: {flag} = {value!r}: {error.message}") from None
