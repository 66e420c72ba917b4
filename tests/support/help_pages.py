"""The commands of a command line, and their help as it is printed."""

from __future__ import annotations

from collections.abc import Iterator

import click
from click.testing import CliRunner


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to each command of a group, and of the groups in it."""
    for name, command in group.commands.items():
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)


def shown(main: click.Group, *arguments: str) -> list[str]:
    """Return the lines of a command's help."""
    return CliRunner().invoke(main, [*arguments, "--help"]).stdout.splitlines()
