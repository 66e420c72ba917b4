"""``cellseg-device info``: what is in a model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cellseg_device.command_line import Command
from cellseg_device.commands.common import PATH
from cellseg_device.system.memory import return_large_blocks


@click.command(cls=Command)
@click.argument("model", type=PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(*, model: Path | None, as_json: bool) -> None:
    """Show a model's card, operators, tensors and use of memory.

    \b
    Examples:
      cellseg-device info
      cellseg-device info mine.tflite --json
    """
    from cellseg_device.model.classifier import open_network
    from cellseg_device.model.interpreter import bundled_path
    from cellseg_device.pipeline import info as infos

    return_large_blocks()
    description = infos.describe(open_network(model or bundled_path()))
    click.echo(json.dumps(description, indent=2, ensure_ascii=False) if as_json else infos.as_text(description))
