"""The command ``cellseg-host architectures``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from cellseg_device.command_line import Command

if TYPE_CHECKING:
    from cellseg_host.architectures import Architecture

_COLUMNS = ("network", "parameters", "MAC/px", "learns", "quantization", "Edge TPU")


@click.command(cls=Command, short_help="List the networks that train knows.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print everything, options included, as JSON.")
def architectures(*, names: tuple[str, ...], as_json: bool) -> None:
    """List the networks that train knows; with NAMEs, their options too.

    MAC/px are multiply-adds per pixel of the image. Parameters and MAC/px are those of the network that runs: with
    supervised depths, more is trained. Quantization lists the modes of 'cellseg-host quantize' that work. Edge TPU says
    how much of the int8 network for tiles of 256 x 256 maps onto one, by the compiler's published rules; doubtful means
    wholly, unless limits that are not published prevent it: see 'cellseg-host edgetpu --arch NAME'.

    \b
    Examples:
      cellseg-host architectures
      cellseg-host architectures unetpp hrnet
      cellseg-host architectures --json | jq '.[] | select(.macs_per_px < 50000) | .name'
    """
    from cellseg_host.tensorflow_quietly import import_tensorflow

    import_tensorflow()
    from cellseg_host.architectures import ARCHITECTURES, get
    from cellseg_host.commands.console import print_table
    from cellseg_host.json_text import to_json

    chosen = [get(name) for name in names] or list(ARCHITECTURES.values())
    documents = [_document(arch) for arch in chosen]
    if as_json:
        click.echo(to_json(documents))
        return
    print_table("", _COLUMNS, (_row(d) for d in documents))
    for document in documents:
        if document["refused"]:
            click.echo(f"{document['name']}: no {document['refused']}")
    for paper, of in _grouped((d["paper"], d["name"]) for d in documents).items():
        click.echo(f"{', '.join(of)}: {paper}")
    if names:
        for document in documents:
            click.echo(f"\noptions of {document['name']}, --option NAME=VALUE:")
            for key, value in document["options"].items():
                click.echo(f"  {key}={_as_typed(value)}")


def _document(arch: Architecture) -> dict[str, Any]:
    from cellseg_host.architectures import FACTS, option_defaults

    facts = FACTS[arch.name]
    return {
        "name": arch.name,
        "parameters": facts.parameters,
        "macs_per_px": facts.macs_per_px,
        "heads": arch.heads,
        "stride": arch.stride,
        "margin": arch.margin,
        "quantizations": facts.quantizations,
        "refused": facts.refused,
        "edge_tpu": facts.edge_tpu,
        "paper": arch.paper,
        "options": {**option_defaults(arch.build), **arch.options},
    }


def _row(document: dict[str, Any]) -> list[str]:
    return [
        document["name"],
        f"{document['parameters']:,}",
        f"{document['macs_per_px']:,.0f}",
        ", ".join(document["heads"]),
        ", ".join(document["quantizations"]),
        document["edge_tpu"],
    ]


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _as_typed(value: Any) -> str:
    """Return a value as it is written on the command line."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
