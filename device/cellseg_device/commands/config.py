"""``cellseg-device config``: the settings in effect, and where each comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cellseg_device.command_line import Command
from cellseg_device.commands.common import PATH
from cellseg_device.commands.config_file import DEFAULT_PATH, flags, load, takers


@click.command(cls=Command, short_help="Show the settings, and where each comes from.")
@click.option("--config", "path", type=PATH, help=f"A settings file.  [default: {DEFAULT_PATH}, if there is one]")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_context
def config(context: click.Context, *, path: Path | None, as_json: bool) -> None:
    """Show the settings of all commands, and where each comes from.

    Settings have the names of the flags. At the top of the file they apply to all commands, in a command's table to
    that command; a flag on the command line overrides both. The output is such a file.

    \b
    Examples:
      cellseg-device config
      cellseg-device config --config lab.toml --json
      cellseg-device watch /captures --config lab.toml
    """
    root = context.find_root().command
    assert isinstance(root, click.Group)
    commands = takers(root.commands.values())
    if path is None and DEFAULT_PATH.exists():
        path = DEFAULT_PATH
    maps = load(path, commands) if path else {}
    found = {name: _effective(command, maps.get(name, {}), path) for name, command in commands.items()}
    if as_json:
        click.echo(json.dumps({"file": str(path) if path else None, "settings": found}, indent=2, ensure_ascii=False))
        return
    click.echo(f"# {path or f'no settings file: {DEFAULT_PATH} would be read'}")
    for name, settings in found.items():
        click.echo(f"\n[{name}]")
        for flag, setting in settings.items():
            value = setting["value"]
            if value is None:
                click.echo(f"# {flag} is not set")
            else:
                # Numbers, strings, true and false are written alike in JSON and TOML
                click.echo(f"{f'{flag} = {json.dumps(value, ensure_ascii=False)}':40}# {setting['from']}")


def _effective(command: click.Command, defaults: dict[str, Any], path: Path | None) -> dict[str, dict[str, Any]]:
    """Return the value and origin of every flag."""
    context = click.Context(command, info_name=command.name, default_map=defaults)
    found = {}
    for flag, option in flags(command).items():
        value, source = option.consume_value(context, {})
        if value is not None and not isinstance(value, bool | int | float | str):
            value = str(value) if isinstance(value, Path) else None
        origin = str(path) if source == ParameterSource.DEFAULT_MAP else "default"
        found[flag] = {"value": value, "from": origin if value is not None else None}
    return found
