"""Flags from a YAML file: ``--config FILE`` says what the flags of its command would, in the same words.

A key is a flag without its dashes, or the name of the setting behind it; hyphens and underscores are the same. A flag
on the command line wins over the file::

    arch: unet                                           # FILE.py:NAME is looked for beside the YAML file first
    learning-rate: 1e-3
    options: {activation: elu, filters: [16, 32, 64]}    # --option activation=elu --option filters=16,32,64
    heads: [foreground, distance]                        # --heads foreground,distance
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from cellseg_device.errors import InputError
from cellseg_host.nearest import unknown


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: 1e-3 is a number, and a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


# YAML 1.1 wants a dot in every fraction
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+"), list("-+0123456789"))


def read(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty one holds nothing.

    Raises
    ------
    InputError
        If it cannot be read, is not YAML (with the line), or holds anything but a mapping of names to texts, numbers,
        lists and mappings.
    """
    try:
        document = yaml.load(path.read_bytes().decode("utf-8-sig"), _Loader)
        json.dumps(document, allow_nan=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check its path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        start = f"{error.context} " if str(error.problem).startswith("but") else ""
        raise InputError(f"{path}: {line}{start}{error.problem}: it is not valid YAML") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not valid YAML ({str(error).splitlines()[0]})") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: only texts, numbers, lists and mappings can be settings ({error})") from None
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise InputError(f"{path}: is no mapping of names to values: write lines like 'epochs: 50'")
    return document


def dump(settings: Any) -> str:
    """YAML text of a settings dataclass, such that ``--config`` with it gives the same settings.

    Parameters
    ----------
    settings : dataclass
        Whose fields' names are those of a command's parameters; what is None is left out.
    """
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def plain(value: Any) -> Any:
    """Dataclasses as dicts without the fields that are None, tuples as lists: what JSON and YAML can say."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {k: plain(v) for k, v in fields.items() if v is not None}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def _load(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None or context.resilient_parsing:
        return
    context.default_map = {**(context.default_map or {}), **_flags(path, context)}


# On a command: the option, which does its work before all others are looked at and gives the function nothing
option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_load,
    help="YAML file of these flags; those on the command line win over it.",
)


def _flags(path: Path, context: click.Context) -> dict[str, Any]:
    """What the file says for the command's parameters, as the command line would say it."""
    parameters = {n: p for p in context.command.params if isinstance(p, click.Option) for n in _names(p)}
    told: dict[str, Any] = {}
    for key, value in read(path).items():
        parameter = parameters.get(_canonical(key))
        if parameter is None:
            raise InputError(f"{path}: there is {unknown('setting', key, list(parameters))}")
        if parameter.name in told:
            raise InputError(f"{path}: '{key}' says again what '{parameter.name}' said: keep one of them")
        if value is not None:
            told[parameter.name] = _as_flag(path, key, _beside(path, value), parameter, context)
    return told


def _beside(path: Path, value: Any) -> Any:
    """The value with its ``FILE.py:NAME`` in the folder of the YAML file, where there is such a file."""
    if isinstance(value, list):
        return [_beside(path, item) for item in value]
    if isinstance(value, str) and ".py:" in value and (path.parent / value.rpartition(":")[0]).is_file():
        return str(path.parent / value)
    return value


def _names(parameter: click.Option) -> Iterator[str]:
    """The keys of a parameter; none for options that act at once, as --config and --help."""
    if parameter.expose_value and not parameter.is_eager:
        yield parameter.name
        for flag in parameter.opts:
            if flag.startswith("--"):
                yield _canonical(flag)


def _canonical(name: str) -> str:
    return name.strip().lstrip("-").replace("-", "_").lower()


def _as_flag(path: Path, key: str, value: Any, parameter: click.Option, context: click.Context) -> Any:
    """The value as texts of the command line, which must pass the flag's own checks."""
    if isinstance(value, Mapping):
        if not parameter.multiple:
            raise InputError(f"{path}: '{key}' takes one value, not a mapping")
        texts: Any = [f"{k}={_quoted(v)}" for k, v in value.items()]
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
    """A value as one would write it behind a flag."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _quoted(value: Any) -> str:
    """A text from which `parse_value` gives the value back."""
    return value if isinstance(value, str) and parse_value(value) == value else json.dumps(value, ensure_ascii=False)


def parse_value(text: str) -> Any:
    """The value of a text: true, false, null, numbers, lists (``16,32`` or ``[16, 32]``), else the text itself."""
    try:
        value = yaml.load(text, _Loader)
        if value == text and "," in text:
            value = yaml.load(f"[{text}]", _Loader)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, (bool, int, float, str, list)) or (value is None and text) else text


def key_values(context: click.Context, parameter: click.Parameter, items: Iterable[str]) -> dict[str, Any]:
    """A mapping from repeated ``KEY=VALUE``; a click callback.

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


def comma_list(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    """Names from ``a,b``; a click callback."""
    return tuple(name for part in (text or "").split(",") if (name := part.strip()))
