"""Flags from a TOML file: ``--config FILE`` has the same effect as the flags it names.

A key is a flag without its dashes, or the name of the setting behind it; hyphens and underscores are the same. A flag
on the command line wins over the file::

    arch = "unet"                         # FILE.py:NAME is looked for beside the TOML file first
    learning-rate = 1e-3
    heads = ["foreground", "distance"]    # --heads foreground,distance

    [options]                             # --option activation=elu --option filters=16,32,64
    activation = "elu"
    filters = [16, 32, 64]
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cellseg_device.errors import InputError
from cellseg_device.suggestions import unknown
from cellseg_device.system import toml_file
from cellseg_host.plugins.loading import beside


def _load(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None or context.resilient_parsing:
        return
    context.default_map = {**(context.default_map or {}), **_flags(path, context)}


# A decorator that adds the option to a command, where it is read before all others
option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_load,
    help="TOML file of these flags; those on the command line win over it.",
)


def _flags(path: Path, context: click.Context) -> dict[str, Any]:
    """Return the file's values by parameter, as they would be on the command line."""
    parameters = {n: p for p in context.command.params if isinstance(p, click.Option) for n in _names(p)}
    values: dict[str, Any] = {}
    for key, value in toml_file.read(path).items():
        parameter = parameters.get(_canonical(key))
        if parameter is None:
            raise InputError(f"{path}: there is {unknown('setting', key, parameters)}")
        if parameter.name in values:
            raise InputError(f"{path}: '{key}' sets '{parameter.name}' once more: keep one of them")
        values[parameter.name] = _as_flag(path, key, beside(path.parent, value), parameter, context)
    return values


def _names(parameter: click.Option) -> Iterator[str]:
    """Yield the keys of a parameter; none for options that act at once, as --config and --help."""
    if parameter.expose_value and not parameter.is_eager:
        yield parameter.name
        for flag in parameter.opts:
            if flag.startswith("--"):
                yield _canonical(flag)


def _canonical(name: str) -> str:
    return name.strip().lstrip("-").replace("-", "_").lower()


def _as_flag(path: Path, key: str, value: Any, parameter: click.Option, context: click.Context) -> Any:
    """Return the value as text of the command line, after the flag's own checks."""
    if isinstance(value, Mapping):
        if not parameter.multiple:
            raise InputError(f"{path}: '{key}' takes one value, not a table")
        texts: Any = [f"{k}={json.dumps(v, ensure_ascii=False, default=str)}" for k, v in value.items()]
    elif parameter.multiple or parameter.nargs != 1:
        texts = [_text(v) for v in (value if isinstance(value, list) else [value])]
    elif isinstance(value, list):
        texts = ",".join(_text(v) for v in value)
    else:
        texts = _text(value)
    try:
        parameter.process_value(context, texts)
    except click.ClickException as error:
        raise InputError(f"{path}: '{key}': {error.message}") from None
    return texts


def _text(value: Any) -> str:
    """Return a value as one would write it behind a flag."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_value(text: str) -> Any:
    """Return what a text says: true, false, a number, a list (``16,32`` or ``[16, 32]``), else the text itself."""
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        document = {}
    value = document.get("value")
    if len(document) == 1 and isinstance(value, bool | int | float | str | list):
        return value
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if bare != text or "," in text:
        return [parse_value(part.strip()) for part in bare.split(",")]
    try:
        return float(text)  # as .5, which TOML does not take for a number
    except ValueError:
        return text


def key_values(_context: click.Context, _parameter: click.Parameter, items: Iterable[str]) -> dict[str, Any]:
    """Return a mapping from repeated ``KEY=VALUE``; a click callback.

    Raises
    ------
    click.BadParameter
        If one has no ``=``, or a key comes twice.
    """
    found: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        key = key.strip().replace("-", "_")
        if not key or not equals:
            raise click.BadParameter(f"{item!r} is not of the form KEY=VALUE")
        if key in found:
            raise click.BadParameter(f"'{key}' is given twice")
        found[key] = parse_value(text.strip())
    return found


def comma_list(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    """Return the names in ``a,b``; a click callback.

    Raises
    ------
    click.BadParameter
        If one comes twice.
    """
    names = tuple(name for part in (text or "").split(",") if (name := part.strip()))
    for name in names:
        if names.count(name) > 1:
            raise click.BadParameter(f"'{name}' is given twice")
    return names
