"""Settings from a TOML file: the names are those of the flags, at the top for all commands, or in a command's table.

pixel-size-um = 0.325
overlay = true

[watch]
threads = 3
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from cellseg_device.errors import InputError

DEFAULT_PATH = Path("/etc/cellseg/device.toml")
_NOT_SETTINGS = ("config", "help", "version")


def config_option(command: click.Command) -> click.Command:
    """Add --config to a command: what the file says stands in for the defaults of its flags."""
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
    """The flags of a command that can be settings, by name as written, without the dashes."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    named = {max(option.opts, key=len).lstrip("-"): option for option in options}
    return {name: option for name, option in named.items() if name not in _NOT_SETTINGS}


def takers(commands: Iterable[click.Command]) -> dict[str, click.Command]:
    """The commands that `config_option` was added to, by name."""
    return {c.name: c for c in commands if c.name and any(getattr(p, "callback", None) is _use for p in c.params)}


def load(path: Path, commands: Mapping[str, click.Command]) -> dict[str, dict[str, Any]]:
    """Read a file of settings.

    Parameters
    ----------
    path : Path
    commands : mapping of str to click.Command
        Those that take settings.

    Returns
    -------
    dict of str to dict
        By command, the values by parameter name: what click calls a default map.

    Raises
    ------
    InputError
        If the file cannot be read or is no TOML, if a key is none of the flags (the nearest one is named), or its
        value does not fit the flag.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no TOML ({error}): mend it") from None
    general = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    everywhere = {name for command in commands.values() for name in flags(command)}
    for key in general:
        _check_name(path, key, everywhere, "no command has such a flag")
    found: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        if isinstance(table, dict):
            _check_name(path, name, commands, "there is no such command that takes settings")
            for key in table:
                _check_name(path, f"{name}.{key}", {f"{name}.{flag}" for flag in flags(commands[name])}, "no such flag")
    for name, command in commands.items():
        own = general | tables.get(name, {})
        found[name] = {
            option.name or "": _value(path, flag, own[flag], command, option)
            for flag, option in flags(command).items()
            if flag in own
        }
    return found


def _use(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None and not DEFAULT_PATH.exists():
        return
    root = context.find_root().command
    commands = takers(root.commands.values() if isinstance(root, click.Group) else [context.command])
    name = context.command.name or ""
    context.default_map = load(path or DEFAULT_PATH, commands).get(name, {})


def _check_name(path: Path, name: str, known: Iterable[str], fault: str) -> None:
    known = sorted(known)
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise InputError(f"{path}: {name}: {fault}" + (f": did you mean {near[0]}?" if near else ""))


def _value(path: Path, flag: str, value: Any, command: click.Command, option: click.Option) -> Any:
    if option.is_flag != isinstance(value, bool) or not isinstance(value, bool | int | float | str):
        wanted = "true or false" if option.is_flag else "a number or a text in quotes"
        raise InputError(f"{path}: {flag} = {value!r}: write {wanted}")
    if option.is_flag:
        return value
    try:
        # As typed on the command line: from text, so that a number will do where the flag takes one with a unit
        converted = option.type.convert(str(value), option, None)
        if option.callback is not None:
            option.callback(click.Context(command), option, converted)
        return converted
    except (click.BadParameter, InputError) as error:
        raise InputError(f"{path}: {flag} = {value!r}: {error.message}") from None
