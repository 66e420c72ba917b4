"""``cellseg-device config``: the settings that hold, and where each comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cellseg_device.commands.common import PATH
from cellseg_device.settings import DEFAULT_PATH, flags, load, takers


@click.command()
@click.option("--config", "path", type=PATH, help=f"A file of settings.  [default: {DEFAULT_PATH}, if there is one]")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_context
def config(context: click.Context, path: Path | None, as_json: bool) -> None:
    """Show the settings of every command, and where each comes from.

    Settings have the names of the flags. At the top of the file they hold for all commands, in a command's table
    for that one; a flag on the command line goes before both. What is printed is such a file.

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
    click.echo(f"# {path or f'no file of settings: {DEFAULT_PATH} would be read'}")
    for name, settings in found.items():
        click.echo(f"\n[{name}]")
        for flag, setting in settings.items():
            value = setting["value"]
            if value is None:
                click.echo(f"# {flag} is not set")
            else:
                # JSON's numbers, texts, true and false are TOML's
                click.echo(f"{f'{flag} = {json.dumps(value, ensure_ascii=False)}':40}# {setting['from']}")


def _effective(command: click.Command, defaults: dict[str, Any], path: Path | None) -> dict[str, dict[str, Any]]:
    """Value and origin of every flag."""
    context = click.Context(command, info_name=command.name, default_map=defaults)
    found = {}
    for flag, option in flags(command).items():
        value, source = option.consume_value(context, {})
        if value is not None and not isinstance(value, bool | int | float | str):
            value = str(value) if isinstance(value, Path) else None
        origin = str(path) if source == ParameterSource.DEFAULT_MAP else "default"
        found[flag] = {"value": value, "from": origin if value is not None else None}
    return found
